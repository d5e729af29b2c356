"""What the terminal remembers over a power cut, and the acquirer's ledger.

The store is one JSON file, replaced atomically and synced at every change. The ledger is a file of
JSON lines that only grows: what the acquirer's host has booked for this terminal. A change that books
something names its rows in the store first; rows that a crash kept out of the ledger are appended at
the next start, so the two files never tell different stories."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Row = dict[str, Any]

CONFIG_AFTER_LOG_OFF = 0x86
# Rows of the ledger that are looked at for rows of the last crash: one change books few.
LEDGER_TAIL_ROWS = 64
RECEIPT_MAX = 9999
TRACE_MAX = 999_999


@dataclass(slots=True)
class Hold:
    """An open pre-authorisation; also what else was approved for a card (a payment, a refund).
    `date` is MMDD, `time` HHMMSS, `card` a name of the card table, `born` the approval in ISO form,
    `tid` the terminal it was made at. `expired`: the bank has freed it, the terminal does not know."""

    receipt: int
    trace: int
    turnover: int
    amount_minor: int
    currency: str
    card: str
    aid: str
    date: str
    time: str
    born: str = ""
    tid: str = ""
    increments: int = 0
    expired: bool = False

    @property
    def key(self) -> tuple[int, int]:
        """Receipt numbers alone are given again."""
        return self.receipt, self.trace


@dataclass(slots=True)
class Booking:
    """What the turnover store of the current batch holds: payment, capture or refund."""

    kind: str
    receipt: int
    trace: int
    amount_minor: int
    hold: Hold
    reversed: bool = False


@dataclass(slots=True)
class Pending:
    """A transaction that the host has done and the ECR has not yet answered for."""

    kind: (
        str  # hold | increment | payment | refund | capture | release | reversal | foreign_release
    )
    receipt: int
    trace: int
    amount_minor: int
    result: str  # the 04 0F, hexadecimal
    hold: Hold
    rows: list[Row] = field(default_factory=list)  # booked at the commit point
    sync: bool = False  # the ECR follows the last receipt number (1F1F)
    reverses: int | None = None  # receipt of the booking that a reversal takes back


@dataclass(slots=True)
class Memory:
    tid: str = "52523535"
    currency: str = "978"
    next_receipt: int = 231
    next_trace: int = 975
    turnover: int = 1
    config: int = CONFIG_AFTER_LOG_OFF
    registered: bool = False
    tlv_allowed: bool = False
    sends_currency: bool = False
    ecr_commands: list[str] = field(default_factory=list)
    charset: int = 0xFF
    language: int = 0x01
    printer_width: int | None = None
    max_apdu: int | None = None
    baud: int | None = None  # set by 08 40
    clock_offset_s: float = 0.0
    world_offset_s: float = 0.0  # how far a test has advanced everybody's time
    day_opened: str = ""
    setup_due: list[str] = field(default_factory=list)  # diagnosis, initialise
    holds: list[Hold] = field(default_factory=list)
    foreign: list[Hold] = field(default_factory=list)  # at the acquirer, unknown to this terminal
    bookings: list[Booking] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    configuration: dict[str, str] = field(default_factory=dict)  # tags of 08 13, hexadecimal
    last_result: str | None = None  # the last stored 04 0F, hexadecimal
    last: Pending | None = None  # the last transaction that became final
    receipt_last: int = 0
    receipt_before: int = 0
    pending: Pending | None = None
    rows_due: list[Row] = field(default_factory=list)


def _memory(data: dict[str, Any]) -> Memory:
    known = {item.name for item in fields(Memory)}
    unknown = set(data) - known
    if unknown:
        raise ValueError(f"unknown keys in the store: {', '.join(sorted(unknown))}")
    memory = Memory(**data)
    memory.holds = [Hold(**hold) for hold in data.get("holds", [])]
    memory.foreign = [Hold(**hold) for hold in data.get("foreign", [])]
    memory.bookings = [
        Booking(**{**booking, "hold": Hold(**booking["hold"])})
        for booking in data.get("bookings", [])
    ]
    memory.pending = _pending(data.get("pending"))
    memory.last = _pending(data.get("last"))
    return memory


def _pending(data: dict[str, Any] | None) -> Pending | None:
    return Pending(**{**data, "hold": Hold(**data["hold"])}) if data else None


class Store:
    """`memory` may be changed freely; `save()` makes it durable. Opening an existing file continues
    it: `tid` and `currency` only count for a new one."""

    def __init__(self, path: Path, ledger: Path, tid: str, currency: str) -> None:
        self.path, self.ledger = path, ledger
        self.skew_s: Callable[[], float] = lambda: 0.0
        if path.exists():
            self.memory = _load(path)
        else:
            self.memory = Memory(tid=tid, currency=currency)
            self.memory.day_opened = self.world_now().isoformat()
            self.save()
        ledger.touch()
        self._book_due()

    def reload(self) -> None:
        """What a power cut leaves: the file, nothing else."""
        self.memory = _load(self.path)
        self._book_due()

    def save(self, rows: list[Row] | None = None) -> None:
        """Make the memory durable; `rows` are booked in the ledger with it, exactly once."""
        self.memory.rows_due = rows or []
        temporary = self.path.with_name(self.path.name + ".new")
        with temporary.open("w") as file:
            json.dump(asdict(self.memory), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        _sync_folder(self.path.parent)
        self._append(self.memory.rows_due)
        self.memory.rows_due = []

    def _book_due(self) -> None:
        due = self.memory.rows_due
        booked = {row["id"] for row in self.rows()[-max(LEDGER_TAIL_ROWS, len(due)) :]}
        self._append([row for row in due if row["id"] not in booked])
        self.memory.rows_due = []

    def _append(self, rows: list[Row]) -> None:
        if not rows:
            return
        with self.ledger.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[Row]:
        """The acquirer's ledger. A last line that a crash cut short is no row, and is repaired."""
        text = self.ledger.read_text()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            with self.ledger.open("r+") as file:
                file.truncate(len(whole.encode()))
        return [json.loads(line) for line in whole.splitlines()]

    def next_numbers(
        self, *, keep_receipt: int | None = None, skip_open: bool = True
    ) -> tuple[int, int]:
        """A new receipt number (1 to 9999) and trace number; both wrap round. `skip_open`: numbers of
        open holds are not given again. `keep_receipt`: only the trace is new."""
        memory = self.memory
        trace = memory.next_trace
        memory.next_trace = trace % TRACE_MAX + 1
        if keep_receipt is not None:
            return keep_receipt, trace
        taken = {hold.receipt for hold in memory.holds} if skip_open else set()
        receipt = memory.next_receipt
        while receipt in taken:
            receipt = receipt % RECEIPT_MAX + 1
        memory.next_receipt = receipt % RECEIPT_MAX + 1
        return receipt, trace

    def world_now(self) -> datetime:
        """The time at the acquirer."""
        return datetime.now() + timedelta(seconds=self.memory.world_offset_s)

    def now(self) -> datetime:
        """The terminal's own clock."""
        return self.world_now() + timedelta(seconds=self.memory.clock_offset_s + self.skew_s())

    def hold(self, receipt: int) -> Hold | None:
        """The newest open hold of this number."""
        found = [hold for hold in self.memory.holds if hold.receipt == receipt]
        return found[-1] if found else None

    def row(
        self, kind: str, receipt: int, trace: int, hold: Hold, amount_minor: int, **more: Any
    ) -> Row:
        """One movement at the acquirer. `hold` is what it belongs to; `more` goes in as it is."""
        memory = self.memory
        now = datetime.now(UTC) + timedelta(seconds=memory.world_offset_s)
        tid = hold.tid or memory.tid
        return {
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "kind": kind,
            "receipt": receipt,
            "trace": trace,
            "turnover": memory.turnover,
            "hold_receipt": hold.receipt,
            "amount_minor": amount_minor,
            "currency": hold.currency,
            "tid": tid,
            "id": f"{tid}-{memory.turnover}-{receipt}-{trace}-{kind}",
            **more,
        }


def _load(path: Path) -> Memory:
    try:
        return _memory(json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no terminal store: {error}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
