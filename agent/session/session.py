"""Everything a decision about one session needs. Replaced at every event, never changed in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.session.states import S
from agent.values import Stamp

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Session:
    """`entered` is the stamp of the event that led into `state`; `clock_from` is where the running
    phase (charging or idle) was last accounted for, None while no time runs.

    Money is in minor units of `currency`, energy in Wh, time in ms."""

    id: str
    state: S = S.NEW
    entered: Stamp | None = None
    started: Stamp | None = None
    # who and where
    evse: str | None = None
    terminal: str = ""
    terminal_id: str | None = None  # what the terminal itself said it is, at the tap
    plugged: bool = False
    tariff_id: str = ""
    tariff_hash: str = ""  # names the kept text it is priced by
    language: str = ""
    # the hold
    currency: str = ""
    requested_minor: int = 0
    held_minor: int | None = None
    hold: Json = field(default_factory=dict)
    card: Json = field(default_factory=dict)
    hold_doubted: bool = False  # listed before anybody could say whether the hold was made
    held_at: Stamp | None = None  # when it was approved: its validity runs from here
    cancel_wish: str = ""  # why it is to be released as soon as the hold is known
    accept_partial: bool = True  # less than was asked for is the new limit, else it is released
    # (receipt, trace) of the terminal's last result before the intent; None where that is not known
    before: tuple[int, int | None] | None = None
    least_capture_minor: int = 0  # the acquirer takes no smaller amount
    # raising it (raises.py)
    raising: str = ""
    raise_minor: int = 0  # what is being added
    # (receipt, trace) of the terminal's last result when it was ordered; older versions name several
    raise_before: tuple[tuple[int, int | None], ...] = ()
    raising_since: Stamp | None = None  # when it was ordered, or fell into doubt
    raised_to_minor: int | None = None  # the whole hold, as the terminal's evidence has it
    raise_result: Json = field(default_factory=dict)
    raises: int = 0
    raise_refs: tuple[tuple[int, int | None], ...] = ()  # (receipt, trace) of those that are done
    raise_over: bool = False  # no further try
    # what the driver and the back end limit it to (limits.py): kind -> value, by who set it
    limits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    # energy and time
    meter_serial: str | None = None
    meter_model: str = ""
    signing_text: str = (
        ""  # what a signing meter's transaction begins with; empty where it does not sign
    )
    meter_values: Json = field(
        default_factory=dict
    )  # its own signed bytes, as text, and its public key
    meter_trouble: Json = field(default_factory=dict)  # id and why: it could not sign
    meter_found: tuple[str, ...] = ()  # what earlier transactions had left in it
    begin_wh: int | None = None
    began_at: Stamp | None = None
    offered_at: Stamp | None = None  # when began_at was stored: a meter may have signed in between
    last_wh: int | None = None
    last_at: Stamp | None = None
    gone_wh: int | None = None  # the last durable reading when the plug was seen gone
    gone_at: Stamp | None = None
    gone_unwatched: bool = False  # and the process that saw it has died since
    end_wh: int | None = None
    ended_at: Stamp | None = None
    end_read_at: Stamp | None = None  # when the end reading was taken, be it an old one
    end_quality: str = ""
    # the register when it was read next, where the end reading was an old one
    next_wh: int | None = None
    next_at: Stamp | None = None
    unmeasured_seq: int | None = None
    charging_ms: int = 0
    idle_ms: int = 0
    clock_from: Stamp | None = None
    stop_reason: str = ""
    stop_proof: str = ""  # what showed that no energy flows any more
    # the price, computed once and stored: never computed again after a restart
    cost_minor: int | None = None
    price: Json = field(default_factory=dict)
    bill: Json = field(default_factory=dict)  # the lines of the receipt
    # settlement
    record_seq: int | None = None
    settlement_seq: int | None = None
    attempts: int = 0
    outcome: str = ""
    why: str = ""
    refusal: Json = field(default_factory=dict)
    result: Json = field(default_factory=dict)
    booked_minor: int | None = None
    # a technician's order to free the hold: how it was listed before, and whether it is done
    freeing: str = ""
    freed: bool = False
    # a person's word on what stood open (closed_by_hand), and how much that was
    closed_as: str = ""
    closed_minor: int = 0
    closed_by: str = ""
    aside: str = ""  # why the station could not go on with it: salvaged, not_reproduced, no_tariff

    @property
    def approval_code(self) -> str:
        """What the acquirer gave the approval of the hold (ZVT: BMP 3B); empty where it was never told."""
        return str(self.hold.get("aid") or self.card.get("aid") or "")

    @property
    def energy_wh(self) -> int:
        """Delivered so far, or in the end, as far as readings confirm it."""
        last = self.end_wh if self.end_wh is not None else self.last_wh
        if self.begin_wh is None or last is None:
            return 0
        return last - self.begin_wh

    @property
    def payment(self) -> str:
        """How it was settled in the end, a person's word included; empty while it is not."""
        return self.closed_as or self.outcome

    @property
    def to_capture_minor(self) -> int:
        """What is to be charged: the cost, but never more than the terminal approved."""
        return min(self.cost_minor or 0, self.held_minor or 0)

    @property
    def shortfall_minor(self) -> int:
        """What the cost exceeds the hold by: named, never cut silently (design §2 rule 4)."""
        return max(0, (self.cost_minor or 0) - (self.held_minor or 0))

    @property
    def waived_minor(self) -> int:
        """Delivered and priced, but less than the acquirer takes: not charged, and said so."""
        cost = self.to_capture_minor
        return cost if self.outcome == "released" and cost < self.least_capture_minor else 0

    @property
    def captured_minor(self) -> int:
        """What the terminal booked; what it was asked for only where it did not say."""
        if self.outcome != "captured":
            return 0
        return self.to_capture_minor if self.booked_minor is None else self.booked_minor

    @property
    def released_minor(self) -> int:
        if self.outcome == "captured":
            return max(0, (self.held_minor or 0) - self.captured_minor)
        ended = self.freed or self.outcome in ("released", "cancelled")
        return (self.held_minor or 0) if ended else 0

    @property
    def owed_minor(self) -> int:
        """Delivered, priced and covered by the hold, but not collected: refused by the terminal, given up
        at the end of the schedule, at a terminal that is not there, or booked with less than it was asked
        for."""
        if self.closed_as or self.outcome not in ("captured", "refused", "failed", "away"):
            return 0
        return max(0, self.to_capture_minor - self.captured_minor)


def accounted(s: Session, now: Stamp) -> Session:
    """Add the time since `clock_from` to the phase that was running. Time across a reboot is not
    proven and so not charged (design §2 rule 11)."""
    if s.clock_from is None:
        return s
    elapsed_ms = max(0, now.since_ms(s.clock_from) or 0)
    if s.state is S.CHARGING:
        return replace(s, charging_ms=s.charging_ms + elapsed_ms, clock_from=now)
    if s.state is S.SUSPENDED:
        return replace(s, idle_ms=s.idle_ms + elapsed_ms, clock_from=now)
    return replace(s, clock_from=now)
