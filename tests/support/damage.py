"""Ways in which a ledger's file is found damaged, and what a rescue needs in a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from support.ledger_rows import KEY, STATION, stamp

from agent.ledger import EventRow, Ledger
from agent.ledger.salvage import Known, Plan
from agent.trust.chain import GENESIS, Sealed, seal
from agent.trust.keys import KeySet

PAGE = 1024


def log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def crash(ledger: Ledger) -> None:
    """The process is gone: the files stay as they are."""
    ledger._db.close()


def stop(ledger: Ledger) -> None:
    """Killed when the file has everything and the log has begun anew: its old frames, which would cover
    damage of the file, count no more."""
    ledger.checkpoint()
    ledger.meta_set("last", "word")
    crash(ledger)


def pages_of(ledger: Ledger, name: str) -> list[int]:
    """Numbers of the pages of a table or index, its root first."""
    found = ledger._db.execute(
        "SELECT pageno FROM dbstat WHERE name = ? ORDER BY pagetype = 'internal' DESC, pageno",
        (name,),
    )
    return [page for (page,) in found]


def overwrite(path: Path, page: int, content: bytes, at: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE + at)
        file.write(content)


def zeroed(path: Path, pages: Sequence[int]) -> None:
    for page in pages:
        overwrite(path, page, bytes(PAGE))


def cut_at(path: Path, pages: int) -> None:
    with path.open("r+b") as file:
        file.truncate(pages * PAGE)


def by_name(session_id: str, events: Sequence[EventRow]) -> Known | None:
    """A judge for made-up events: their last state is the session's."""
    if [event.n for event in events] != list(range(1, len(events) + 1)):
        return None
    return Known(events[-1].state, events[-1].state != "closed", "E1", "t1")


def plan(
    judge: Callable[[str, Sequence[EventRow]], Known | None] = by_name,
    *,
    reason: str = "damaged",
    set_aside: str | None = "ledger.db.damaged-1",
    chain: str = "d" * 32,
) -> Plan:
    def sealed(name: str, body: dict[str, object]) -> Sealed:
        return seal(
            KEY,
            chain=name,
            seq=1,
            prev=GENESIS,
            type="gap",
            station=STATION,
            stamp=stamp(9_000, "boot-2"),
            body=body,
        )

    return Plan(
        station=STATION,
        reason=reason,
        set_aside=set_aside,
        keys=KeySet([KEY.public]),
        judge=judge,
        seal=sealed,  # type: ignore[arg-type]  # its arguments come from the plan
        new_chain=lambda: chain,
        utc_ms=stamp(9_000).utc_ms,
    )
