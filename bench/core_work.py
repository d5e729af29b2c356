"""A ledger at work as a station works with it: what it was told is stored, and the judge of what is left.
The same seed and key give the same calls."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.ledger import Append, EventRow, Ledger, LedgerDamaged, LedgerError, RecordRow, UpkeepRow
from agent.trust.chain import GENESIS, seal
from agent.trust.keys import RecordKey
from agent.values import Quality, Stamp

STATION = "DE*ABC*S1"
DAY_MS = 86_400_000
# Small ledgers, often begun anew: the creation is cut as well, and an image is quickly made and judged.
SESSIONS_A_LEDGER = 8


@dataclass(slots=True)
class Told:
    """What callers were told: rows by what names them, and how far a chain went."""

    events: dict[tuple[str, int], str] = field(default_factory=dict)
    records: dict[int, str] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)

    def copy(self) -> Told:
        return Told(dict(self.events), dict(self.records), set(self.forgotten))


class Work:
    """`calls` yields after each call that was answered."""

    def __init__(self, path: Path, rng: random.Random, key: RecordKey) -> None:
        self._path, self._rng, self._key = path, rng, key
        self.told = Told()
        self._clock_ms = 0

    def calls(self) -> Iterator[None]:
        """Yields after each call that was answered."""
        ledger = self._open()
        yield
        for number in range(SESSIONS_A_LEDGER):
            for step in self._session(ledger, f"s{number}"):
                self._take(step, ledger.append_many(step))
                yield
            if self._rng.random() < 0.4:
                head = ledger.head()
                self._clock_ms += DAY_MS
                ledger.apply_ack(head.chain, head.seq, head.hash, asked_ms=self._clock_ms)
                yield
            if self._rng.random() < 0.3:
                yield from self._forget(ledger)
            yield from self._upkeep(ledger, f"s{number}")
            if self._rng.random() < 0.2:
                ledger.close()
                yield
                ledger = self._open()
                yield
        ledger.close()
        yield

    def _open(self) -> Ledger:
        return Ledger.open(self._path, STATION, new_chain=lambda: "c" * 32)

    def _upkeep(self, ledger: Ledger, name: str) -> Iterator[None]:
        chance = self._rng.random()
        if chance < 0.2:
            ledger.checkpoint()
            yield
        elif chance < 0.4:
            ledger.forget_card(name)
            yield
        elif chance < 0.5:
            ledger.add_upkeep(UpkeepRow("t1", "end_of_day", "intent", {}, self._stamp(1)))
            yield

    def _stamp(self, n: int) -> Stamp:
        return Stamp(self._clock_ms + n, n, "boot-1", Quality.TRUSTED)

    def _session(self, ledger: Ledger, name: str) -> Iterator[list[Append]]:
        """Its durable steps, some of them in a group with a step of another session."""
        last = self._rng.randint(2, 5)
        for n in range(1, last + 1):
            steps = [self._step(ledger, name, n, n == last)]
            if self._rng.random() < 0.2:
                steps.append(self._step(ledger, f"{name}+{n}", 1, False))
            yield steps

    def _step(self, ledger: Ledger, name: str, n: int, last: bool) -> Append:
        note = "x" * self._rng.choice((20, 250, 900))
        event = EventRow(
            name, n, f"step{n}", {"note": note}, "closed" if last else "open", 1, self._stamp(n)
        )
        row = self._record(ledger, name) if last else None
        return Append(event, "E1", "t1", not last, row, b"m" * 32 if n == 1 else None)

    def _record(self, ledger: Ledger, name: str) -> RecordRow:
        head = ledger.head()
        body = {"session_id": name, "note": "y" * self._rng.choice((50, 700))}
        sealed = seal(
            self._key, chain=head.chain, seq=head.seq + 1, prev=head.hash or GENESIS, type="session",
            station=STATION, stamp=self._stamp(head.seq), body=body,
        )  # fmt: skip
        return RecordRow.of(sealed, name)

    def _take(self, steps: Sequence[Append], outcomes: Sequence[LedgerError | None]) -> None:
        for step, refused in zip(steps, outcomes, strict=True):
            assert refused is None, refused
            event = step.event
            self.told.events[event.session_id, event.n] = str(event.data["note"])
            if step.record is not None:
                self.told.records[step.record.seq] = step.record.hash

    def _forget(self, ledger: Ledger) -> Iterator[None]:
        """A cut in the middle of it may find what is past its time, or not."""
        names = {row.id for row in ledger.sessions(limit=1000)}
        self.told.forgotten |= {name for name in names if self._settled(ledger, name)}
        yield
        ledger.forget(DAY_MS, self._clock_ms)
        self.told.forgotten -= {row.id for row in ledger.sessions(limit=1000)}
        yield

    @staticmethod
    def _settled(ledger: Ledger, name: str) -> bool:
        row = ledger.session(name)
        return row is not None and not row.open


@dataclass(frozen=True, slots=True)
class Wrong:
    """`kind`: lost or corrupt."""

    kind: str
    what: str


def judge(path: Path, told: Told) -> Wrong | None:
    """Open what is left, as the next start does, and look for everything that was told."""
    try:
        ledger = Ledger.open(path, STATION, new_chain=lambda: "c" * 32)
    except LedgerDamaged as damage:
        return Wrong("corrupt", str(damage))
    try:
        return _missing(ledger, told)
    finally:
        ledger.close()


def _missing(ledger: Ledger, told: Told) -> Wrong | None:
    db = ledger._db
    have = {
        (name, key % (1 << 20)): data
        for name, key, data in db.execute(
            "SELECT s.id, e.id, e.data FROM event e JOIN session s ON s.n = e.id >> 20"
        )
    }
    for (name, n), note in told.events.items():
        if have.get((name, n)) != f'{{"note":"{note}"}}' and name not in told.forgotten:
            return Wrong("lost", f"event {n} of {name}")
    kept = {key % (1 << 40): digest for key, digest in db.execute("SELECT id, hash FROM record")}
    newest = max(kept, default=0)
    for seq, digest in told.records.items():
        found = kept.get(seq)
        gone = found is None and seq < newest and told.forgotten
        if not gone and (found is None or bytes(found).hex() != digest):
            return Wrong("lost", f"record {seq}")
    return None
