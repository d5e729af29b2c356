"""The ledger against its disk: commits against raw flushes, bytes and flushes of a session, an old ledger."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from statistics import median

import apsw

from agent.ledger import EventRow, Ledger, RecordRow, UsedPage
from agent.ledger.schema import EVENTS_PER_SESSION
from agent.trust import jws, plain
from agent.trust.chain import seal
from agent.trust.keys import RecordKey
from agent.values import Quality, Stamp
from bench.core_device import Device, Traffic

STATION = "DE*ABC*S1"
EVENTS = 14  # of an ordinary session
DAY_MS = 86_400_000
# About what a progress event and a session record hold.
EVENT_DATA: dict[str, plain.JSON] = {"energy_wh": 104_211, "power_w": 11_040, "note": "x" * 220}
RECORD_BODY = {
    "session_id": "",
    "tariff_id": "adhoc",
    "cost": {"note": "y" * 800},
    "cost_minor": 612,
    # Begin and end in OCMF with their public key.
    "signed_values": [{"text": "z" * 1100, "public_key": "0" * 182}],
}


def stamp(n: int) -> Stamp:
    return Stamp(1_795_200_000_000 + n, n, "6f2e1c1e-0000-4000-8000-000000000001", Quality.TRUSTED)


class Book:
    """A ledger and the sessions that are written into it; as shipped, with its own housekeeping."""

    def __init__(self, path: Path, key: RecordKey, seed: int = 7) -> None:
        """`seed`: of the sessions' names; another one for a ledger that is opened again."""
        self.ledger = Ledger.open(path, STATION)
        self._key, self._n, self._rng = key, 0, random.Random(seed)

    def name(self) -> str:
        return f"{self._rng.randrange(1 << 50):010X}"

    def record(self, name: str) -> RecordRow:
        head = self.ledger.head()
        body = RECORD_BODY | {"session_id": name}
        sealed = seal(
            self._key, chain=head.chain, seq=head.seq + 1, prev=head.hash, type="session",
            station=STATION, stamp=stamp(head.seq), body=body,
        )  # fmt: skip
        kid = self._key.public.kid
        page = self.ledger.used_pages().get(kid, 0) + 1
        return RecordRow.of(sealed, name, UsedPage(kid, page))

    def event(self, name: str, n: int, *, record: bool = False, last: bool = False) -> None:
        row = EventRow(
            name, n, "progress", EVENT_DATA, "closed" if last else "charging", 1, stamp(n)
        )
        signed = self.record(name) if record else None
        mac = b"m" * 32 if n == 1 else None
        self.ledger.append(
            row, evse="DE*ABC*E1", terminal="t1", open=not last, record=signed, card_mac=mac
        )

    def session(self) -> int:
        """14 events, a record, its ack, the card forgotten: how many durable steps these are."""
        name = self.name()
        for n in range(1, EVENTS + 1):
            self.event(name, n, record=n == EVENTS - 1, last=n == EVENTS)
        self.ledger.forget_card(name)
        head = self.ledger.head()
        self._n += 1
        self.ledger.apply_ack(head.chain, head.seq, head.hash, asked_ms=self._n * 1000)
        return EVENTS + 2

    def quiet(self, pages: int) -> None:
        """What the station does in quiet moments."""
        if self.ledger.log_pages() >= pages:
            self.ledger.checkpoint()


class RawLog:
    """The yardstick: length, checksum and payload appended to a preallocated file, flushed each time."""

    def __init__(self, path: Path, size: int) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        block = bytes(1 << 16)
        for _ in range(-(-size // len(block))):
            os.write(self._file, block)
        os.fsync(self._file)
        os.lseek(self._file, 0, os.SEEK_SET)

    def append(self, payload: bytes) -> None:
        os.write(self._file, struct.pack("<II", len(payload), zlib.crc32(payload)) + payload)
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


def per_second(work: Callable[[int], None], count: int) -> float:
    began = time.perf_counter()
    for n in range(count):
        work(n)
    return count / (time.perf_counter() - began)


def against_raw(folder: Path, key: RecordKey, rounds: int, count: int) -> dict[str, list[float]]:
    """Commits a second, by turns so that both meet the same minute of the machine: of a plain event and of
    a chained and signed one, in the ledger and in the raw log."""
    book = Book(folder / "commits.db", key)
    raw = RawLog(folder / "raw.log", 3 * (rounds + 1) * count * 2048)
    text = plain.dumps(EVENT_DATA).encode("ascii")
    previous = "0" * 64
    found: dict[str, list[float]] = {name: [] for name in ("plain", "raw", "signed", "raw signed")}

    def signed_raw(n: int) -> None:
        nonlocal previous
        frame = {"seq": n, "prev": previous, "stamp": stamp(n).to_json()}
        made = jws.sign(frame | RECORD_BODY, key, jws.RECORD_TYP).encode("ascii")
        previous = hashlib.sha256(made).hexdigest()
        raw.append(made)

    for turn in range(rounds + 1):
        speed = {
            "plain": per_second(_events(book, record=False), count),
            "raw": per_second(lambda _: raw.append(text), count),
            "signed": per_second(_events(book, record=True), count),
            "raw signed": per_second(signed_raw, count),
        }
        for name, value in speed.items():
            if turn:  # the first turn warms up
                found[name].append(value)
        book.quiet(1_000)
    book.ledger.close()
    raw.close()
    return found


def _events(book: Book, *, record: bool) -> Callable[[int], None]:
    """Event after event of a new session."""
    name = book.name()
    return lambda n: book.event(name, n + 1, record=record)


def traffic(device: Device, key: RecordKey, warm: int, count: int) -> tuple[Traffic, int]:
    """What `count` sessions send to the device, and how many durable steps they are."""
    book = Book(device.folder / "session.db", key)
    for _ in range(warm):
        book.session()
        book.quiet(1_000)
    device.settle()
    before = device.traffic()
    steps = 0
    for _ in range(count):
        steps += book.session()
        book.quiet(1_000)
    device.settle()
    done = device.traffic() - before
    book.ledger.close()
    return done, steps


def fill(path: Path, key: RecordKey, events: int) -> None:
    """`events` old events of closed sessions, with a record each, written in bulk."""
    book = Book(path, key, seed=8)
    record = book.record("old")
    db = book.ledger._db
    db.pragma("synchronous", "off")
    db.pragma("foreign_keys", 0)
    data = plain.dumps(EVENT_DATA)
    columns = (1, 1, 1, "trusted")
    sessions = range(1, events // EVENTS + 1)
    with db:
        db.execute("INSERT INTO boot(id) VALUES ('old')")
        for n in sessions:
            db.execute(
                "INSERT INTO session VALUES (?, ?, 'E', 't1', 'closed', 0, ?, 1, 1, 1, 'trusted', 1, 1, 1,"
                " 'trusted', 0)",
                (n, book.name(), EVENTS),
            )
            key_of_record = (1 << 40) + n
            db.execute(
                "INSERT INTO record VALUES (?, 'session', ?, 1, 1, 1, 'trusted', ?, ?)",
                (key_of_record, n, bytes.fromhex(record.hash), record.jws),
            )
            db.executemany(
                "INSERT INTO event VALUES (?, 'progress', ?, 'charging', 1, ?, ?, ?, ?, NULL)",
                [(n * EVENTS_PER_SESSION + k, data, *columns) for k in range(1, EVENTS + 1)],
            )
        db.execute("UPDATE chain SET acked_through = ?", (len(sessions),))
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    book.ledger.close()


def old_and_new(folder: Path, key: RecordKey, rounds: int, count: int) -> dict[str, float]:
    """Seconds of an append, by turns: into an empty ledger, and into the one of `fill`."""
    books = {name: Book(folder / f"{name}.db", key) for name in ("new", "old")}
    found: dict[str, list[float]] = {name: [] for name in books}
    for turn in range(rounds + 1):
        for name, book in books.items():
            times = []
            for _ in range(count):
                session = book.name()
                for n in (1, 2):
                    began = time.perf_counter()
                    book.event(session, n)
                    times.append(time.perf_counter() - began)
            if turn:
                found[name].append(median(times))
            book.quiet(1_000)
    for book in books.values():
        book.ledger.close()
    return {name: median(values) for name, values in found.items()}


OPENING = """
import asyncio, sys
from agent.station.station import Station
from agent.station.clock import SystemClock
from agent.station.keeper import Keeper
from agent.ledger import AsyncLedger
async def main():
    ledger = await AsyncLedger.open(sys.argv[1], "DE*ABC*S1")
    keeper = Keeper(ledger, SystemClock(), lambda *a, **k: None)
    await keeper.load()
    await ledger.outbox_status()
    print("READY", flush=True)
    await ledger.close()
asyncio.run(main())
"""


def seconds_to_ready(path: Path) -> float:
    """From the start of a process that imports the whole agent until its ledger is open and replayed."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", OPENING, str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - began
    if line.strip() != b"READY":
        raise RuntimeError(f"{path} was not opened")
    return took


def openings(folder: Path, rounds: int) -> dict[str, float]:
    found: dict[str, list[float]] = {"new": [], "old": []}
    for turn in range(rounds + 1):
        for name, values in found.items():
            took = seconds_to_ready(folder / f"{name}.db")
            if turn:
                values.append(took)
    return {name: median(values) for name, values in found.items()}
