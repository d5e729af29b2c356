"""The whole driver against the simulator of hil/: after each day the ledgers of both ends agree.

`ZVT_SEEDS=first:count` runs other seeds; a failing one is named in the message."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from support.zvt_books import Disagreement
from support.zvt_day import run_day
from support.zvt_wires import STREAMS, WIRES

from agent.ports import DeviceUnavailable, Done, NotSent, Unknown
from agent.values import Money
from drivers.terminal.zvt.dialogue import Dialogue
from drivers.terminal.zvt.frames import Link, LinkEvent, Received
from drivers.terminal.zvt.outcomes import DialogueEvent, Evidence
from drivers.terminal.zvt.terminal import ZvtTerminal

FIRST, COUNT = (int(part) for part in os.environ.get("ZVT_SEEDS", "1:50").split(":"))


def play(kind: str, count: int, monkeypatch: pytest.MonkeyPatch, *, tcp: bool) -> None:
    words: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + count):
        words += run_day(kind, seed, monkeypatch, tcp=tcp).words
    where = f"{'tcp, ' if tcp else ''}{kind}"
    print(f"\n{where}: seeds {FIRST} to {FIRST + count - 1}: {dict(sorted(words.items()))}")
    assert words["Done"] > count / 2, "nothing was tested"


# Byte by byte a day takes three times as long, and there is less to go wrong.
def days(kind: str) -> int:
    return max(1, COUNT // 3) if kind == "one_byte" else COUNT


@pytest.mark.parametrize("kind", WIRES)
def test_the_ledgers_agree_over_a_serial_line(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    play(kind, days(kind), monkeypatch, tcp=False)


@pytest.mark.parametrize("kind", STREAMS)
def test_the_ledgers_agree_over_tcp(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    play(kind, days(kind), monkeypatch, tcp=True)


# --- Can it fail? ---------------------------------------------------------------------------------
# Bugs that other drivers have. Each must be seen within so many days, on the wire that brings it out.

Plant = Callable[[pytest.MonkeyPatch], None]


def answers_before_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Dialogue.on_link

    def on_link(self: Dialogue, event: LinkEvent, now: int) -> list[DialogueEvent]:
        events = original(self, event, now)
        if any(isinstance(e, Evidence) for e in events):
            events += self.decide(True, now)
        return events

    monkeypatch.setattr(Dialogue, "on_link", on_link)


def answers_yes_to_what_was_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Dialogue.decide
    monkeypatch.setattr(Dialogue, "decide", lambda self, _stored, now: original(self, True, now))


def decides_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that is told again is a second one."""
    original = Dialogue.on_link
    offered: WeakKeyDictionary[Dialogue, DialogueEvent] = WeakKeyDictionary()

    def on_link(self: Dialogue, event: LinkEvent, now: int) -> list[DialogueEvent]:
        events = original(self, event, now)
        for found in events:
            if isinstance(found, Evidence):
                offered[self] = found
                return events
        again = isinstance(event, Received) and event.apdu[:2] == b"\x04\x0f"
        return [offered[self], *events] if again and self in offered else events

    monkeypatch.setattr(Dialogue, "on_link", on_link)


def acknowledges_when_it_has_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """The link's ACK waits for the disk."""
    original, waiting = Dialogue.on_link, set()

    def on_link(self: Dialogue, event: LinkEvent, now: int) -> list[DialogueEvent]:
        events = original(self, event, now)
        if any(isinstance(e, Evidence) for e in events):
            waiting.add(self._link)
        return events

    decide, take_output = Dialogue.decide, Link.take_output

    def decided(self: Dialogue, stored: bool, now: int) -> list[DialogueEvent]:
        waiting.discard(self._link)
        return decide(self, stored, now)

    monkeypatch.setattr(Dialogue, "on_link", on_link)
    monkeypatch.setattr(Dialogue, "decide", decided)
    monkeypatch.setattr(
        Link, "take_output", lambda self: b"" if self in waiting else take_output(self)
    )


def takes_repeats_for_new_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Link.receive

    def receive(self: Link, data: bytes, now: int) -> list[LinkEvent]:
        events: list[LinkEvent] = []
        for byte in data:
            self._last = None
            events += original(self, bytes([byte]), now)
        return events

    monkeypatch.setattr(Link, "receive", receive)


def sends_money_commands_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a broken dialogue, as for any other command."""
    original = ZvtTerminal.authorize

    async def authorize(self: ZvtTerminal, *values: Any) -> Any:
        outcome = await original(self, *values)
        if isinstance(outcome, Unknown):
            with contextlib.suppress(DeviceUnavailable):
                await self.connect()
                return await original(self, *values)
        return outcome

    monkeypatch.setattr(ZvtTerminal, "authorize", authorize)


def hopes_that_nothing_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken dialogue is one that was not executed."""
    original = ZvtTerminal.capture

    async def capture(self: ZvtTerminal, *values: Any) -> Any:
        outcome = await original(self, *values)
        return NotSent(outcome.why) if isinstance(outcome, Unknown) else outcome

    monkeypatch.setattr(ZvtTerminal, "capture", capture)


def believes_in_what_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The approved amount is not read."""
    original = ZvtTerminal.authorize

    async def authorize(self: ZvtTerminal, amount: Money, *values: Any) -> Any:
        outcome = await original(self, amount, *values)
        if isinstance(outcome, Done):
            return Done(replace(outcome.evidence, amount=amount))
        return outcome

    monkeypatch.setattr(ZvtTerminal, "authorize", authorize)


@pytest.mark.parametrize(
    ("plant", "kind", "days"),
    [
        (answers_before_it_is_stored, "perfect", 5),
        (answers_yes_to_what_was_not_stored, "perfect", 30),
        (decides_twice, "perfect", 20),
        (acknowledges_when_it_has_decided, "perfect", 10),
        (takes_repeats_for_new_blocks, "duplicated", 40),
        (sends_money_commands_again, "lossy", 80),
        (hopes_that_nothing_happened, "lossy", 40),
        (believes_in_what_it_asked_for, "perfect", 20),
    ],
)
def test_a_planted_bug_is_caught(
    plant: Plant, kind: str, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for seed in range(1, days + 1):
        try:
            run_day(kind, seed, monkeypatch)
        except Disagreement as error:
            print(f"\n{plant.__name__}: {error}")
            return
    pytest.fail(f"{plant.__name__} went unseen for {days} days")
