"""What the ledger tells. Every method is one look at a settled state."""

from __future__ import annotations

from agent.ledger import ocmf_pages, outbox, sessions, upkeep
from agent.ledger.core import Core
from agent.ledger.rows import EventRow, Head, OutboxStatus, RecordRow, SessionRow, UpkeepOrder
from agent.ledger.schema import EVENTS_PER_SESSION

# One call returns at most this many rows: a list of 1000 records is about 2 MiB.
MAX_ROWS = 1000


class Reading(Core):
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
            return self._head_of(self._chain())

    def _head_of(self, chain: outbox.Chain) -> Head:
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

    def every_record(self, after: int, limit: int) -> tuple[list[RecordRow], int]:
        """Records of all chains, oldest first, behind place `after` (0 at first); the next place."""
        with self._guard():
            keys = [
                key
                for (key,) in self._db.execute(
                    "SELECT id FROM record WHERE id > ? ORDER BY id LIMIT ?",
                    (after, min(limit, MAX_ROWS)),
                )
            ]
            if not keys:
                return [], after
            span = {"first": keys[0], "last": keys[-1]}
            where = "WHERE r.id BETWEEN :first AND :last ORDER BY r.id"
            return outbox.rows(self._db, where, span), keys[-1]

    def forgotten(self) -> bool:
        """Whether records are missing because their time was over."""
        with self._guard():
            return bool(self._db.execute("SELECT max(pruned_through) FROM chain").get)

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

    def unacked(self, limit: int, after_seq: int = 0, chain: str | None = None) -> list[RecordRow]:
        """What the back end has not acked of one chain (that of `outbox_status().chain` unless another is
        named), by number, above `after_seq`; without parked records."""
        with self._guard():
            found = outbox.chain_of(self._db, chain) if chain else outbox.sending(self._db)
            if found is None:
                return []
            return outbox.unacked(self._db, found, min(limit, MAX_ROWS), after_seq)

    def outbox_status(self) -> OutboxStatus:
        with self._guard():
            return outbox.status(self._db)

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

    def used_pages(self) -> dict[str, int]:
        """The last page of signed readings of each key; that of "" is where the others begin behind."""
        with self._guard():
            return ocmf_pages.used(self._db)

    def meta_get(self, key: str) -> str | None:
        with self._guard():
            return self._meta(f"user.{key}")
