"""Which sessions need the terminal's last result to stay as it is. Pure.

Whatever is booked next replaces it, and it may be all that tells how a dialogue of theirs ended."""

from __future__ import annotations

from agent.session.deadlines import HOLD_UNCLEAR_MS, waited_ms
from agent.session.raises import UNDER_WAY, R
from agent.session.session import Session
from agent.session.states import S
from agent.values import Stamp

# The hold of one of these is not known yet.
_BEING_MADE = (S.AUTHORIZING, S.APPROVED, S.HOLD_UNCLEAR)
_BOOKING = (S.AUTHORIZING, S.APPROVED, S.CAPTURING, S.RELEASING)


def in_doubt(s: Session, now: Stamp) -> bool:
    """Whether its hold was made or raised is asked, or may have to be. A hold in doubt is listed after ten
    minutes; one whose raise is in doubt goes on charging, so that others wait for it no longer than that."""
    return s.state is S.HOLD_UNCLEAR or _raise_in_doubt(s, now)


def needs_last_result(s: Session, now: Stamp) -> bool:
    """The same, or its hold is just being made."""
    return s.state in _BEING_MADE or _raise_in_doubt(s, now)


def is_booking(s: Session) -> bool:
    """Its dialogue is under way at the terminal or waits for its turn there: the last result will be its."""
    return s.state in _BOOKING or s.raising in (R.ORDERED, R.APPROVED)


def _raise_in_doubt(s: Session, now: Stamp) -> bool:
    if s.state is S.RAISE_OPEN:  # has a deadline of its own
        return True
    since = s.raising_since
    return s.raising in UNDER_WAY and since is not None and waited_ms(since, now) < HOLD_UNCLEAR_MS
