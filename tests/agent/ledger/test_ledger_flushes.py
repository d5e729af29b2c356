"""How often the ledger has its disk flushed, counted at SQLite's own file system."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support import powercut
from support.ledger_rows import STATION, event, record

from agent.ledger import Append, AsyncLedger, Ledger, LedgerFull, UpkeepRow
from agent.station.ledger_care import LOG_PAGES_QUIET

EVENTS = 14


class Counter:
    """Operations of a simulated disk by kind."""

    def __init__(self, disk: powercut.Disk) -> None:
        self.kinds: list[str] = []
        disk.on_operation = lambda number, kind, name: self.kinds.append(kind)

    def taken(self, kind: str) -> int:
        found = self.kinds.count(kind)
        self.kinds.clear()
        return found


def session(ledger: Ledger, name: str) -> int:
    """An ordinary one, its record and ack; how many durable steps."""
    for n in range(1, EVENTS + 1):
        signed = record(ledger, name, note="y" * 700) if n == EVENTS - 1 else None
        ledger.append(
            event(name, n, note="x" * 250),
            evse="E1",
            terminal="t1",
            open=n < EVENTS,
            record=signed,
            card_mac=b"m" * 32 if n == 1 else None,
        )
    assert ledger.card_mac(name) is None, "forgotten with the last step"
    head = ledger.head()
    ledger.apply_ack(head.chain, head.seq, head.hash)
    return EVENTS + 1


def test_a_durable_step_costs_one_flush_and_hardly_more_with_the_housekeeping(
    tmp_path: Path,
) -> None:
    with powercut.mounted() as vfs:
        ledger = Ledger.open(tmp_path / "ledger.db", STATION)
        session(ledger, "first")  # the log begins anew: one flush more, once
        counter = Counter(vfs.disk)
        steps = sum(session(ledger, f"warm{n}") for n in range(10))
        assert counter.taken("sync") == steps, "one flush each while nothing is folded back"
        steps = folded = 0
        for n in range(120):
            steps += session(ledger, f"s{n}")
            if ledger.log_pages() >= LOG_PAGES_QUIET:
                ledger.checkpoint()
                folded += 1
        flushes = counter.taken("sync")
        ledger.close()
    print(
        f"{flushes / steps:.3f} flushes a step, {flushes / 120:.2f} a session, {folded} checkpoints"
    )
    assert folded >= 3
    assert flushes / steps <= 1.05
    assert flushes / 120 <= 17


def test_callers_that_wait_together_share_one_flush_and_are_told_after_it(tmp_path: Path) -> None:
    with powercut.mounted() as vfs:

        async def main() -> list[str]:
            ledger = await AsyncLedger.open(tmp_path / "ledger.db", STATION)
            order: list[str] = []
            await ledger.append(event("warm", 1), evse=None, terminal="t", open=True)
            vfs.disk.on_operation = lambda number, kind, name: order.append(kind)

            async def step(name: str) -> None:
                await ledger.append(event(name, 1), evse=None, terminal="t", open=True)
                order.append(name)

            first = asyncio.create_task(step("first"))
            await asyncio.sleep(0)  # its commit is under way; the others wait for the next one
            await asyncio.gather(first, *(step(f"s{n}") for n in range(12)))
            vfs.disk.on_operation = None
            await ledger.close()
            return order

        order = asyncio.run(main())
    syncs = [at for at, what in enumerate(order) if what == "sync"]
    assert len(syncs) == 2
    assert order.index("first") > syncs[0]
    told = [what for what in order if what.startswith("s") and what != "sync"]
    assert told == [f"s{n}" for n in range(12)], "in the order of the calls"
    assert min(order.index(name) for name in told) > syncs[1]


def test_a_step_that_the_disk_has_no_room_for_fails_alone(tmp_path: Path) -> None:
    """The others of its group are small enough."""
    with powercut.mounted() as vfs:
        ledger = Ledger.open(tmp_path / "ledger.db", STATION)
        for name in ("a", "b", "c"):
            ledger.append(event(name, 1), evse=None, terminal="t", open=True)
        for n in range(1, 60):  # until the log grows again
            ledger.append(event("z", n, note="x" * 900), evse=None, terminal="t", open=True)
        vfs.disk.full_at = vfs.disk.used() + 14 * 1024
        steps = [
            Append(event("a", 2), None, "t", True),
            Append(event("b", 2, note="x" * 15_900), None, "t", True),
            Append(event("c", 2), None, "t", True),
            Append(event("new", 1), None, "t", True),
        ]
        told = ledger.append_many(steps)
        assert told[0] is None and told[2] is None
        assert isinstance(told[1], LedgerFull)
        assert isinstance(told[3], LedgerFull), (
            "nothing begins on a disk that was full a moment ago"
        )
        assert ledger.full
        vfs.disk.full_at = None
        assert [len(ledger.events(name)) for name in ("a", "b", "c")] == [2, 1, 2]
        ledger.close()


class Room:
    """A ballast on the simulated disk: letting it go makes room there."""

    def __init__(self, disk: powercut.Disk, size: int) -> None:
        self.disk, self.size, self.held = disk, size, False

    def hold(self) -> bool:
        if not self.held:
            full_at = self.disk.full_at
            if full_at is not None and full_at - self.disk.used() < self.size:
                return False
            if full_at is not None:
                self.disk.full_at = full_at - self.size
            self.held = True
        return True

    def release(self) -> None:
        if self.held:
            self.held = False
            assert self.disk.full_at is not None
            self.disk.full_at += self.size


def test_on_a_full_disk_the_ballast_ends_what_runs_and_nothing_new_begins(tmp_path: Path) -> None:
    with powercut.mounted() as vfs:
        vfs.disk.full_at = 4 * 1024 * 1024
        room = Room(vfs.disk, 512 * 1024)
        ledger = Ledger.open(tmp_path / "ledger.db", STATION, ballast=room)  # type: ignore[arg-type]
        assert room.held and not ledger.full
        ledger.append(event("runs", 1), evse="E", terminal="t", open=True)
        vfs.disk.full_at = vfs.disk.used()  # somebody else has filled it
        for n in range(2, 60):
            ledger.append(event("runs", n, note="x" * 900), evse="E", terminal="t", open=True)
        assert ledger.full and not room.held
        with pytest.raises(LedgerFull, match=r"LED-008.*no new session"):
            ledger.append(event("new", 1), evse="E", terminal="t", open=True)
        row = record(ledger, "runs")
        ledger.append(event("runs", 60), evse="E", terminal="t", open=False, record=row)
        ledger.apply_ack(row.chain, 1, row.hash)
        ledger.add_upkeep(UpkeepRow("t", "end_of_day", "intent", {}, event("x", 1).stamp))
        assert not ledger.look_for_room()
        vfs.disk.full_at = None
        assert ledger.look_for_room()
        ledger.append(event("new", 1), evse="E", terminal="t", open=True)
        ledger.close()
        again = Ledger.open(tmp_path / "ledger.db", STATION)
        assert len(again.events("runs")) == 60
        again.close()


def test_a_step_writes_the_pages_that_change_and_no_others(tmp_path: Path) -> None:
    """Two: the session's and the event's; a new page now and then. An index that is rewritten with each
    step would be a quarter more wear."""
    ledger = Ledger.open(tmp_path / "ledger.db", STATION)
    ledger.append(event("s", 1), evse="E", terminal="t", open=True)
    before = ledger.log_pages()
    for n in range(2, 42):
        ledger.append(event("s", n, note="x" * 100), evse="E", terminal="t", open=True)
    assert ledger.log_pages() - before < 40 * 3
    ledger.append(event("s", 42), evse="E", terminal="t", open=False)
    assert ledger.sessions(open_only=True) == []
    ledger.close()
