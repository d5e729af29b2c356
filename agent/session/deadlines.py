"""How long a session may stay in a state before an event of its own arises. Pure: the station asks
`deadline`, waits, and tells the event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from agent.session.events import E
from agent.session.session import Session
from agent.session.states import S

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

# Design §2 rule 5: five times a minute apart, hourly for a day, daily for a week. Payter's published
# advice for unattended chargers is the same.
RETRY_STEPS: tuple[tuple[int, int], ...] = ((5, MINUTE_MS), (24, HOUR_MS), (7, DAY_MS))

# So long a connector is kept for a hold that nobody knows of; then the session is listed for a person and
# the connector is free again.
HOLD_UNCLEAR_MS = 10 * MINUTE_MS


def retry_after_ms(attempts: int, steps: tuple[tuple[int, int], ...] = RETRY_STEPS) -> int:
    """The pause before the next try after `attempts` failed ones. After the last step the last pause
    is kept: nothing is dropped."""
    left = attempts
    for count, pause_ms in steps:
        if left <= count:
            return pause_ms
        left -= count
    return steps[-1][1]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides about waiting. Milliseconds."""

    connection_timeout_ms: int
    start_timeout_ms: int
    retry_steps: tuple[tuple[int, int], ...] = RETRY_STEPS


class Deadline(NamedTuple):
    event: E
    after_ms: int  # after the session entered its state
    data: dict[str, object]


def deadline(s: Session, policy: Policy) -> Deadline | None:
    """What happens by itself in this state, and when; None when nothing does."""
    if s.state is S.HELD:
        return Deadline(E.CONNECTION_TIMEOUT, policy.connection_timeout_ms, {"why": "no car"})
    if s.state is S.STARTING:
        return Deadline(E.STOP, policy.start_timeout_ms, {"reason": "car draws nothing"})
    if s.state is S.HOLD_UNCLEAR:
        return Deadline(E.VANISHED, HOLD_UNCLEAR_MS, {"why": "the terminal could not tell"})
    if s.state in (S.CAPTURE_DUE, S.RELEASE_DUE):
        return Deadline(E.RETRY_DUE, retry_after_ms(s.attempts, policy.retry_steps), {})
    return None
