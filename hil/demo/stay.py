"""`./dev demo --stay`: everything stays up, and a small prompt moves the world."""

from __future__ import annotations

import time
from collections.abc import Callable

from hil.common.control import ControlError
from hil.demo.say import Voice
from hil.demo.views import Views
from hil.rig import Rig, RigError

HELP = """
    tap [CARD]   tap a card at the terminal (visa, mastercard, girocard, decline, low)
    plug         put the cable into the car
    unplug       pull it
    cut          cut the network between agent and broker
    restore      bring it back
    kill         SIGKILL the agent, as a power cut would
    start        start it again
    screen       what the driver sees
    status       what the agent says
    sessions     the last sessions
    receipt      the receipt of the last session
    help         this list
    quit         end everything
"""
REACT_S = 4.0  # a card read, a hold, a poll of the charger: then the display shows it
LOOK_S = 0.1


class Prompt:
    def __init__(self, rig: Rig, voice: Voice, station: str) -> None:
        self.rig, self.voice = rig, voice
        self.views = Views(rig, station)
        self.verbs: dict[str, Callable[[list[str]], None]] = {
            "tap": self._tap,
            "plug": lambda _: self._move("charger", "plug"),
            "unplug": lambda _: self._move("charger", "unplug"),
            "cut": lambda _: self._network("cut"),
            "restore": lambda _: self._network("restore"),
            "kill": self._kill,
            "start": self._start,
            "screen": lambda _: self._screen(),
            "status": lambda _: self._voltill("status"),
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
                self.voice.line()
                return
            if not words:
                continue
            if words[0] in ("quit", "exit"):
                return
            verb = self.verbs.get(words[0])
            if verb is None:
                self.voice.line(f"  no verb {words[0]}; `help` lists them")
                continue
            try:
                verb(words[1:])
            except (RigError, ControlError, OSError) as error:
                self.voice.line(f"  {error}")

    # --- verbs ------------------------------------------------------------------------------------

    def _tap(self, words: list[str]) -> None:
        card = words[0] if words else "visa"
        before = self._shown()
        if not self.rig.tell("terminal", "tap", card=card)["reading_card"]:
            self.voice.line("  the terminal does not ask for a card at the moment")
        self._after(before)

    def _move(self, part: str, do: str) -> None:
        before = self._shown()
        self.rig.tell(part, do)
        self.voice.says("charger", self.views.charger())
        self._after(before)

    def _network(self, do: str) -> None:
        self.rig.tell("netproxy", do)
        self.voice.says("network", "cut" if do == "cut" else "back")

    def _kill(self, _: list[str]) -> None:
        code = self.rig.kill_agent()
        self.voice.says("agent", f"dead (status {code}); `start` brings it back")

    def _start(self, _: list[str]) -> None:
        before = self._shown()
        self.rig.start_agent()
        self.voice.says("agent", "ready again")
        self._after(before)

    def _voltill(self, *words: str) -> None:
        self.voice.line(self.rig.voltill(*words, "--state", str(self.rig.state)).rstrip())

    def _receipt(self, _: list[str]) -> None:
        for session in self.rig.sessions():
            if session["cost_minor"] is not None:
                self.voice.line(self.rig.receipt(session["id"]))
                return
        self.voice.line("  no session with a bill yet")

    # --- the display ------------------------------------------------------------------------------

    def _shown(self) -> list[str]:
        return self.rig.screen()

    def _after(self, before: list[str]) -> None:
        """What the driver sees of it, as soon as the display has changed."""
        limit = time.monotonic() + REACT_S
        while self._shown() == before and time.monotonic() < limit:
            time.sleep(LOOK_S)
        self._screen()

    def _screen(self) -> None:
        self.voice.box("driver", self._shown())
