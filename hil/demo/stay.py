"""`./dev demo --stay`: everything stays up, and a small prompt moves the world."""

from __future__ import annotations

from collections.abc import Callable

from hil.common.control import ControlError
from hil.demo.say import Voice
from hil.rig import Rig, RigError

HELP = """
    tap [CARD]   tap a card at the terminal (visa, mastercard, girocard, decline, low)
    plug         put the cable into the car
    unplug       pull it
    cut          cut the network between agent and broker
    restore      bring it back
    kill         SIGKILL the agent
    start        start it again
    status       what the agent says
    screen       what the terminal shows
    sessions     the last sessions
    receipt      the receipt of the last session
    quit         end everything
"""


class Prompt:
    def __init__(self, rig: Rig, voice: Voice) -> None:
        self.rig, self.voice = rig, voice
        self.verbs: dict[str, Callable[[list[str]], None]] = {
            "tap": lambda a: self._sim("terminal", "tap", card=a[0] if a else "visa"),
            "plug": lambda _: self._sim("charger", "plug"),
            "unplug": lambda _: self._sim("charger", "unplug"),
            "cut": lambda _: self._sim("netproxy", "cut"),
            "restore": lambda _: self._sim("netproxy", "restore"),
            "kill": self._kill,
            "start": self._start,
            "status": lambda _: self._voltill("status"),
            "screen": lambda _: voice.box("terminal", rig.tell("terminal", "state")["screen"]),
            "sessions": lambda _: self._voltill("sessions", "list"),
            "receipt": self._receipt,
            "help": lambda _: voice.line(HELP),
        }

    def run(self) -> None:
        self.voice.line(HELP)
        while True:
            try:
                words = input("demo> ").split()
            except EOFError:
                return
            if not words:
                continue
            if words[0] in ("quit", "exit"):
                return
            verb = self.verbs.get(words[0])
            if verb is None:
                self.voice.line(f"    no verb {words[0]}; `help` lists them")
                continue
            try:
                verb(words[1:])
            except (RigError, ControlError, OSError) as error:
                self.voice.line(f"    {error}")

    def _sim(self, name: str, do: str, **request: object) -> None:
        self.rig.tell(name, do, **request)
        self.voice.line("    done")

    def _voltill(self, *words: str) -> None:
        self.voice.line(self.rig.voltill(*words, "--state", str(self.rig.state)).rstrip())

    def _kill(self, _: list[str]) -> None:
        code = self.rig.kill_agent()
        self.voice.line(f"    the agent is dead (status {code}); `start` brings it back")

    def _start(self, _: list[str]) -> None:
        self.rig.start_agent()
        self.voice.line("    the agent is ready again")

    def _receipt(self, _: list[str]) -> None:
        sessions = self.rig.sessions()
        if not sessions:
            self.voice.line("    no session yet")
            return
        self.voice.line(self.rig.receipt(sessions[0]["id"]))
