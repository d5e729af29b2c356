"""The whole driver against a terminal of its own making, over wires that spoil bytes, on a virtual clock.

`ZVT_SEEDS=first:count` runs other seeds; a failing one is named in the message."""

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.untraced import untraced
from support.virtual_loop import VirtualLoop
from support.zvt_peer import UID, Cable, Manners
from support.zvt_peer_tcp import StreamCable
from support.zvt_profiles import read_once
from support.zvt_wires import STREAMS, WIRES

from agent.ports import (
    CardKind,
    DeviceUnavailable,
    Done,
    DriverEnv,
    Evidence,
    LineSpec,
    NotSent,
    Refused,
    TerminalSpec,
    Unknown,
    Verdict,
)
from agent.values import Money
from drivers.terminal.zvt import terminal as zvt

FIRST, COUNT = (int(part) for part in os.environ.get("ZVT_SEEDS", "1:250").split(":"))
# What a terminal may still do after the ECR has given up: three sends and an answer, each way.
AFTERMATH_S = 60.0
# These wires forge ACK and NAK bytes. Blocks have no numbers, so after a forged one a terminal may take the
# answer to one message for that to the next; the outcome must be true all the same.
FORGING = ("noisy", "storm")


@dataclass
class Bench:
    """One run: a cable with its terminal, the driver, and what was kept."""

    seed: int
    wire: str
    cable: Cable
    rng: random.Random
    driver: Any = None
    kept: list[Evidence] = field(default_factory=list)
    stored: set[int | None] = field(default_factory=set)  # traces
    promised: list[str] = field(default_factory=list)  # broken rules
    logged: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        tcp = isinstance(self.cable, StreamCable)
        line = LineSpec("tcp://terminal:20007" if tcp else "cable")
        spec = TerminalSpec("t1", line, "123456", "EUR", "feig_cvend")
        env = DriverEnv(
            lambda: int(loop.time() * 1000),
            lambda event, **values: self.logged.append({"event": event, **values}),
        )
        self.driver = zvt.open_terminal(spec, env)
        self.cable.terminal.on_commit = self._committed

    def _committed(self, booking: Any) -> None:
        if booking.trace not in self.stored and self.wire not in FORGING:
            self.promised.append(f"{booking} was answered before it was stored")

    def keep(self) -> Callable[[Evidence], Awaitable[Verdict]]:
        calls = 0

        async def keep(evidence: Evidence) -> Verdict:
            nonlocal calls
            calls += 1
            if calls > 1:
                self.promised.append("asked twice to keep evidence")
            self.kept.append(evidence)
            await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.0, 0.01, 0.01, 0.5, 0.5, 3.0, 4.5)))
            word = self.rng.random()
            if word < 0.03:
                raise OSError("disk full")
            if word < 0.06:
                return Verdict.REJECT
            self.stored.add(evidence.ref.trace)
            return Verdict.STORED

        return keep

    async def linked(self) -> bool:
        for _ in range(3):
            try:
                await self.driver.connect()
            except DeviceUnavailable:
                await asyncio.sleep(1)
            else:
                return True
        return False

    def check(self, outcome: object, kind: str, key: str) -> None:
        """The outcome fits what the terminal did."""
        terminal = self.cable.terminal
        started = [e for e in terminal.executed if e == (kind, key)]
        booked = [b for b in terminal.booked if (b.kind, b.key) == (kind, key)]
        where = f"seed {self.seed}: {kind} {key} ended as {outcome}"
        assert len(started) <= 1, f"{where}, started {len(started)} times"
        if isinstance(outcome, Done):
            assert len(booked) == 1, f"{where}, booked {booked}"
            assert outcome.evidence.ref.trace == booked[0].trace, where
            assert outcome.evidence.amount == Money(booked[0].amount, "EUR"), where
            assert booked[0].trace in self.stored, where
        elif isinstance(outcome, Refused | NotSent):
            assert not booked, f"{where}, booked {booked}"
        else:
            assert isinstance(outcome, Unknown), where
        assert not self.promised, f"{where}: {self.promised}"


def manners(rng: random.Random) -> Manners:
    def sometimes(value: Any, otherwise: Any, share: float = 0.15) -> Any:
        return value if rng.random() < share else otherwise

    return Manners(
        progress=rng.randrange(3),
        t4_minutes=sometimes(2, None),
        host_s=rng.choice((0.0, 0.3, 3.0, 20.0)),
        print_first=sometimes(True, False),
        print_last=sometimes(True, False),
        approve_at_most=sometimes(1500, 10**9),
        decline=sometimes(rng.choice((0x05, 0x6C, 0xA3)), None),
        refuse=sometimes(rng.choice((0x9C, 0x83, 0x6F)), None, 0.05),
        abort_after_success=sometimes(True, False, 0.05),
        say_twice=sometimes(True, False),
        polite=sometimes(False, True, 0.4),
        abortable=sometimes(False, True),
        card_after_s=rng.choice((None, 0.0, 1.0, 2.0)),
        receipt_fields=sometimes(False, True, 0.05),
    )


async def one_run(bench: Bench) -> list[object]:
    """Link, a card, a hold, its capture or release, and questions; gives up where a driver may."""
    cable, rng, driver = bench.cable, bench.rng, bench.driver
    serving = asyncio.ensure_future(cable.terminal.run())
    outcomes: list[object] = []
    try:
        if not await bench.linked():
            return outcomes
        cable.terminal.manners = manners(rng)
        if rng.random() < 0.4:
            await read_a_card(bench)
        if rng.random() < 0.15:
            asyncio.get_running_loop().call_later(rng.random() * 6, cable.unplug)
        asked = Money(rng.randrange(1, 10_000), "EUR")
        held = await driver.authorize(asked, f"S{bench.seed}", bench.keep())
        outcomes.append(held)
        await asyncio.sleep(AFTERMATH_S)
        bench.check(held, "hold", f"S{bench.seed}")
        cable.replug()
        if isinstance(held, Done) and await bench.linked():
            outcomes.append(await settle(bench, held))
        if await bench.linked():
            await ask(bench)
        return outcomes
    finally:
        await driver.close()
        serving.cancel()


async def read_a_card(bench: Bench) -> None:
    reading = asyncio.ensure_future(bench.driver.read_card(3))
    if bench.rng.random() < 0.5:
        await asyncio.sleep(bench.rng.random() * 1.5)
        with contextlib.suppress(DeviceUnavailable):
            await bench.driver.show(["Please wait"])
    try:
        card = await reading
    except DeviceUnavailable:
        card = None
    assert card is None or (card.kind is CardKind.RFID and card.token == UID)


async def settle(bench: Bench, held: Done) -> object:
    rng, driver, ref = bench.rng, bench.driver, held.evidence.ref
    amount = held.evidence.amount
    assert amount is not None
    bench.cable.terminal.manners = manners(rng)
    key = f"{ref.receipt:04d}"
    if rng.random() < 0.5:
        part = Money(rng.randrange(1, amount.amount_minor + 1), "EUR")
        outcome = await driver.capture(ref, amount, part, bench.keep())
        kind = "capture"
    else:
        outcome = await driver.release(ref, amount, bench.keep())
        kind = "release"
    await asyncio.sleep(AFTERMATH_S)
    bench.check(outcome, kind, key)
    return outcome


async def ask(bench: Bench) -> None:
    """The answers, when they come, are true."""
    terminal = bench.cable.terminal
    try:
        listed = await bench.driver.open_holds()
        last = await bench.driver.last_result()
    except DeviceUnavailable:
        return
    assert listed.complete, f"seed {bench.seed}"
    assert sorted(listed.receipts) == sorted(terminal.holds), f"seed {bench.seed}"
    if terminal.last_told is None:
        assert last is None, f"seed {bench.seed}"
    else:
        assert last is not None, f"seed {bench.seed}"
        assert last.result == 0, f"seed {bench.seed}"
        assert last.evidence.ref.receipt == terminal.last_told.receipt, f"seed {bench.seed}"


def run_one(
    wire: str, seed: int, monkeypatch: pytest.MonkeyPatch, *, tcp: bool = False
) -> list[object]:
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:

        async def main() -> list[object]:
            cable = StreamCable(STREAMS[wire], seed) if tcp else Cable(WIRES[wire], seed)
            monkeypatch.setattr(zvt, "open_line", cable.open)
            read_once(monkeypatch)
            bench = Bench(seed, wire, cable, random.Random(f"{wire} {seed}"))
            return await one_run(bench)

        try:
            with untraced():
                outcomes = loop.run_until_complete(main())
        except AssertionError as error:
            raise AssertionError(f"wire {wire}: {error}") from error
        left = [task for task in asyncio.all_tasks(loop) if not task.cancelling()]
        assert not left, f"wire {wire}, seed {seed}: left running: {left}"
        assert not loop.troubles, f"wire {wire}, seed {seed}: {loop.troubles}"
        return outcomes
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()


def play(wire: str, monkeypatch: pytest.MonkeyPatch, *, tcp: bool) -> None:
    names: dict[str, int] = {}
    # Byte by byte a run takes three times as long, and there is less to go wrong.
    count = max(1, COUNT // 3) if wire == "one_byte" else COUNT
    for seed in range(FIRST, FIRST + count):
        for outcome in run_one(wire, seed, monkeypatch, tcp=tcp):
            name = type(outcome).__name__
            names[name] = names.get(name, 0) + 1
    where = f"{'tcp, ' if tcp else ''}{wire}"
    print(f"\n{where}: seeds {FIRST} to {FIRST + count - 1}: {dict(sorted(names.items()))}")
    assert names.get("Done", 0) > count / 10, "nothing was tested"


@pytest.mark.parametrize("wire", WIRES)
def test_no_wire_costs_money(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence kept once and before the answer, no command twice, and no outcome that is not true."""
    play(wire, monkeypatch, tcp=False)


@pytest.mark.parametrize("stream", STREAMS)
def test_no_network_costs_money(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    play(stream, monkeypatch, tcp=True)
