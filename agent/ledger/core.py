"""The connection and what guards it: SQLite's errors in our words, one durable transaction at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import apsw

from agent.ledger import outbox
from agent.ledger.errors import LedgerDamaged, LedgerError, LedgerFailed, LedgerFull
from agent.ledger.open import translate


class Core:
    """`station`: whose ledger it is."""

    def __init__(self, db: apsw.Connection, path: Path, station: str) -> None:
        self._db, self.path, self.station = db, path, station
        self._failed: LedgerError | None = None

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
                f"{self.path}: the disk is full; no new session begins, what is stored is safe; free "
                "space on it",
            ) from None
        except (apsw.ConstraintError, apsw.MismatchError) as error:
            # A fault of ours: this call is refused, the disk is as good as before.
            raise LedgerError(
                "LED-010", f"{self.path}: refused by a constraint: {error}"
            ) from error
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
