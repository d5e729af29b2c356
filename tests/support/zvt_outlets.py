"""Every way on which something of a terminal's message can leave the ZVT driver, as text."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator

from agent.ports import DeviceUnavailable, HoldRef
from agent.values import Money
from drivers.terminal.zvt import results
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import decode
from drivers.terminal.zvt.decode import decode_or_error
from drivers.terminal.zvt.dialogue import Dialogue
from drivers.terminal.zvt.frames import Delivered, Link, LinkEvent, Received, frame
from drivers.terminal.zvt.outcomes import DialogueEvent, Evidence
from drivers.terminal.zvt.primitives import Malformed
from drivers.terminal.zvt.redact import redacted
from drivers.terminal.zvt.sequences import SEQUENCES

REF, HELD, TID = HoldRef("52523535", 231), Money(10**9, "EUR"), "52523535"
# What a completion means depends on the command before it.
AFTER = (None, "0501", "0fa1", "0600", "0622")
ANSWERS = (0x80, 0x84)
OK = b"\x80\x00\x00"


def exception(error: BaseException) -> str:
    """All of it: what a log, a crash report or a debugger would show. Locals only of the driver: the
    test's own hold the message."""
    told = [f"{error!r} {error} {error.args!r} {vars(error)!r}"]
    found = traceback.TracebackException.from_exception(error, capture_locals=True, compact=False)
    chain: list[traceback.TracebackException | None] = [found]
    while chain:
        one = chain.pop()
        if one is None:
            continue
        told.append("".join(one.format_exception_only()))
        told += [repr(f.locals) for f in one.stack if "/drivers/" in f.filename]
        chain += [one.__cause__, one.__context__]
    return "\n".join(told)


def parsed(data: bytes, after: str | None) -> Iterator[str]:
    """The codec, and what the port makes of it."""
    yield json.dumps(decode_or_error(data.hex(), after))
    try:
        apdu = decode(data, after)
    except Malformed as error:
        yield exception(error)
        return
    yield f"{apdu!r} {apdu.items!r} {apdu.tlv!r} {apdu} {apdu.name}"
    yield from values(apdu)


def values(apdu: Apdu) -> Iterator[str]:
    for evidence in (
        results.evidence(apdu, "EUR", None),
        results.evidence(apdu, "EUR", TID, REF, HELD),
    ):
        if evidence is not None:
            yield f"{evidence!r} {evidence.ref.to_json()!r} {dict(evidence.details)!r}"
    yield results.error_text(apdu)
    yield repr(results.card(apdu, "EUR"))
    if apdu.command != "060f":
        return
    try:
        yield repr(results.identity(apdu, None))
    except DeviceUnavailable as error:
        yield exception(error)


class Conversation:
    """One dialogue on a line where every block arrives: a message at each place where it can come."""

    def __init__(self, name: str) -> None:
        self.link = Link()
        sequence = SEQUENCES[name]
        self.dialogue = Dialogue(self.link, Apdu(sequence.command), sequence)
        self.dialogue.start(0)
        self.events: list[DialogueEvent] = []
        self.hear(Delivered())

    def hear(self, event: LinkEvent) -> None:
        self.events += self.dialogue.on_link(event, 1)
        while self.link.busy and not self.dialogue.over:
            self.link.withdraw()
            self.events += self.dialogue.on_link(Delivered(), 1)
        self.link.take_output()

    def told(self) -> Iterator[str]:
        yield f"{self.dialogue!r} {self.link!r}"
        for event in self.events:
            yield f"{event!r}"
            for name in ("apdu", "completion", "status"):
                apdu = getattr(event, name, None)
                if isinstance(apdu, Apdu):
                    yield from values(apdu)


def spoken(name: str, data: bytes) -> Iterator[str]:
    """The message in a dialogue: before its answer, instead of it, after it, while evidence is being
    stored, and after that."""
    if len(data) < 3:
        return
    early = Conversation(name)
    early.hear(Received(data))
    yield from early.told()
    talk = Conversation(name)
    talk.hear(Received(OK))
    for _ in range(2):
        talk.hear(Received(data))
        if any(isinstance(event, Evidence) for event in talk.events):
            talk.events += talk.dialogue.decide(True, 2)
    talk.hear(Received(b"\x06\x0f\x00"))
    yield from talk.told()


def traced(data: bytes, after: str | None) -> Iterator[str]:
    """The message in a diagnostic trace, as whoever opens it reads it: what is digits there."""
    kept = redacted(data, after)
    assert len(kept) == len(data), "a trace tells the same lengths"
    yield kept.decode("latin-1")


def framed(data: bytes) -> Iterator[str]:
    """The message as a block of the serial line."""
    link = Link()
    for event in link.receive(frame(data), 0):
        yield f"{event!r} {event}"
    yield f"{link!r}"
    yield json.dumps(decode_or_error(frame(data).hex()))
