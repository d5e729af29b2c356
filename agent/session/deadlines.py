"""How long a session may stay in a state before an event of its own arises. Pure: the station asks
`deadline`, waits, and tells the event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.session.events import E
from agent.session.raises import R
from agent.session.session import Session
from agent.session.states import S
from agent.values import Quality, Stamp

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

# Design §2 rule 5: five times a minute apart, hourly for a day, daily for a week. Payter's published
# advice for unattended chargers is the same.
RETRY_STEPS: tuple[tuple[int, int], ...] = ((5, MINUTE_MS), (24, HOUR_MS), (7, DAY_MS))

# So long a connector is kept for a hold that nobody knows of; then the session is listed for a person and
# the connector is free again.
HOLD_UNCLEAR_MS = 10 * MINUTE_MS


def retry_after_ms(attempts: int, steps: tuple[tuple[int, int], ...] = RETRY_STEPS) -> int | None:
    """The pause before the next try after `attempts` failed ones; None when the schedule has ended, and
    the session is listed with what is owed."""
    left = attempts
    for count, pause_ms in steps:
        if left <= count:
            return pause_ms
        left -= count
    return None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides about waiting. Milliseconds.

    `hold_valid_ms`: how long the acquirer keeps a hold. Energy is stopped `hold_finish_ms` before it
    ends, so that the capture still finds it, and the alarm comes `hold_alarm_ms` before.
    `hold_valid_by_scheme`: the same for card schemes, by `scheme_key` of their name."""

    connection_timeout_ms: int
    start_timeout_ms: int
    retry_steps: tuple[tuple[int, int], ...] = RETRY_STEPS
    hold_valid_ms: int = 24 * HOUR_MS
    hold_valid_by_scheme: Mapping[str, int] = field(default_factory=dict)
    hold_finish_ms: int = HOUR_MS
    hold_alarm_ms: int = 2 * HOUR_MS


class Deadline(NamedTuple):
    """`since`: where `after_ms` counts from; None for the moment the session entered its state."""

    event: E
    after_ms: int
    data: dict[str, object]
    since: Stamp | None = None


_RUNNING = (S.STARTING, S.CHARGING, S.SUSPENDED)
_COULD_NOT_TELL: dict[str, object] = {"why": "the terminal could not tell"}


def deadlines(s: Session, policy: Policy) -> list[Deadline]:
    """What happens by itself in this state, and when. Whichever is due first is told; afterwards the
    session stands elsewhere."""
    if s.state is S.HELD:
        return [Deadline(E.CONNECTION_TIMEOUT, policy.connection_timeout_ms, {"why": "no car"})]
    if s.state in _RUNNING:
        found = []
        if s.state is S.STARTING:
            reason: dict[str, object] = {"reason": "car draws nothing"}
            found.append(Deadline(E.STOP, policy.start_timeout_ms, reason))
        if s.held_at is not None:
            last_ms = hold_valid_ms(s, policy) - policy.hold_finish_ms
            found.append(Deadline(E.STOP, last_ms, {"reason": "hold expires"}, s.held_at))
        return found + _of_a_raise(s)
    if s.state is S.HOLD_UNCLEAR:
        return [Deadline(E.VANISHED, HOLD_UNCLEAR_MS, _COULD_NOT_TELL)]
    if s.state in (S.STOPPING, S.ENDING, S.RAISE_OPEN):
        return _of_a_raise(s)
    if s.state in (S.CAPTURE_DUE, S.RELEASE_DUE):
        pause_ms = retry_after_ms(s.attempts, policy.retry_steps)
        if pause_ms is None:
            return [Deadline(E.GAVE_UP, 0, {"why": f"not executed in {s.attempts} tries: {s.why}"})]
        return [Deadline(E.RETRY_DUE, pause_ms, {})]
    return []


def _of_a_raise(s: Session) -> list[Deadline]:
    """In doubt it keeps everything else from being booked at its terminal, so it is given up in time."""
    if s.raising != R.UNCLEAR and s.state is not S.RAISE_OPEN:
        return []
    return [Deadline(E.VANISHED, HOLD_UNCLEAR_MS, _COULD_NOT_TELL, s.raising_since)]


def waited_ms(since: Stamp, now: Stamp) -> int:
    """How long ago `since` was. Across a reboot only the wall clock can tell, and only where it was known as
    well both times: a board without a clock begins in 1970, and one that was read back may be days behind.
    What has passed since the reboot is always proven."""
    proven = now.since_ms(since)
    if proven is not None:
        return max(0, proven)
    said = now.by_wall_clock_ms(since)
    return now.boot_ms if said is None else said


def age_ms(since: Stamp, now: Stamp) -> int:
    """As `waited_ms`, for people, who are told the likely age where none is proven."""
    proven = now.since_ms(since)
    if proven is not None:
        return max(0, proven)
    if Quality.UNKNOWN in (since.quality, now.quality):
        return now.boot_ms
    return max(now.boot_ms, now.utc_ms - since.utc_ms)


def hold_left_ms(s: Session, now: Stamp, policy: Policy) -> int | None:
    """How long the acquirer still keeps the hold; None without one."""
    if s.held_at is None or not s.held_minor:
        return None
    return hold_valid_ms(s, policy) - waited_ms(s.held_at, now)


def scheme_key(name: str) -> str:
    """A scheme as terminals write it ("VISA", "Debit Mastercard"), without case, blanks and signs."""
    return "".join(c for c in name.casefold() if c.isalnum())


def hold_valid_ms(s: Session, policy: Policy) -> int:
    """By the card that the terminal named with the hold; of two schemes in its name the longer one counts
    ("visa electron" before "visa"). A card that is not named, or with a name that nobody listed, may be
    any of them, so the shortest time counts."""
    by_scheme = policy.hold_valid_by_scheme
    name = scheme_key(str(s.card.get("card_name", "")))
    found = [scheme for scheme in by_scheme if scheme in name]
    if found:
        return by_scheme[max(found, key=len)]
    return min(policy.hold_valid_ms, *by_scheme.values()) if by_scheme else policy.hold_valid_ms
