"""The states of a session, and what each still owes to the world."""

from __future__ import annotations

from enum import StrEnum


class S(StrEnum):
    """One word for where a session stands. `MEANING` says it in a sentence, `OWED` what it owes."""

    NEW = "new"
    AUTHORIZING = "authorizing"
    APPROVED = "approved"
    HOLD_UNCLEAR = "hold_unclear"
    HELD = "held"
    BEGINNING = "beginning"
    STARTING = "starting"
    CHARGING = "charging"
    SUSPENDED = "suspended"
    STOPPING = "stopping"
    ENDING = "ending"
    RAISE_OPEN = "raise_open"
    RECORDING = "recording"
    CAPTURING = "capturing"
    CAPTURE_DUE = "capture_due"
    CAPTURE_UNCLEAR = "capture_unclear"
    RELEASING = "releasing"
    RELEASE_DUE = "release_due"
    RELEASE_UNCLEAR = "release_unclear"
    SETTLED = "settled"
    UNRESOLVED = "unresolved"
    CLOSED = "closed"


MEANING: dict[S, str] = {
    S.NEW: "nothing has happened yet; never stored",
    S.AUTHORIZING: "the intent to hold is durable; the terminal is being asked",
    S.APPROVED: "the evidence of the hold is durable and answered; its completion is outstanding",
    S.HOLD_UNCLEAR: "the dialogue broke; nothing is sent before the terminal was asked",
    S.HELD: "the hold is complete; waiting for the connector and the plug",
    S.BEGINNING: "the confirmed begin reading is wanted",
    S.STARTING: "energy is released; the car draws nothing yet",
    S.CHARGING: "energy is released and flows",
    S.SUSPENDED: "energy is released, the car draws nothing; idle time runs",
    S.STOPPING: "the release is withdrawn; the proof that it worked is outstanding",
    S.ENDING: "the confirmed end reading is wanted",
    S.RAISE_OPEN: "all is read but how an increment of the hold ended; the amount held depends on it",
    S.RECORDING: "the signed session record is wanted, before any money moves",
    S.CAPTURING: "the intent to capture is durable; the terminal is being told",
    S.CAPTURE_DUE: "the capture was not executed; it waits for its next try",
    S.CAPTURE_UNCLEAR: "whether the capture happened is not known; the terminal is asked",
    S.RELEASING: "the intent to release the hold is durable; the terminal is being told",
    S.RELEASE_DUE: "the release was not executed; it waits for its next try",
    S.RELEASE_UNCLEAR: "whether the release happened is not known; the terminal is asked",
    S.SETTLED: "how the hold ended is known; the signed settlement record is wanted",
    S.UNRESOLVED: "listed for a person: the outcome is unknown, or the terminal refused",
    S.CLOSED: "settled and recorded; nothing is owed",
}


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
    RAISE = "raise"
    ASK_RAISE = "ask_raise"


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
        S.RAISE_OPEN,
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
