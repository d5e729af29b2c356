"""How the ledger's file is opened: the same code on flash and on a test's forgetful disk.

The order of the pragmas is load-bearing (measured with power cuts at every disk operation):

* `locking_mode=EXCLUSIVE` before the first access: no -shm file, one process only, and SQLite's
  WAL-reset race cannot occur.
* `synchronous=EXTRA` before `journal_mode`: FULL does not sync the directory after deleting the journal
  of the file's creation; when that journal comes back after a cut SQLite rolls the file back to nothing.
* `journal_mode=WAL` falls back to DELETE in silence where a disk cannot do it, so it is asserted.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import apsw

from agent.ledger import mark
from agent.ledger.errors import (
    LedgerBusy,
    LedgerDamaged,
    LedgerError,
    LedgerFailed,
    LedgerForeign,
    LedgerMissing,
)
from agent.ledger.schema import APPLICATION_ID, MIGRATIONS, READABLE_BY
from agent.ledger.wal import PAGE_SIZE

# Cache of 256 KiB (negative means KiB): the working set is a few sessions.
CACHE_KIB = 256
# The log may grow to 4 MiB before a commit must move it into the file; idle moments do it earlier.
WAL_PAGES = 4000
# A file of this size is checked whole before it is used: some 50 ms on a small board. A larger one is looked
# at where the start needs it, and checked whole a slice at a time once the station runs (see scrub).
CHECK_AT_ONCE_BYTES = 32 * 1024 * 1024
# Beside the ledger: a file of this name has it checked whole at the next opening, whatever its size.
SUSPECT_SUFFIX = "-suspect"
# Unix mode of the file and its log: they hold who charged where and when.
FILE_MODE = 0o600

_BEFORE_ACCESS = (
    (
        "locking_mode",
        "exclusive",
        "exclusive",
    ),  # first: even asking for the cache size reads the file
    ("synchronous", "extra", 3),
    ("page_size", PAGE_SIZE, None),
    ("cache_size", -CACHE_KIB, -CACHE_KIB),
)
_AFTER_CHECK = (
    ("journal_mode", "wal", "wal"),
    ("foreign_keys", 1, 1),
    # What is deleted on purpose (a card's HMAC) shall not stay readable in free pages.
    ("secure_delete", 1, 1),
)
DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)


class Opened(NamedTuple):
    """`checked`: the whole file was looked through."""

    db: apsw.Connection
    checked: bool


def open_database(path: Path, *, create: bool) -> Opened:
    """A connection ready for use by one thread at a time, its schema up to date. A damaged or foreign
    file is refused before anything of ours is written to it. Raises LedgerError's family."""
    db = _connect(path, create)
    try:
        # SQLite would write the log into the file and delete it when the last connection closes: not into
        # a file that is found damaged; and a log that stays is never grown again, which costs flushes.
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        _pragmas(db, _BEFORE_ACCESS)
        new, checked = _examine(db, path)
        _pragmas(db, _AFTER_CHECK)
        db.wal_autocheckpoint(WAL_PAGES)
        _migrate(db)
        if new:
            make_durable(path)
    except BaseException as error:
        db.close()
        if isinstance(error, apsw.Error):
            raise translate(error, path) from error
        raise
    return Opened(db, checked)


def _connect(path: Path, create: bool) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    try:
        db = apsw.Connection(str(path), flags=flags)
    except apsw.Error as error:
        raise translate(error, path) from error
    if create:
        # The log inherits this mode. A simulated disk has no such file; nothing to protect there.
        with contextlib.suppress(FileNotFoundError):
            path.chmod(FILE_MODE)
    return db


def _pragmas(db: apsw.Connection, wanted: tuple[tuple[str, str | int, object], ...]) -> None:
    for name, value, expected in wanted:
        db.pragma(name, value)
        if expected is not None and (got := db.pragma(name)) != expected:
            raise LedgerError(
                "LED-006",
                f"the disk does not allow {name}={value} (it stays {got}); the ledger would not "
                "survive a power cut there; put the state directory on a local file system",
            )


def _examine(db: apsw.Connection, path: Path) -> tuple[bool, bool]:
    """Read-only look at what is there: whether it is new, and whether it was checked whole. Takes the
    exclusive lock."""
    readable_by, owner = int(db.pragma("user_version")), int(db.pragma("application_id"))
    empty = db.execute("SELECT count(*) FROM sqlite_schema").get == 0
    if empty and readable_by == 0:
        return True, True
    if owner != APPLICATION_ID:
        raise LedgerForeign("LED-004", f"{path} is a database, but not a voltill ledger")
    if readable_by > len(MIGRATIONS):
        raise LedgerForeign(
            "LED-005",
            f"{path} was written by a newer voltill (it needs schema {readable_by}; this one knows up "
            f"to {len(MIGRATIONS)}); install the newer version again",
        )
    # The log first: without it the pages of the file need not fit each other.
    if db.pragma("journal_mode") == "wal" and (why := mark.missing_commits(db, path)) is not None:
        raise LedgerDamaged("LED-016", f"{path} lacks its newest commits ({why})")
    if not (suspect(path).exists() or _bytes(db) <= CHECK_AT_ONCE_BYTES):
        return False, False
    if (verdict := db.execute("PRAGMA integrity_check(1)").get) != "ok":
        raise damaged(path, str(verdict))
    return False, True


def _bytes(db: apsw.Connection) -> int:
    return int(db.pragma("page_count")) * int(db.pragma("page_size"))


def suspect(path: Path) -> Path:
    return path.with_name(path.name + SUSPECT_SUFFIX)


def schema_of(db: apsw.Connection) -> int:
    """How many migrations were applied. Files of the first version have no row that says so."""
    if db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'").get == 0:
        return 0
    stored = db.execute("SELECT value FROM meta WHERE key = 'schema'").get
    return int(db.pragma("user_version") if stored is None else stored)


def _migrate(db: apsw.Connection) -> None:
    """Each step is one transaction, so a cut leaves the old schema or the new one."""
    for number, script in enumerate(MIGRATIONS[schema_of(db) :], schema_of(db) + 1):
        with db:
            db.execute(script)
            db.execute(
                "INSERT INTO meta(key, value) VALUES ('schema', ?) ON CONFLICT(key)"
                " DO UPDATE SET value = excluded.value",
                (str(number),),
            )
            if int(db.pragma("user_version")) < READABLE_BY:
                db.pragma("user_version", READABLE_BY)
            db.pragma("application_id", APPLICATION_ID)


def make_durable(path: Path) -> None:
    """The file's name, too, must survive a cut; fsync of the file alone does not promise that."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def damaged(path: Path, verdict: str) -> LedgerDamaged:
    return LedgerDamaged(
        "LED-003",
        f"{path} is damaged ({verdict}); nothing was written to it; the service sets it aside whole at "
        "its next start and goes on with what can be proven",
    )


def translate(error: apsw.Error, path: Path) -> LedgerError:
    """SQLite's trouble in the words of a person at the station."""
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return LedgerBusy(
            "LED-001",
            f"{path} is in use by another process (the service holds it); ask through the running "
            "service, or stop it first",
        )
    if isinstance(error, DAMAGE):
        return damaged(path, str(error))
    if isinstance(error, apsw.CantOpenError):
        return LedgerMissing(
            "LED-002",
            f"{path} cannot be opened; expected a ledger in a directory that belongs to the service "
            "user; check --state and its owner",
        )
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError):
        return LedgerMissing(
            "LED-002", f"{path} is not writable by this user; run as the service user"
        )
    return LedgerFailed(
        "LED-007", f"{path}: the disk failed ({error}); the ledger must be reopened"
    )
