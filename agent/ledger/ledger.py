"""The ledger: events, sessions, signed records and the outbox in one SQLite file, used from one thread.

Every method that changes something is one transaction that is durable when the method returns
(design §2 rule 1). Nothing is ever deleted but a card's HMAC. All checks of a call come before its first
write, so a refused call leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import apsw

from agent.ledger import checks, outbox, sessions, upkeep
from agent.ledger.errors import (
    LedgerDamaged,
    LedgerError,
    LedgerFailed,
    LedgerForeign,
    LedgerFull,
    LedgerMissing,
)
from agent.ledger.open import damaged, open_database, translate
from agent.ledger.rows import (
    AckOutcome,
    AckResult,
    Append,
    EventRow,
    Head,
    OutboxStatus,
    RecordRow,
    SessionRow,
    UpkeepOrder,
    UpkeepRow,
)
from agent.ledger.schema import EVENTS_PER_SESSION
from agent.trust.chain import record_hash

# One call returns at most this many rows: a list of 1000 records is about 2 MiB.
MAX_ROWS = 1000


def _new_chain() -> str:
    return secrets.token_hex(16)


class Ledger:
    """Open it with `Ledger.open`; close it before the interpreter ends."""

    def __init__(self, db: apsw.Connection, path: Path, station: str) -> None:
        self._db, self.path, self.station = db, path, station
        self._failed: LedgerError | None = None

    @classmethod
    def open(
        cls,
        path: Path | str,
        station: str | None,
        *,
        create: bool = True,
        new_chain: Callable[[], str] = _new_chain,
    ) -> Ledger:
        """Open or (with `create`) make the ledger of `station`; None opens whosever it is.
        `new_chain` gives the random id of a new ledger's chain. Raises LedgerBusy, LedgerMissing,
        LedgerDamaged (nothing was written), LedgerForeign, LedgerError."""
        path = Path(path)
        db = open_database(path, create=create)
        ledger = cls(db, path, station or "")
        try:
            ledger._claim(new_chain)
            ledger._check_head()
        except BaseException:
            db.close()
            raise
        return ledger

    def close(self) -> None:
        """Idempotent. Moves the log into the file."""
        self._db.close()

    # --- Writing ----------------------------------------------------------------------------------

    def append(
        self,
        event: EventRow,
        *,
        evse: str | None,
        terminal: str,
        open: bool,
        record: RecordRow | None = None,
        card_mac: bytes | None = None,
    ) -> None:
        """Store an event, its session's row and, into the outbox, a record; durable on return.
        Raises LedgerError when a number, the chain or the content is wrong, LedgerFull, LedgerFailed."""
        refused = self.append_many([Append(event, evse, terminal, open, record, card_mac)])[0]
        if refused is not None:
            raise refused

    def append_many(self, steps: Sequence[Append]) -> list[LedgerError | None]:
        """Several steps in one transaction and one sync, in order. A refused step does not stop the
        others; its place in the result holds the refusal. Raises what fails them all."""
        with self._write():
            return [self._step(step) for step in steps]

    def _step(self, step: Append) -> LedgerError | None:
        event, record = step.event, step.record
        try:
            data = checks.event_text(event)
            number, last_n, terminal = sessions.find(self._db, event.session_id)
            checks.follows(event, last_n, terminal, step.terminal)
            if record is not None:
                checks.record_follows(record, self.head(), self.station, event.session_id)
        except LedgerError as refused:
            return refused
        stamp = sessions.stamp_columns(self._db, event.stamp)
        number = sessions.put(self._db, step, number, stamp)
        key = None if record is None else self._new_record(record, number, stamp)
        sessions.put_event(self._db, event, data, number, stamp, key)
        if step.card_mac is not None:
            self._db.execute(
                "INSERT INTO card(session, mac) VALUES (?, ?) ON CONFLICT(session)"
                " DO UPDATE SET mac = excluded.mac",
                (number, step.card_mac),
            )
        return None

    def _new_record(self, record: RecordRow, session: int, stamp: tuple[int, int, int, str]) -> int:
        key = self._chain().base + record.seq
        owner = session if record.session_id is not None else None
        self._db.execute(
            "INSERT INTO record(id, type, session, utc_ms, boot_ms, boot, quality, hash, jws)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (key, record.type, owner, *stamp, bytes.fromhex(record.hash), record.jws),
        )
        return key

    def apply_ack(
        self,
        chain: str,
        through_seq: int,
        hash: str,
        holes: Sequence[int] = (),
        refused: Sequence[tuple[int, str]] = (),
        *,
        asked_ms: int = 0,
    ) -> AckResult:
        """Mark what a verified ack covers. `hash` must be ours at `through_seq`, else it is a fork:
        recorded, nothing marked. `holes` (any number we have, acked before or not) become unacked
        again, `refused` (seq, code) are parked. `asked_ms`: the time in the ack, which keeps an older
        ack that arrives late from cancelling a newer request."""
        with self._write():
            found = outbox.chain_of(self._db, chain)
            if found is None:
                return AckResult(AckOutcome.UNKNOWN_CHAIN, self._chain().acked_through)
            return outbox.apply(self._db, found, through_seq, hash, holes, refused, asked_ms)

    def forget_card(self, session_id: str) -> None:
        """Delete the HMAC of the card of `session_id`, if there is one."""
        with self._write():
            self._db.execute(
                "DELETE FROM card WHERE session = (SELECT n FROM session WHERE id = ?)",
                (session_id,),
            )

    def meta_set(self, key: str, value: str) -> None:
        with self._write():
            self._db.execute(
                "INSERT INTO meta(key, value) VALUES (?, ?) ON CONFLICT(key)"
                " DO UPDATE SET value = excluded.value",
                (f"user.{key}", value),
            )

    def add_upkeep(self, row: UpkeepRow, order: int | None = None) -> int:
        """Store a step of upkeep, durable on return; the number of its order. Without `order` it is
        the intent of a new one. Raises LedgerError when it cannot be stored or continues nothing."""
        data = checks.upkeep_text(row)
        with self._write():
            if order is not None and not upkeep.is_order(self._db, order, row):
                raise LedgerError(
                    "LED-010", f"{row.task} {order} of {row.terminal} was never begun"
                )
            return upkeep.put(
                self._db, row, data, order, sessions.stamp_columns(self._db, row.stamp)
            )

    def checkpoint(self) -> int:
        """Move the log into the file; to be called in idle moments. Pages still in the log."""
        with self._guard():
            log, moved = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            return max(0, log - moved)

    # --- Reading ----------------------------------------------------------------------------------

    def events(self, session_id: str) -> list[EventRow]:
        """All events of a session in order; empty when it is unknown."""
        with self._guard():
            return sessions.events(self._db, session_id)

    def sessions(self, *, open_only: bool = False, limit: int = 100) -> list[SessionRow]:
        """Newest first, at most MAX_ROWS."""
        where = "WHERE s.open = 1" if open_only else ""
        newest = f"{where} ORDER BY s.n DESC LIMIT ?"
        with self._guard():
            return sessions.rows(self._db, newest, (min(limit, MAX_ROWS),))

    def session(self, session_id: str) -> SessionRow | None:
        with self._guard():
            return next(iter(sessions.rows(self._db, "WHERE s.id = ?", (session_id,))), None)

    def head(self) -> Head:
        """The newest record of the current chain."""
        with self._guard():
            chain = self._chain()
            digest = outbox.hash_at(self._db, chain, chain.head_seq)
            assert digest is not None
            return Head(chain.id, chain.head_seq, digest)

    def records(self, from_seq: int, limit: int, chain: str | None = None) -> list[RecordRow]:
        """Records from number `from_seq` on, of the current chain unless another is named."""
        with self._guard():
            found = outbox.chain_of(self._db, chain)
            if found is None:
                return []
            return outbox.rows(
                self._db,
                "WHERE r.id >= :first AND r.id <= :last ORDER BY r.id LIMIT :limit",
                {
                    "first": found.base + max(1, from_seq),
                    "last": found.base + found.head_seq,
                    "limit": min(limit, MAX_ROWS),
                },
            )

    def record_of(self, session_id: str) -> list[RecordRow]:
        """The records of one session, in order."""
        with self._guard():
            number, last_n, _ = sessions.find(self._db, session_id)
            if number is None:
                return []
            base = number * EVENTS_PER_SESSION
            return outbox.rows(
                self._db,
                "WHERE r.id IN (SELECT record FROM event WHERE id BETWEEN :first AND :last"
                " AND record IS NOT NULL) AND r.session = :session ORDER BY r.id",
                {"first": base + 1, "last": base + last_n, "session": number},
            )

    def unacked(self, limit: int, after_seq: int = 0) -> list[RecordRow]:
        """What the back end has not acked, by number, above `after_seq`; without parked records."""
        with self._guard():
            return outbox.unacked(self._db, self._chain(), min(limit, MAX_ROWS), after_seq)

    def outbox_status(self) -> OutboxStatus:
        with self._guard():
            return outbox.status(self._db, self._chain())

    def card_mac(self, session_id: str) -> bytes | None:
        with self._guard():
            mac: bytes | None = self._db.execute(
                "SELECT c.mac FROM card c JOIN session s ON s.n = c.session WHERE s.id = ?",
                (session_id,),
            ).get
            return mac

    def upkeep(self, task: str) -> list[UpkeepOrder]:
        """The newest order of `task` of each terminal, with its steps."""
        with self._guard():
            return upkeep.latest(self._db, task)

    def meta_get(self, key: str) -> str | None:
        with self._guard():
            return self._meta(f"user.{key}")

    # --- Inside -----------------------------------------------------------------------------------

    def _claim(self, new_chain: Callable[[], str]) -> None:
        """The file belongs to one station; a new one gets the station's name and a chain."""
        with self._guard():
            owner = self._meta("station")
        if not self.station:
            if owner is None:
                raise LedgerMissing(
                    "LED-002", f"{self.path} holds nothing yet; run the service once"
                )
            self.station = owner
        elif owner is None:
            with self._write():
                self._db.execute("INSERT INTO meta VALUES ('station', ?)", (self.station,))
                self._db.execute("INSERT INTO chain(id) VALUES (?)", (new_chain(),))
        elif owner != self.station:
            raise LedgerForeign(
                "LED-009",
                f"{self.path} is the ledger of station {owner}, the configuration names "
                f"{self.station}; each station needs its own state directory",
            )

    def _check_head(self) -> None:
        """The structure was checked on opening; this looks whether the newest record is itself."""
        with self._guard():
            chain = self._chain()
            newest = outbox.rows(self._db, "WHERE r.id = :id", {"id": chain.base + chain.head_seq})
        if any(record_hash(row.jws) != row.hash for row in newest):
            raise damaged(self.path, f"record {chain.head_seq} is not what was stored")

    def _meta(self, key: str) -> str | None:
        value: str | None = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).get
        return value

    def _chain(self) -> outbox.Chain:
        chain = outbox.chain_of(self._db)
        assert chain is not None
        return chain

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Say SQLite's errors in our words; after the disk failed nothing works until it is reopened,
        because the kernel may have dropped what SQLite believes it wrote."""
        if self._failed is not None:
            raise LedgerFailed("LED-007", f"{self._failed.text} (since then every call is refused)")
        try:
            yield
        except apsw.FullError:
            raise LedgerFull(
                "LED-008",
                f"{self.path}: the disk is full; earlier records are safe; free space on it",
            ) from None
        except apsw.ConnectionClosedError:
            raise LedgerError("LED-015", f"{self.path} is closed") from None
        except apsw.Error as error:
            told = translate(error, self.path)
            if isinstance(told, LedgerFailed | LedgerDamaged):
                self._failed = told
            raise told from error

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        """One durable transaction."""
        with self._guard():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # SQLite rolls back by itself on some errors (full, I/O).
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
