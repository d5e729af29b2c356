"""What our sessions have booked at a terminal, as its last result names it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agent.ledger import EventRow
from agent.session import Session
from agent.session.ask import Ref, ref_key


def refs_in(rows: Sequence[EventRow]) -> frozenset[Ref]:
    """Every hold and result that the events name, whatever they make together."""
    named = (row.data.get(key) for row in rows for key in ("hold", "result"))
    return frozenset(ref_key(ref) for ref in named if isinstance(ref, Mapping) and ref)


def refs_at(terminal: str, tid: object, sessions: Iterable[Session], but: str) -> set[Ref]:
    """Of holds and results at a terminal that calls itself `tid`, except those of the session `but`. Equal
    numbers of another device on the same cable are another matter."""

    def is_there(session: Session, ref: Mapping[str, object]) -> bool:
        at = ref.get("terminal_id")
        return at == tid if at and tid else session.terminal == terminal

    named = [(s, ref) for s in sessions for ref in (s.hold, s.result, s.raise_result) if ref]
    return {ref_key(ref) for s, ref in named if s.id != but and is_there(s, ref)}
