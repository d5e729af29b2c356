"""Whether the log beside the ledger is the one that belongs to it.

Between two checkpoints the newest commits are in the log alone, and SQLite opens a ledger whose log is gone
without a word: rows that were answered are missing then, and the next record takes a number that the back end
already has. So while the ledger is in use its own pages say where they stood when they were last written: the
mark. An orderly end takes it away. A ledger with a mark and without a log has lost commits, unless it stands
further than the mark says: then a version that knows no mark has used and closed it since.

SQL only: the caller holds the transaction, or wants none."""

from __future__ import annotations

from pathlib import Path

import apsw

from agent.ledger import wal

_KEY = "mark"
_CLOSED = "closed"


def position(db: apsw.Connection) -> str:
    """How far the ledger stands."""
    event, record = db.execute(
        "SELECT (SELECT max(id) FROM event), (SELECT max(id) FROM record)"
    ).get
    return f"{event or 0}:{record or 0}"


def read(db: apsw.Connection) -> str:
    found = db.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).get
    return _CLOSED if found is None else str(found)


def set_in_use(db: apsw.Connection) -> None:
    _put(db, position(db))


def set_closed(db: apsw.Connection) -> None:
    _put(db, _CLOSED)


def in_use(db: apsw.Connection) -> bool:
    return read(db) != _CLOSED


def up_to_date(db: apsw.Connection) -> bool:
    return read(db) == position(db)


def _put(db: apsw.Connection, value: str) -> None:
    db.execute(
        "INSERT INTO meta(key, value) VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
        (_KEY, value),
    )


def missing_commits(db: apsw.Connection, path: Path) -> str | None:
    """What is wrong with the log of the ledger at `path`, which is open; None when nothing is known to be
    missing."""
    log = _open_log(path)
    if log is None:
        return f"its log {path.name}-wal cannot be read"
    try:
        if log.xFileSize() == 0:  # SQLite has just made it
            return f"its log {path.name}-wal is gone" if up_to_date(db) else None
        header = wal.header_of(_reader(log)(0, wal.HEADER))
        if header is None:
            lost = up_to_date(db) and _holds_more(path, _reader(log))
            return f"its log {path.name}-wal is destroyed" if lost else None
        valid, _ = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        beyond = wal.answered_beyond(_reader(log), header, valid)
        return None if beyond is None else f"its log is damaged behind frame {valid} of {beyond}"
    finally:
        log.xClose()


def _holds_more(path: Path, read_log: wal.Read) -> bool:
    """Whether the log without a header has pages that the file has not. A process that ends while it begins
    the log anew tears the header, too; then everything behind it was in the file before."""
    pages = wal.committed_pages(read_log)
    file = apsw.VFSFile("", str(path), [apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_MAIN_DB, 0])
    try:
        read = _reader(file)
        return not pages or any(
            read_log(at, wal.PAGE_SIZE) != read((page - 1) * wal.PAGE_SIZE, wal.PAGE_SIZE)
            for page, at in pages.items()
        )
    finally:
        file.xClose()


def _open_log(path: Path) -> apsw.VFSFile | None:
    """Through SQLite's own file system, which a simulator may have replaced."""
    try:
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_WAL
        return apsw.VFSFile("", f"{path}-wal", [flags, 0])
    except apsw.Error:
        return None


def _reader(log: apsw.VFSFile) -> wal.Read:
    size = log.xFileSize()

    def read(offset: int, amount: int) -> bytes:
        # SQLite's files do not read past their end in silence.
        amount = min(amount, size - offset)
        return bytes(log.xRead(amount, offset)) if amount > 0 else b""

    return read
