"""Stamps, event data and paths for tests of the session room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.session import E, Effect, Event, S, Session, step
from agent.values import Quality, Stamp

UTC_MS = 1_795_200_000_000  # November 2026
HOLD: dict[str, Any] = {
    "terminal_id": "52523535",
    "receipt": 231,
    "turnover": 12,
    "trace": 975,
    "date": "1121",
    "time": "1204",
}
RESULT: dict[str, Any] = HOLD | {"receipt": 232, "trace": 976, "card_name": "girocard"}
RAISED: dict[str, Any] = HOLD | {"receipt": 233, "trace": 977}
PRICE: dict[str, Any] = {"currency": "EUR", "exact": {"total": {"excl": "4.03", "incl": "4.80"}}}


def stamp(boot_ms: int, boot_id: str = "boot-1") -> Stamp:
    return Stamp(UTC_MS + boot_ms, boot_ms, boot_id, Quality.TRUSTED)


# A usual value of every event's data.
DATA: dict[E, dict[str, Any]] = {
    E.TAPPED: {
        "evse": "DE*ABC*E1",
        "terminal": "t1",
        "terminal_id": "52523535",
        "amount_minor": 5000,
        "currency": "EUR",
        "tariff_id": "adhoc",
        "plugged": True,
        "language": "de",
        "last": {"receipt": 230, "trace": 974},
    },
    E.BOUND: {"evse": "DE*ABC*E2"},
    E.PLUGGED: {},
    E.UNPLUGGED: {},
    E.APPROVED: {"approved_minor": 5000, "hold": HOLD, "details": {"card_name": "girocard"}},
    E.HELD: {},
    E.REFUSED: {"reason": "declined", "code": "05", "text": "declined by the issuer"},
    E.NOT_SENT: {"why": "port gone"},
    E.UNCLEAR: {"why": "no completion"},
    E.HOLD_FOUND: {"approved_minor": 5000, "hold": HOLD, "details": {}},
    E.HOLD_ABSENT: {"why": "not listed"},
    E.CONNECTION_TIMEOUT: {"why": "no car"},
    E.CANCELLED: {"why": "driver"},
    E.SIGNING: {"text": '{"ID":"52523535-7-107"}'},
    E.BEGAN: {"energy_wh": 104_211, "serial": "S1", "model": "sdm630"},
    E.BEGIN_FAILED: {"why": "meter silent"},
    E.ENERGY_FLOWS: {},
    E.SUSPENDED: {},
    E.PROGRESS: {"energy_wh": 105_000, "power_w": 11_000},
    E.STOP: {"reason": "tap"},
    E.STOPPED: {"proof": "controller and meter"},
    E.ENDED: {"energy_wh": 112_345, "quality": "confirmed", "cost_minor": 480, "price": PRICE},
    E.RECORDED: {"seq": 7},
    E.EVIDENCE: {"amount_minor": 480, "result": RESULT},
    E.SETTLED: {},
    E.CONFIRMED: {"amount_minor": 480, "result": RESULT, "how": "last result"},
    E.STILL_OPEN: {"how": "listed as open"},
    E.VANISHED: {"why": "gone"},
    E.RETRY_DUE: {},
    E.GAVE_UP: {"why": "not executed in 36 tries"},
    E.RAISE: {"add_minor": 2000},
    E.RAISE_APPROVED: {"total_minor": 7000, "result": RAISED},
    E.RAISED: {},
    E.RAISE_FAILED: {"why": "declined", "reason": "declined", "code": "05", "again": False},
    E.RAISE_UNCLEAR: {"why": "no completion"},
    E.RAISE_FOUND: {"total_minor": 7000, "result": RAISED},
    E.RAISE_ABSENT: {"why": "the last result is still the hold"},
    E.FOREIGN: {
        "terminal": "t1",
        "terminal_id": "52523535",
        "currency": "EUR",
        "hold": {"terminal_id": "52523535", "receipt": 17},
    },
    E.LIMITED: {"by": "driver", "max_cost_minor": 1000, "max_energy_wh": 20_000},
    E.AWAY: {"why": "the hold was made at terminal 52523535, this is terminal 99999999"},
    E.FREE: {"who": "a technician"},
    E.CLOSED_BY_HAND: {"how": "paid", "note": "paid by transfer"},
    E.CLOSED_UNREAD: {
        "how": "written_off",
        "note": "ended at the terminal",
        "by": "jana",
        "aside": "salvaged",
        "stored": "charging",
        "hold": HOLD,
        "held_minor": 5000,
        "currency": "EUR",
        "seq": 4,
    },
    E.RESTARTED: {"resume": False},
    E.UNMEASURED: {"energy_wh": 150_000, "at": stamp(9_000_000).to_json(), "seq": 5},
}


class Story:
    """One session told event by event. Every event must be taken; time passes by itself."""

    def __init__(self, session: Session | None = None, *, tick_ms: int = 1_000) -> None:
        self.session = session or Session("S1")
        self.events: list[Event] = []
        self.owed: Effect | None = None
        self.effects: list[Effect] = []
        self.boot_ms, self.boot_id, self.tick_ms = 0, "boot-1", tick_ms

    @property
    def state(self) -> S:
        return self.session.state

    def event(self, name: E, data: Mapping[str, Any] | None, changes: Mapping[str, Any]) -> Event:
        self.boot_ms += self.tick_ms
        full = (DATA[name] if data is None else dict(data)) | dict(changes)
        return Event(name, stamp(self.boot_ms, self.boot_id), full)

    def tell(self, name: E, data: Mapping[str, Any] | None = None, **changes: Any) -> Story:
        event = self.event(name, data, changes)
        result = step(self.session, event)
        assert result.taken, f"{name} was refused in {self.session.state}"
        self.session, self.owed = result.session, result.owed
        self.events.append(event)
        if result.owed is not None:
            self.effects.append(result.owed)
        return self

    def refuse(self, name: E, data: Mapping[str, Any] | None = None, **changes: Any) -> Story:
        result = step(self.session, self.event(name, data, changes))
        assert not result.taken, f"{name} was taken in {self.session.state}"
        assert result.session is self.session
        assert result.owed is None
        return self

    def all(self, *names: E) -> Story:
        for name in names:
            self.tell(name)
        return self

    def passes(self, ms: int) -> Story:
        self.boot_ms += ms - self.tick_ms  # the next event adds its tick
        return self

    def reboot(self) -> Story:
        """A power cut: another boot, whose clock starts anew."""
        self.boot_ms, self.boot_id = 0, self.boot_id + "+"
        return self


_HELD = (E.TAPPED, E.APPROVED, E.HELD)
_RAISING = (*_HELD, E.BEGAN, E.ENERGY_FLOWS, E.RAISE)
_ENDED = (*_HELD, E.BEGAN, E.ENERGY_FLOWS, E.STOP, E.STOPPED, E.ENDED)
# One usual way into every state. TAPPED has the car plugged in, so HELD leads to BEGINNING.
WAY: dict[S, tuple[E, ...]] = {
    S.NEW: (),
    S.AUTHORIZING: (E.TAPPED,),
    S.APPROVED: (E.TAPPED, E.APPROVED),
    S.HOLD_UNCLEAR: (E.TAPPED, E.APPROVED, E.UNCLEAR),
    S.HELD: (E.TAPPED, E.UNPLUGGED, E.APPROVED, E.HELD),
    S.BEGINNING: _HELD,
    S.STARTING: (*_HELD, E.BEGAN),
    S.CHARGING: (*_HELD, E.BEGAN, E.ENERGY_FLOWS),
    S.SUSPENDED: (*_HELD, E.BEGAN, E.ENERGY_FLOWS, E.SUSPENDED),
    S.STOPPING: (*_HELD, E.BEGAN, E.ENERGY_FLOWS, E.STOP),
    S.ENDING: (*_HELD, E.BEGAN, E.ENERGY_FLOWS, E.STOP, E.STOPPED),
    S.RAISE_OPEN: (*_RAISING, E.STOP, E.STOPPED, E.ENDED),
    S.RECORDING: _ENDED,
    S.CAPTURING: (*_ENDED, E.RECORDED),
    S.CAPTURE_DUE: (*_ENDED, E.RECORDED, E.NOT_SENT),
    S.CAPTURE_UNCLEAR: (*_ENDED, E.RECORDED, E.UNCLEAR),
    S.RELEASING: (*_HELD, E.BEGIN_FAILED),
    S.RELEASE_DUE: (*_HELD, E.BEGIN_FAILED, E.NOT_SENT),
    S.RELEASE_UNCLEAR: (*_HELD, E.BEGIN_FAILED, E.UNCLEAR),
    S.SETTLED: (*_ENDED, E.RECORDED, E.EVIDENCE, E.SETTLED),
    S.UNRESOLVED: (*_ENDED, E.RECORDED, E.UNCLEAR, E.VANISHED),
    S.CLOSED: (*_ENDED, E.RECORDED, E.EVIDENCE, E.SETTLED, E.RECORDED),
}


def reach(state: S) -> Story:
    story = Story().all(*WAY[state])
    assert story.state is state
    return story
