"""The states of a session, and what each still owes to the world."""

from __future__ import annotations

from enum import StrEnum


class S(StrEnum):
    """One word for where a session stands. What the state owes is in `OWED`."""

    NEW = "new"
    AUTHORIZING = "authorizing"  # hold intent durable; the terminal is being asked
    APPROVED = "approved"  # evidence durable and answered; completion outstanding
    HOLD_UNCLEAR = "hold_unclear"  # the dialogue broke; nothing is sent again before asking
    HELD = "held"  # completed hold; waiting for the plug
    BEGINNING = "beginning"  # begin reading wanted
    STARTING = "starting"  # energy released; the car draws nothing yet
    CHARGING = "charging"
    SUSPENDED = "suspended"  # released, car draws nothing (idle time runs)
    STOPPING = "stopping"  # release withdrawn; proof outstanding
    ENDING = "ending"  # end reading wanted
    RECORDING = "recording"  # signed session record wanted, before any money moves
    CAPTURING = "capturing"  # capture intent durable
    CAPTURE_DUE = "capture_due"  # not executed; waiting for its next try
    CAPTURE_UNCLEAR = "capture_unclear"
    RELEASING = "releasing"  # release intent durable
    RELEASE_DUE = "release_due"
    RELEASE_UNCLEAR = "release_unclear"
    SETTLED = "settled"  # outcome known; signed settlement record wanted
    UNRESOLVED = "unresolved"  # listed for a person: outcome unknown, or refused and owed
    CLOSED = "closed"


class Effect(StrEnum):
    """What the station must do for a session in a state. Each is idempotent to be ordered again."""

    AUTHORIZE = "authorize"
    ASK_HOLD = "ask_hold"
    METER_BEGIN = "meter_begin"
    METER_END = "meter_end"
    RECORD_SESSION = "record_session"
    CAPTURE = "capture"
    ASK_CAPTURE = "ask_capture"
    RELEASE = "release"
    ASK_RELEASE = "ask_release"
    RECORD_SETTLEMENT = "record_settlement"


OWED: dict[S, Effect] = {
    S.AUTHORIZING: Effect.AUTHORIZE,
    S.HOLD_UNCLEAR: Effect.ASK_HOLD,
    S.BEGINNING: Effect.METER_BEGIN,
    S.ENDING: Effect.METER_END,
    S.RECORDING: Effect.RECORD_SESSION,
    S.CAPTURING: Effect.CAPTURE,
    S.CAPTURE_UNCLEAR: Effect.ASK_CAPTURE,
    S.RELEASING: Effect.RELEASE,
    S.RELEASE_UNCLEAR: Effect.ASK_RELEASE,
    S.SETTLED: Effect.RECORD_SETTLEMENT,
    S.UNRESOLVED: Effect.RECORD_SETTLEMENT,
}

FINAL = frozenset({S.CLOSED})

# The connector is this session's: no other session may begin on it.
OCCUPIES_EVSE = frozenset(
    {
        S.AUTHORIZING,
        S.APPROVED,
        S.HOLD_UNCLEAR,
        S.HELD,
        S.BEGINNING,
        S.STARTING,
        S.CHARGING,
        S.SUSPENDED,
        S.STOPPING,
        S.ENDING,
    }
)

# Before any energy: the plug decides, and a driver may still walk away.
BEFORE_ENERGY = frozenset({S.AUTHORIZING, S.APPROVED, S.HOLD_UNCLEAR, S.HELD})

# Something is under way that ends by itself soon; a station that goes down waits for these.
IN_MOTION = frozenset(
    {
        S.AUTHORIZING,
        S.APPROVED,
        S.BEGINNING,
        S.STOPPING,
        S.ENDING,
        S.RECORDING,
        S.CAPTURING,
        S.RELEASING,
        S.SETTLED,
    }
)


def energy_allowed(state: S) -> bool:
    """True while the EVSE must hold a release; in every other state it must not. The station
    re-asserts this, so it needs no effect of its own."""
    return state in (S.STARTING, S.CHARGING, S.SUSPENDED)
