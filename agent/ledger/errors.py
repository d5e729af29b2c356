"""What can go wrong with the ledger. Every error carries its stable id of docs/errors.md."""

from __future__ import annotations


class LedgerError(Exception):
    """The call was refused and nothing was stored. `code` is a stable id of docs/errors.md."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class LedgerBusy(LedgerError):
    """Another process holds the file: nearly always the running service."""


class LedgerMissing(LedgerError):
    """There is no ledger at the path, or its directory is missing or closed to us."""


class LedgerDamaged(LedgerError):
    """The file's content cannot be trusted. It was not written to."""


class LedgerForeign(LedgerError):
    """The file is a database of something or someone else, or of a newer voltill."""


class LedgerFailed(LedgerError):
    """The disk failed during a write. What is durable is unknown until the file is opened again."""


class LedgerFull(LedgerError):
    """The disk is full. The call was not stored; earlier ones are safe."""


class LedgerOverloaded(LedgerError):
    """More calls wait than the ledger's thread can be behind by."""
