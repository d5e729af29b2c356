"""Sessions whose terminal is not in the configuration any more: nothing can be sent for them, so they are
listed for a person, and go on when the terminal is named again as it was."""

from __future__ import annotations

from agent.session import E, S
from agent.station.context import Context

_AWAY = (
    *(S.CAPTURING, S.CAPTURE_DUE, S.CAPTURE_UNCLEAR),
    *(S.RELEASING, S.RELEASE_DUE, S.RELEASE_UNCLEAR),
)
# How the hold stands could be told there alone.
_VANISHED = (S.HOLD_UNCLEAR, S.RAISE_OPEN)


async def list_it(context: Context, session_id: str) -> None:
    """Does nothing for a session that owes its terminal nothing now. Raises LedgerError."""
    session = context.keeper.sessions.get(session_id)
    if session is None or session.state not in (*_AWAY, *_VANISHED):
        return
    event = E.AWAY if session.state in _AWAY else E.VANISHED
    why = f"terminal {session.terminal} is not in the configuration any more"
    step = await context.keeper.tell(session_id, event, {"why": why}, basis=session)
    if step.taken:
        context.log("no_terminal", level="error", id="STA-005", session=session_id, why=why)
