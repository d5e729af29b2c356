"""Power cuts under the shipped ledger: whatever the disk kept, no acknowledged row is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from support import powercut
from support.ledger_rows import KEY, STATION, event, record

from agent.ledger import Ledger, LedgerDamaged, LedgerFailed, LedgerFull
from agent.ledger import open as open_module
from agent.trust.chain import verify_records
from agent.trust.keys import KeySet

SESSIONS = 60
EVENTS = 4  # per session; the last one carries a record
# (chance that a volatile piece was kept, torn at sectors)
POLICIES = ((0.0, False), (1.0, False), (0.5, False), (0.5, True), (0.9, True))


class Board:
    """A ledger at work whose disk is photographed, as a cut would leave it, at every operation."""

    def __init__(self, vfs: powercut.ForgetfulVFS, path: Path, seed: int) -> None:
        self.vfs, self.path = vfs, path
        self.rng = random.Random(seed)
        self.disk = vfs.disk
        self.disk.on_operation = self._photograph
        self.images: list[tuple[int, str, powercut.Disk]] = []
        self.events_acked: dict[str, int] = {}
        self.records_acked = 0

    def _photograph(self, number: int, kind: str, name: str) -> None:
        for keep, torn in self.rng.sample(POLICIES, 2):
            self.images.append(
                (number, f"{kind} keep {keep}", self.disk.after_cut(self.rng, keep, torn))
            )

    def work(self) -> Iterator[None]:
        """Yields after every acknowledged step and after each opening and closing."""
        ledger = Ledger.open(self.path, STATION)
        yield
        for number in range(SESSIONS):
            name = f"s{number}"
            for n in range(1, EVENTS + 1):
                last = n == EVENTS
                row = record(ledger, name, note="x" * 400) if last else None
                ledger.append(
                    event(name, n, note="y" * 200),
                    evse="E",
                    terminal="t",
                    open=not last,
                    record=row,
                )
                self.events_acked[name] = n
                self.records_acked += last
                yield
            if number % 20 == 10:
                ledger.checkpoint()
                yield
            if number % 25 == 24:
                head = ledger.head()
                ledger.apply_ack(head.chain, head.seq, head.hash)
                ledger.close()
                ledger = Ledger.open(self.path, STATION)
                yield
        ledger.close()
        yield

    def losses(self) -> list[str]:
        """What the photographs taken since the last call have lost, judged by the shipped code."""
        told = []
        for number, what, image in self.images:
            self.vfs.disk = image
            try:
                ledger = Ledger.open(self.path, STATION)
            except LedgerDamaged as damage:
                told.append(f"operation {number} ({what}): {damage}")
                continue
            rows = {row.id for row in ledger.sessions(limit=1000)}
            last = list(self.events_acked)[-1:]
            for name in last:
                have = len(ledger.events(name))
                if have < self.events_acked[name]:
                    told.append(f"operation {number} ({what}): {name} has {have} events")
            if missing := set(self.events_acked) - rows:
                told.append(f"operation {number} ({what}): {len(missing)} sessions lost")
            if ledger.head().seq < self.records_acked:
                told.append(f"operation {number} ({what}): {ledger.head().seq} records")
            if number % 16 == 0:
                texts = [row.jws for row in ledger.records(1, 1000)]
                report = verify_records(texts, KeySet([KEY.public]), partial=not texts)
                told += [str(problem) for problem in report.problems if texts]
            ledger.close()
        self.images.clear()
        self.vfs.disk = self.disk
        return told


def run(path: Path, seed: int) -> tuple[int, list[str]]:
    """Number of images and what they lost."""
    with powercut.mounted() as vfs:
        board = Board(vfs, path, seed)
        images, lost = 0, []
        # Images taken during a step are judged by what was acknowledged before that step.
        known = (dict(board.events_acked), board.records_acked)
        for _ in board.work():
            now = (dict(board.events_acked), board.records_acked)
            board.events_acked, board.records_acked = known
            images += len(board.images)
            lost += board.losses()
            board.events_acked, board.records_acked = now
            known = (dict(now[0]), now[1])
    return images, lost


def test_no_acknowledged_row_is_lost_at_any_cut(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    images, lost = run(tmp_path / "ledger.db", seed)
    print(f"seed {seed}: {images} images after a cut, {len(lost)} losses")
    assert images > 1000
    assert lost == [], f"seed {seed}"


def test_the_harness_sees_what_a_weaker_setting_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weaker = tuple(
        ("synchronous", "normal", 1) if name == "synchronous" else (name, value, expected)
        for name, value, expected in open_module._BEFORE_ACCESS
    )
    monkeypatch.setattr(open_module, "_BEFORE_ACCESS", weaker)
    monkeypatch.setattr("test_power_cut.SESSIONS", 12)
    seed = random.randrange(2**32)
    images, lost = run(tmp_path / "ledger.db", seed)
    print(f"seed {seed}: {images} images, {len(lost)} losses")
    assert lost, f"seed {seed}: synchronous=NORMAL lost nothing, so the harness is blind"


def test_a_full_disk_refuses_the_step_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with powercut.mounted() as vfs:
        ledger = Ledger.open(path, STATION)
        ledger.append(event("s", 1), evse=None, terminal="t", open=True)
        vfs.disk.full_at = vfs.disk.used()
        with pytest.raises(LedgerFull, match="LED-008"):
            for n in range(2, 500):
                ledger.append(event("s", n, note="z" * 900), evse=None, terminal="t", open=True)
        stored = len(ledger.events("s"))
        vfs.disk.full_at = None
        ledger.append(event("s", stored + 1), evse=None, terminal="t", open=True)
        ledger.close()
        again = Ledger.open(path, STATION)
        assert [row.n for row in again.events("s")] == list(range(1, stored + 2))
        again.close()


def test_after_the_disk_failed_nothing_is_believed_until_it_is_reopened(tmp_path: Path) -> None:
    """The kernel may have dropped what it could not write: the next sync would lie."""
    path = tmp_path / "ledger.db"
    with powercut.mounted() as vfs:
        ledger = Ledger.open(path, STATION)
        ledger.append(event("s", 1), evse=None, terminal="t", open=True)

        def fail(number: int, kind: str, name: str) -> None:
            if kind == "sync":
                raise apsw.IOError("the card is worn out")

        vfs.disk.on_operation = fail
        with pytest.raises(LedgerFailed, match="LED-007"):
            ledger.append(event("s", 2), evse=None, terminal="t", open=True)
        vfs.disk.on_operation = None
        with pytest.raises(LedgerFailed, match="since then every call is refused"):
            ledger.events("s")
        with pytest.raises(LedgerFailed):
            ledger.append(event("s", 2), evse=None, terminal="t", open=True)
        ledger.close()
        again = Ledger.open(path, STATION)
        assert [row.n for row in again.events("s")] in ([1], [1, 2])
        again.close()


def test_a_live_cut_stops_the_ledger_where_it_stands(tmp_path: Path) -> None:
    """The mode a simulator uses: the cut is raised out of the running call."""
    path = tmp_path / "ledger.db"
    with powercut.mounted() as vfs:
        ledger = Ledger.open(path, STATION)
        ledger.append(event("s", 1), evse=None, terminal="t", open=True)
        at = vfs.disk.operations + 2

        def cut(number: int, kind: str, name: str) -> None:
            if number == at:
                raise powercut.PowerCut

        vfs.disk.on_operation = cut
        with pytest.raises(powercut.PowerCut):
            ledger.append(event("s", 2), evse=None, terminal="t", open=True)
        ledger.close()
        vfs.disk = vfs.disk.after_cut(random.Random(1), 0.5, True)
        again = Ledger.open(path, STATION)
        assert [row.n for row in again.events("s")] in ([1], [1, 2])
        again.close()
