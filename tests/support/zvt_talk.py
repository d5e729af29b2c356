"""One ZVT dialogue and the terminal's end of a perfect line, word by word."""

from dataclasses import dataclass, field

from drivers.terminal.zvt import dialogue as d
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import build
from drivers.terminal.zvt.frames import Link, Received, frame
from drivers.terminal.zvt.numbering import Numbering
from drivers.terminal.zvt.outcomes import (
    Asked,
    Decision,
    DialogueEvent,
    Printed,
    Progress,
    Told,
)
from drivers.terminal.zvt.sequences import SEQUENCES
from drivers.terminal.zvt.transfer import Files

ACK = b"\x06"
OK, UNKNOWN, NO = "800000", "848300", "846600"
HOLD = build("0622", {"payment_type": "40", "currency": "978", "amount_minor": 5000})
READ = build("06c0", {"timeout_s": 5})
SHOW = build("06e0", {"line_1": "hello"})
REPEAT = build("0620", {"password": "123456", "service_byte": "03"})
RESULT = "040f102700040000000050008702310b000975"
FAILED = "040f02276c"
CARD = "040f102700060c4c0a000000000000081ca72f"
END, ABORTED, PROGRESS = "060f00", "061e016c", "04ff010e"


def h(text: str) -> bytes:
    return bytes.fromhex(text)


@dataclass
class Talk:
    """A dialogue and the terminal's end of a perfect line. `said` is what the driver has said, without
    ACKs; every block of it is acknowledged unless `deaf`. `told`: what the terminal said on the way."""

    command: Apdu = HOLD
    name: str = "reserve"
    run_ms: int | None = None
    now: int = 0
    deaf: bool = False
    numbering: Numbering = field(default_factory=Numbering)
    charset: str = "cp437"
    files: Files | None = None
    said: list[str] = field(default_factory=list)
    events: list[DialogueEvent] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link, self.ear = Link(), Link()
        self.dialogue = d.Dialogue(
            self.link,
            self.command,
            SEQUENCES[self.name],
            run_ms=self.run_ms,
            numbering=self.numbering,
            charset=self.charset,
            files=self.files,
        )
        self.dialogue.start(self.now)
        self._hear()

    def pt(self, *messages: str) -> "Talk":
        for message in messages:
            self._bytes(frame(h(message)))
        return self

    def wait(self, ms: int) -> "Talk":
        """Lets time pass, timer by timer."""
        until = self.now + ms
        while not self.dialogue.over:
            times = [self.link.next_deadline(), self.dialogue.next_deadline()]
            due = min((t for t in times if t is not None), default=until)
            self.now = min(due, until)
            for event in self.link.on_time(self.now):
                self.keep(self.dialogue.on_link(event, self.now))
            self.keep(self.dialogue.on_time(self.now))
            self._hear()
            if due > until or self.now == until:
                break
        self.now = until
        return self

    def decide(self, decision: Decision) -> "Talk":
        self.keep(self.dialogue.decide(decision, self.now))
        self._hear()
        return self

    def abort(self) -> "Talk":
        self.dialogue.abort(self.now)
        self._hear()
        return self

    def _bytes(self, data: bytes) -> None:
        for event in self.link.receive(data, self.now):
            self.keep(self.dialogue.on_link(event, self.now))
        self._hear()

    def keep(self, events: list[DialogueEvent]) -> None:
        for event in events:
            if isinstance(event, Progress | Printed | Asked):
                self.told.append(event)
            else:
                self.events.append(event)

    def _hear(self) -> None:
        for event in self.ear.receive(self.link.take_output(), self.now):
            if isinstance(event, Received):
                self.said.append(event.apdu.hex())
                self.ear = Link()  # a repeat is heard again
                if not self.deaf:
                    self._bytes(ACK)

    @property
    def outcome(self) -> DialogueEvent | None:
        return self.events[-1] if self.dialogue.over else None

    @property
    def answers(self) -> list[str]:
        return self.said[1:]


def reading(run_ms: int = 7_000) -> Talk:
    """A card read."""
    return Talk(READ, "read_card", run_ms)
