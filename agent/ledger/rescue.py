"""A damaged ledger is set aside whole and a new one put in its place. Each step can be cut and is taken up
again by the next start; nothing that was set aside is ever deleted or written to."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from agent.ledger.open import make_durable, suspect
from agent.ledger.salvage import Plan, Salvaged, salvage


def exists(path: Path) -> bool:
    """Asked of SQLite's own file system, which a simulator may have replaced. Not while it is open here:
    closing a file takes this process's locks from it."""
    try:
        apsw.VFSFile(
            "", str(path), [apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_MAIN_DB, 0]
        ).xClose()
    except apsw.Error:
        return False
    return True


def emptied(path: Path) -> bool:
    """The file has no page left, but its log shows that it had: SQLite would take it for a new one and delete
    the log."""
    log = log_of(path)
    return path.exists() and not path.stat().st_size and log.exists() and log.stat().st_size > 0


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def set_aside(path: Path) -> Path:
    """Rename the ledger and its log; where they are now. The log goes first: a log that is left beside a new
    file would be taken for that file's."""
    kept = _last_aside(path)
    if kept is None or exists(kept):
        kept = _aside(path, 1 + (0 if kept is None else _number(kept)))
    if log_of(path).exists():
        log_of(path).rename(log_of(kept))
        make_durable(path)
    path.rename(kept)
    make_durable(path)
    return kept


def interrupted(path: Path) -> Path | None:
    """What was set aside last, when nothing was put in its place yet."""
    kept = _last_aside(path)
    return kept if kept is not None and exists(kept) and not exists(path) else None


def replace(path: Path, source: Path | None, plan: Plan) -> Salvaged:
    """Put a new ledger at `path`, with what can be proven of `source`."""
    fresh = path.with_name(f"{path.name}.new")
    for left in (fresh, log_of(fresh)):
        left.unlink(missing_ok=True)  # of a start that was cut here
    found = salvage(source, fresh, plan)
    log_of(fresh).unlink(missing_ok=True)  # empty: all of it is in the file
    _sync(fresh)
    fresh.rename(path)
    make_durable(path)
    suspect(path).unlink(missing_ok=True)
    return found


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.damaged-{number}")


def _number(kept: Path) -> int:
    digits = kept.name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _last_aside(path: Path) -> Path | None:
    """Also when only its log was renamed so far."""
    found = {
        _aside(path, _number(Path(name.name.removesuffix("-wal"))))
        for name in path.parent.glob(f"{path.name}.damaged-*")
    }
    return max(found, key=_number, default=None)
