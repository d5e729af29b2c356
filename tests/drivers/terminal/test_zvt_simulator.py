"""The driver as it is shipped, over a real pty, against the independent terminal simulator."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.simulator import Simulator

from agent.ports import (
    CardKind,
    DeviceUnavailable,
    Done,
    DriverEnv,
    Evidence,
    LineSpec,
    Reason,
    Refused,
    TerminalSpec,
    Unknown,
    Verdict,
)
from agent.values import Money
from drivers.terminal.zvt import dialogue, frames
from drivers.terminal.zvt.terminal import open_terminal

EUR50, PART = Money(5000, "EUR"), Money(1295, "EUR")
WAIT_S = 10.0


@pytest.fixture
def pt(tmp_path: Path) -> Iterator[Simulator]:
    ledger = str(tmp_path / "acquirer.jsonl")
    with Simulator("terminal", tmp_path, "--ledger", ledger, "--delay-ms", "5") as simulator:
        yield simulator


class Driver:
    """The driver, and what was stored before it answered."""

    def __init__(self, pt: Simulator) -> None:
        spec = TerminalSpec("t1", LineSpec(str(pt.link), 115200, "8N2"), "123456", "EUR")
        env = DriverEnv(lambda: time.monotonic_ns() // 1_000_000, lambda *_, **__: None)
        self.pt, self.port = pt, open_terminal(spec, env)
        self.kept: list[Evidence] = []

    async def keep(self, evidence: Evidence) -> Verdict:
        self.kept.append(evidence)
        return Verdict.STORED

    async def ask(self, do: str, **request: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self.pt.ask, do, **request)

    async def hold(self) -> Any:
        await self.ask("tap", card="visa")
        return await self.port.authorize(EUR50, "S1", self.keep)

    async def held(self) -> Done:
        outcome = await self.hold()
        assert isinstance(outcome, Done)
        return outcome

    async def movements(self) -> list[tuple[str, int]]:
        return [(r["kind"], r["amount_minor"]) for r in (await self.ask("ledger"))["rows"]]

    async def open_receipts(self) -> list[int]:
        return [hold["receipt"] for hold in (await self.ask("state"))["open_holds"]]


def play(pt: Simulator, case: Callable[[Driver], Awaitable[None]]) -> None:
    async def main() -> None:
        driver = Driver(pt)
        try:
            await driver.port.connect()
            await case(driver)
        finally:
            await driver.port.close()

    asyncio.run(main())


def test_all_verbs(pt: Simulator) -> None:
    async def case(d: Driver) -> None:
        identity = await d.port.identify()
        assert (identity.terminal_id, identity.ready) == ("52523535", True)
        assert identity.device_serial == "17fd1e3c"
        assert await d.port.connect() == identity

        await d.port.show(["0,59 €/kWh", "Grüße"])
        assert (await d.ask("state"))["screen"][:2] == ["0,59 EUR/kWh", "Grüße"]

        assert await d.port.read_card(1) is None
        await d.ask("tap", card="visa")
        card = await d.port.read_card(5)
        assert card is not None
        assert card.kind is CardKind.BANK
        assert card.token is not None

        assert await d.port.last_result() is None
        held = await d.held()
        assert held.evidence.amount == EUR50
        assert held.evidence.details["card_last4"] == "1111"
        ref = held.evidence.ref
        assert (await d.port.open_holds()).receipts == (ref.receipt,)
        captured = await d.port.capture(ref, EUR50, PART, d.keep)
        assert isinstance(captured, Done)
        assert captured.evidence.amount == PART
        last = await d.port.last_result()
        assert last is not None
        assert (last.result, last.evidence.ref) == (0, captured.evidence.ref)

        second = await d.held()
        assert isinstance(await d.port.release(second.evidence.ref, EUR50, d.keep), Done)
        assert (await d.port.open_holds()).receipts == ()
        assert await d.movements() == [
            ("hold", 5000),
            ("capture", 1295),
            ("hold", 5000),
            ("release", 5000),
        ]
        assert len(d.kept) == 4

    play(pt, case)


def test_refusals(pt: Simulator) -> None:
    async def case(d: Driver) -> None:
        await d.ask("tap", card="decline")
        declined = await d.port.authorize(EUR50, "S1", d.keep)
        assert isinstance(declined, Refused)
        assert (declined.reason, declined.code) == (Reason.DECLINED, "05")
        held = await d.held()
        await d.ask("refuse", command="capture", code=0xB8)
        outcome = await d.port.capture(held.evidence.ref, EUR50, PART, d.keep)
        assert isinstance(outcome, Refused)
        assert outcome.reason is Reason.UNKNOWN_HOLD
        assert await d.open_receipts() == [held.evidence.ref.receipt]

    play(pt, case)


def test_a_read_gives_way(pt: Simulator) -> None:
    async def case(d: Driver) -> None:
        reading = asyncio.ensure_future(d.port.read_card(15))
        while not (await d.ask("state"))["reading_card"]:
            pass
        await d.port.show(["now"])
        assert await reading is None
        assert (await d.ask("state"))["commands"]["06b0"] == 1

    play(pt, case)


def test_an_abort_collides_with_a_tap(pt: Simulator) -> None:
    """The simulator misses the abort because it sends a card at this very moment."""

    async def case(d: Driver) -> None:
        reading = asyncio.ensure_future(d.port.read_card(5))
        while not (await d.ask("state"))["reading_card"]:
            pass
        await d.ask("fault", name="collision")
        await d.port.show(["now"])
        card = await reading
        assert card is not None
        assert card.kind is CardKind.BANK
        await d.held()

    play(pt, case)


FAULTS = ("bad_crc", "nak", "no_ack", "duplicate", "noise", "lone_dle", "gap", "gap_below")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_line_fault_costs_nothing(pt: Simulator, fault: str) -> None:
    """Twice in each money dialogue; the outcome is the same as without."""

    async def case(d: Driver) -> None:
        await d.ask("fault", name=fault, count=2)
        held = await d.held()
        await d.ask("fault", name=fault, count=2)
        captured = await d.port.capture(held.evidence.ref, EUR50, PART, d.keep)
        assert isinstance(captured, Done)
        assert await d.movements() == [("hold", 5000), ("capture", 1295)]
        assert len(d.kept) == 2
        commands = (await d.ask("state"))["commands"]
        assert (commands["0622"], commands["0623"]) == (1, 1)

    play(pt, case)


@pytest.mark.parametrize("fault", ["ignored", "no_answer"])
def test_a_command_that_is_not_executed_is_never_sent_as_a_new_one(
    pt: Simulator, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ignored: the link repeats it. Not answered: the outcome is unknown, and the caller asks."""
    monkeypatch.setattr(frames, "T2_MS", 500)
    monkeypatch.setattr(dialogue, "ANSWER_MS", 1_500)

    async def case(d: Driver) -> None:
        await d.ask("fault", name=fault, count=1)
        outcome = await d.hold()
        if fault == "ignored":
            assert isinstance(outcome, Done)
        else:
            assert outcome == Unknown("timed out waiting for an answer (T3)")
            assert await d.movements() == []
            assert (await d.port.connect()).ready
            assert (await d.port.open_holds()).receipts == ()

    play(pt, case)


COMMANDS = ("reserve", "capture", "cancel")
STEPS = ("received", "result_sent", "result_answered", "completed")
COMMIT = STEPS.index("result_answered")


@pytest.mark.parametrize("how", ["unplug", "power"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_break_at_every_point(pt: Simulator, command: str, step: str, how: str) -> None:
    """The line or the terminal dies there. The outcome is unknown, or the true one, and afterwards the
    terminal's answers tell what became of it."""

    async def case(d: Driver) -> None:
        ref = None if command == "reserve" else (await d.held()).evidence.ref
        before = len(d.kept)
        at = f"{command}:{step}"
        await d.ask("hold", at=at)
        if ref is None:
            verb = asyncio.ensure_future(d.hold())
        elif command == "capture":
            verb = asyncio.ensure_future(d.port.capture(ref, EUR50, PART, d.keep))
        else:
            verb = asyncio.ensure_future(d.port.release(ref, EUR50, d.keep))
        await d.ask("wait", at=at, timeout_s=WAIT_S)
        if how == "unplug":
            await d.ask("unplug")
            outcome = await verb
            await d.ask("resume", break_link=True)
            await d.ask("replug")
        else:
            await d.ask("power_off")
            await d.port.close()
            outcome = await verb
            await d.ask("power_on")
        assert isinstance(outcome, Unknown) or (step == "completed" and isinstance(outcome, Done))
        assert len(d.kept) - before == (0 if step == "received" else 1)
        await told_truly(d, committed=STEPS.index(step) >= COMMIT, was_open=ref is not None)

    async def told_truly(d: Driver, *, committed: bool, was_open: bool) -> None:
        await d.port.connect()
        listed = await d.port.open_holds()
        assert list(listed.receipts) == await d.open_receipts()
        assert bool(listed.receipts) == (committed != was_open)
        last = await d.port.last_result()
        mine = d.kept[-1].ref if d.kept else None
        confirmed = last is not None and last.result == 0 and last.evidence.ref == mine
        if committed:
            assert confirmed
        else:
            assert not confirmed or was_open
        settled = [kind for kind, _ in await d.movements() if kind in ("capture", "release")]
        assert len(settled) == (1 if committed and was_open else 0)

    play(pt, case)


def test_a_second_driver_is_told_that_the_port_is_held(pt: Simulator) -> None:
    async def case(d: Driver) -> None:
        with pytest.raises(DeviceUnavailable, match=r"TRM-001.*held by another process"):
            await Driver(d.pt).port.connect()

    play(pt, case)
