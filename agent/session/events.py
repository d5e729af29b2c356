"""The events of a session. Their data are plain JSON values: integers, text, lists, objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.values import Stamp


class E(StrEnum):
    """Event names, with the data each carries. `outage`, in any of them: it is the first ones after the agent
    was away from a session with energy, and nobody has looked yet what became of it."""

    TAPPED = "tapped"  # evse?, terminal, terminal_id?, amount_minor, currency, tariff_id, plugged, language,
    # accept_partial?, least_capture_minor?, tariff_hash?, last? (the terminal's last result before the
    # intent, {} for none)
    BOUND = "bound"  # evse
    PLUGGED = "plugged"
    UNPLUGGED = "unplugged"
    APPROVED = "approved"  # approved_minor?, hold, details
    HELD = "held"
    REFUSED = "refused"  # reason, code, text
    NOT_SENT = "not_sent"  # why
    UNCLEAR = "unclear"  # why
    HOLD_FOUND = "hold_found"  # approved_minor, hold, details
    HOLD_ABSENT = "hold_absent"  # why
    CONNECTION_TIMEOUT = "connection_timeout"
    CANCELLED = "cancelled"  # why
    # text that a signing meter's transaction begins with, before it does; found?: what an earlier session
    # left in the meter
    SIGNING = "signing"
    # energy_wh, read_boot_ms (when the meter answered), serial, model, meter_trouble? (id, why: the meter
    # cannot sign)
    BEGAN = "began"
    BEGIN_FAILED = "begin_failed"  # why
    ENERGY_FLOWS = "energy_flows"
    SUSPENDED = "suspended"
    PROGRESS = "progress"  # energy_wh, read_boot_ms, power_w
    STOP = "stop"  # reason, and for the limit the computed margin
    STOPPED = "stopped"  # proof
    # energy_wh, read_boot_ms?, quality, cost_minor, price, bill, meter_values? (text, public_key: what the
    # meter signed) or meter_trouble?
    ENDED = "ended"
    RECORDED = "recorded"  # seq
    EVIDENCE = "evidence"  # amount_minor?, result, details: stored before it is answered
    SETTLED = "settled"  # completion of a capture or release
    CONFIRMED = "confirmed"  # amount_minor?, result, how: by asking
    STILL_OPEN = "still_open"  # the terminal lists the hold: the command was not executed
    VANISHED = "vanished"  # why: not open, and nothing confirms how it ended
    RETRY_DUE = "retry_due"
    GAVE_UP = "gave_up"  # why: the schedule has ended
    # add_minor, the margin that made it necessary, and before?: [receipt, trace] of what our other sessions
    # at the terminal had booked until then
    RAISE = "raise"
    RAISE_APPROVED = "raise_approved"  # total_minor?, result
    RAISED = "raised"
    RAISE_FAILED = "raise_failed"  # why, reason, code, again
    RAISE_UNCLEAR = "raise_unclear"  # why, rejected
    RAISE_FOUND = "raise_found"  # total_minor, result: by asking
    RAISE_ABSENT = "raise_absent"  # why: the hold stands as it was
    # terminal, terminal_id?, currency, hold: a hold that no session explains. With held_minor?, why: one
    # that a person left open who took its session off the list, and that is to be freed now
    FOREIGN = "foreign"
    LIMITED = "limited"  # by (driver, back_end), max_cost_minor?, max_energy_wh?, max_time_s?
    AWAY = "away"  # why: another terminal is connected than the one that has the hold
    FREE = "free"  # who: a technician orders the hold to be freed; it is never charged afterwards
    CLOSED_BY_HAND = (
        "closed_by_hand"  # how (paid, written_off), note, by?: a person takes it off the list
    )
    # how, note, by, aside (salvaged, not_reproduced, no_tariff), stored (its state), hold, held_minor?,
    # currency, seq of its record: the same of a session that the station could not go on with
    CLOSED_UNREAD = "closed_unread"
    RESTARTED = "restarted"  # resume
    # energy_wh (the register when it was read next), at (its stamp), seq of its record: of a closed session
    # that was billed by an older reading
    UNMEASURED = "unmeasured"


@dataclass(frozen=True, slots=True)
class Event:
    name: E
    stamp: Stamp
    data: Mapping[str, object] = field(default_factory=dict)

    def integer(self, key: str) -> int:
        value = self.data[key]
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"event {self.name}: {key} is {value!r}; expected an integer")
        return value

    def text(self, key: str, default: str = "") -> str:
        return str(self.data.get(key, default))

    def optional_int(self, key: str) -> int | None:
        return None if self.data.get(key) is None else self.integer(key)

    def read_at(self) -> Stamp:
        """When the reading that it carries was taken: a signature or a slow disk may lie between."""
        boot_ms = self.optional_int("read_boot_ms")
        return self.stamp.earlier(0 if boot_ms is None else self.stamp.boot_ms - boot_ms)

    def mapping(self, key: str) -> Mapping[str, object]:
        value = self.data.get(key) or {}
        if not isinstance(value, Mapping):
            raise TypeError(f"event {self.name}: {key} is {value!r}; expected an object")
        return value
