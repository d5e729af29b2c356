"""The ledger: events, sessions, signed records and the outbox in one SQLite file, used from one thread.

Every method that changes something is one transaction that is durable when the method returns
(design §2 rule 1). All checks of a call come before its first write, so a refused call leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import apsw

from agent.ledger import checks, mark, ocmf_pages, outbox, retention, scrub, sessions, upkeep
from agent.ledger.ballast import Ballast
from agent.ledger.errors import (
    LedgerError,
    LedgerForeign,
    LedgerFull,
    LedgerMissing,
)
from agent.ledger.open import DAMAGE, damaged, open_database, suspect
from agent.ledger.reading import Reading
from agent.ledger.retention import Forgotten
from agent.ledger.rows import AckOutcome, AckResult, Append, EventRow, RecordRow, UpkeepRow
from agent.trust.chain import record_hash

Done = TypeVar("Done")


def new_chain_id() -> str:
    return secrets.token_hex(16)


class Ledger(Reading):
    """Open it with `Ledger.open`; close it before the interpreter ends. `full`: no new session begins,
    because the room for ending the running ones is not there or in use. `checked`: the whole file was looked
    through when it was opened."""

    def __init__(
        self,
        db: apsw.Connection,
        path: Path,
        station: str,
        *,
        checked: bool = True,
        ballast: Ballast | None = None,
    ) -> None:
        super().__init__(db, path, station)
        self.checked, self.full = checked, False
        self._ballast, self._marks = ballast, False
        self._acked_ms = 0  # the newest time that a signed ack told since the ledger was opened
        self._forget_after, self._forgotten = 0, dict[int, int]()
        self._scrub: Iterator[str] | None = None

    @classmethod
    def open(
        cls,
        path: Path | str,
        station: str | None,
        *,
        create: bool = True,
        new_chain: Callable[[], str] = new_chain_id,
        ballast: Ballast | None = None,
    ) -> Ledger:
        """Open or (with `create`) make the ledger of `station`; None opens whosever it is.
        `new_chain` gives the random id of a new ledger's chain; `ballast` is taken where there is room.
        Raises LedgerBusy, LedgerMissing, LedgerDamaged (nothing was written), LedgerForeign, LedgerError."""
        path = Path(path)
        db, checked = open_database(path, create=create)
        ledger = cls(db, path, station or "", checked=checked, ballast=ballast)
        try:
            ledger._claim(new_chain)
            ledger._check_head()
            if create:
                ledger._begin_use()
        except BaseException:
            db.close()
            raise
        return ledger

    def close(self) -> None:
        """Idempotent. Says in the file that nothing is missing when its log is."""
        if self._marks and self._failed is None:
            self._marks = False
            # What cannot be written is found at the next opening: the log is still there.
            with contextlib.suppress(LedgerError):
                with self._write():
                    mark.set_closed(self._db)
                self._fold_log()
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
        if len(steps) > 1 and not self.full:
            try:
                with self._write():
                    return [self._step(step) for step in steps]
            except LedgerError as error:
                if self._failed is not None:
                    raise
                self.full = self.full or isinstance(error, LedgerFull)
        # One by one: what one of them does to the disk must not cost the others.
        return [self._alone(step) for step in steps]

    def _alone(self, step: Append) -> LedgerError | None:
        try:
            if step.event.n > 1:
                return self._in_room(lambda: self._step(step))
            if not self.full:
                with self._write():
                    return self._step(step)
        except LedgerFull as refused:
            self.full = True
            return refused
        except LedgerError as refused:
            return refused
        # The ballast is for what has begun.
        return LedgerFull(
            "LED-008",
            f"{self.path}: the disk is full; no new session begins before there is room for the running "
            "ones to end; free space on it",
        )

    def _in_room(self, work: Callable[[], Done]) -> Done:
        """One transaction, a second time without the ballast when the disk is full."""
        try:
            with self._write():
                return work()
        except LedgerFull:
            if not self._let_go():
                raise
        with self._write():
            return work()

    def _let_go(self) -> bool:
        """True when the ballast made room."""
        self.full = True
        if self._ballast is None or not self._ballast.held:
            return False
        self._ballast.release()
        return True

    def look_for_room(self) -> bool:
        """Take the ballast if the disk has it. False while no new session may begin."""
        if self._ballast is not None:
            self.full = not self._ballast.hold()
        return not self.full

    def _step(self, step: Append) -> LedgerError | None:
        event, record = step.event, step.record
        try:
            data = checks.event_text(event)
            number, last_n, terminal = sessions.find(self._db, event.session_id)
            checks.follows(event, last_n, terminal, step.terminal)
            chain = None if record is None else self._chain()
            if record is not None and chain is not None:
                head = self._head_of(chain)
                checks.record_follows(record, head, self.station, event.session_id)
                if record.page is not None:
                    ocmf_pages.check(self._db, record.page)
        except LedgerError as refused:
            return refused
        stamp = sessions.stamp_columns(self._db, event.stamp)
        number = sessions.put(self._db, step, number, stamp)
        key = None
        if record is not None and chain is not None:
            key = self._new_record(chain.base + record.seq, record, number, stamp)
        sessions.put_event(self._db, event, data, number, stamp, key)
        if step.card_mac is not None:
            self._db.execute(
                "INSERT INTO card(session, mac) VALUES (?, ?) ON CONFLICT(session)"
                " DO UPDATE SET mac = excluded.mac",
                (number, step.card_mac),
            )
        if not step.open:
            # In the same commit: a crash leaves no code of a card behind, and it costs no flush of its own.
            self._db.execute("DELETE FROM card WHERE session = ?", (number,))
        return None

    def _new_record(
        self, key: int, record: RecordRow, session: int, stamp: sessions.StampColumns
    ) -> int:
        owner = session if record.session_id is not None else None
        self._db.execute(
            "INSERT INTO record(id, type, session, utc_ms, boot_ms, boot, quality, hash, jws)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (key, record.type, owner, *stamp, bytes.fromhex(record.hash), record.jws),
        )
        if record.page is not None:
            ocmf_pages.put(self._db, record.page)
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
        now_ms: int | None = None,
    ) -> AckResult:
        """Mark what a verified ack covers. `hash` must be ours at `through_seq`, else it is a fork:
        recorded, nothing marked. `holes` (any number we have, acked before or not) become unacked
        again, `refused` (seq, code) are parked. `asked_ms`: the time in the ack, which keeps an older
        ack that arrives late from cancelling a newer request. `now_ms`: ours, where our clock is set; an
        ack from further ahead than a day counts as told when it came."""
        latest_ms, told_ms = None, asked_ms
        if now_ms is not None:
            latest_ms = now_ms + outbox.AHEAD_MOST_MS
            told_ms = asked_ms if asked_ms <= latest_ms else now_ms

        def work() -> AckResult:
            found = outbox.chain_of(self._db, chain)
            if found is None:
                return AckResult(AckOutcome.UNKNOWN_CHAIN, self._chain().acked_through)
            done = outbox.apply(self._db, found, through_seq, hash, holes, refused, told_ms)
            if done.outcome is AckOutcome.APPLIED:
                newest_ms = max(self._acked_ms, told_ms)
                self._acked_ms = newest_ms if latest_ms is None else min(newest_ms, latest_ms)
                through = min(through_seq, found.head_seq)
                retention.note_ack(self._db, found, through, asked_ms, latest_ms)
            return done

        return self._in_room(work)

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

        def work() -> int:
            if order is not None and not upkeep.is_order(self._db, order, row):
                raise LedgerError(
                    "LED-010", f"{row.task} {order} of {row.terminal} was never begun"
                )
            return upkeep.put(
                self._db, row, data, order, sessions.stamp_columns(self._db, row.stamp)
            )

        return self._in_room(work)

    # --- Upkeep of the file -----------------------------------------------------------------------

    def log_pages(self) -> int:
        """How many pages the log holds that the file does not have yet."""
        with self._guard():
            log, moved = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            return max(0, log - moved)

    def checkpoint(self) -> int:
        """Move the log into the file; to be called in idle moments. Pages still in the log."""
        if self._marks:
            with self._guard():
                behind = not mark.up_to_date(self._db)
            if behind:
                with self._write():
                    mark.set_in_use(self._db)
        return self._fold_log()

    def forget(self, keep_ms: int, utc_ms: int) -> Forgotten:
        """Delete a batch of settled sessions whose records were acked longer than `keep_ms` ago, by the
        back end's clock and by ours (`utc_ms`). To be called again while `at` is not None."""
        before = min(self._acked_ms, utc_ms) - keep_ms
        with self._guard():
            allowed = retention.limits(self._db, before)
        if allowed == self._forgotten:
            return Forgotten(0, None)
        self._db.pragma("foreign_keys", 0)
        try:
            with self._write():
                done = retention.forget(self._db, allowed, self._forget_after)
        finally:
            self._db.pragma("foreign_keys", 1)
        self._forget_after = done.at or 0
        if done.at is None:
            self._forgotten = allowed
        return done

    def scrub(self) -> bool:
        """Look through a slice of the file; False when all of it was seen. Raises LedgerDamaged, after which
        the ledger still works, as far as it does, and is checked whole at its next opening."""
        self._scrub = self._scrub or scrub.slices(self._db)
        try:
            wrong = next(self._scrub, None)
        except DAMAGE as error:
            wrong = str(error)
        if wrong:
            suspect(self.path).touch()
            raise damaged(self.path, wrong)
        return wrong is not None

    def _fold_log(self) -> int:
        with self._guard():
            log, moved = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            return max(0, log - moved)

    def _begin_use(self) -> None:
        """From here on the file itself says that a log belongs to it."""
        self.look_for_room()
        with self._guard():
            marked = mark.in_use(self._db)
        self._marks = True
        if not marked:
            with contextlib.suppress(LedgerFull):
                with self._write():
                    mark.set_in_use(self._db)
                self._fold_log()

    # --- Opening ----------------------------------------------------------------------------------

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
