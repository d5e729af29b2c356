"""Which sessions need the terminal's last result to stay as it is. Pure.

Whatever is booked next replaces it, and it may be all that tells how a dialogue of theirs ended."""

from __future__ import annotations

from agent.session.raises import UNDER_WAY
from agent.session.session import Session
from agent.session.states import S

# The hold of one of these is not known yet.
_BEING_MADE = (S.AUTHORIZING, S.APPROVED, S.HOLD_UNCLEAR)


def in_doubt(s: Session) -> bool:
    """Whether its hold was made or raised is asked, or may have to be. Either is given up after ten minutes
    (agent.session.deadlines), so that others wait for it no longer than that."""
    return s.state is S.HOLD_UNCLEAR or raise_in_doubt(s)


def needs_last_result(s: Session) -> bool:
    """The same, or its hold is just being made."""
    return s.state in _BEING_MADE or raise_in_doubt(s)


def raise_in_doubt(s: Session) -> bool:
    """Until it is told or given up nothing else is booked at its terminal, not even what other sessions owe:
    then the last result is the one before the order, or tells how it ended."""
    return s.raising in UNDER_WAY
