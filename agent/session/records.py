"""The bodies of signed records, made from a session alone, so that the same session gives the same
bytes again after a crash. The frame (chain, seq, prev, type, station, time, stamp) is put around them when
they are sealed. Contract: docs/interfaces/asyncapi.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from agent.session.session import Session
from agent.values import Stamp


def iso_utc(stamp: Stamp) -> str:
    """ISO 8601 with milliseconds and Z."""
    when = datetime.fromtimestamp(stamp.utc_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{when}.{stamp.utc_ms % 1000:03d}Z"


def _stamp(stamp: Stamp | None) -> dict[str, int | str] | None:
    return None if stamp is None else stamp.to_json()


def _common(s: Session) -> dict[str, object]:
    return {
        "session_id": s.id,
        "evse": s.evse,
        "terminal": s.terminal,
        "currency": s.currency,
    }


def session_record(
    s: Session,
    signed_values: Sequence[Mapping[str, str]] = (),
    missing: Mapping[str, str] | None = None,
    meter_signing: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Energy, time and price of a session whose end reading is confirmed, before any money moves.
    `signed_values`: begin and end as OCMF; `missing`: why there are none; `meter_signing`: what is amiss with
    a meter that signs."""
    return _common(s) | {
        "tariff_id": s.tariff_id,
        "energy_wh": s.energy_wh,
        "meter": {
            "model": s.meter_model,
            "serial": s.meter_serial,
            "begin_wh": s.begin_wh,
            "end_wh": s.end_wh,
            "begin": _stamp(s.began_at),
            "end": _stamp(s.end_read_at),
            "end_quality": s.end_quality,
        },
        "signed_values": [dict(value) for value in signed_values],
        "signed_values_missing": None if missing is None else dict(missing),
        "meter_signing": None if meter_signing is None else dict(meter_signing),
        "meter_found": list(s.meter_found),
        "charging_s": s.charging_ms // 1000,
        "charging_ms": s.charging_ms,
        "idle_ms": s.idle_ms,
        "cost": dict(s.price),
        "cost_minor": s.cost_minor,
        "approval_code": s.approval_code,
        "held_minor": s.held_minor,
        "requested_minor": s.requested_minor,
        "increments": s.raises,
        "to_capture_minor": s.to_capture_minor,
        "shortfall_minor": s.shortfall_minor,
        "stop_reason": s.stop_reason,
        "stop_proof": s.stop_proof,
    }


def unmeasured_record(s: Session) -> dict[str, object]:
    """Energy behind the end reading of a session that was billed by its last durable one: charged to nobody,
    and not said to be its driver's."""
    end_wh, next_wh = s.end_wh or 0, s.next_wh or 0
    return _common(s) | {
        "refers_seq": None if s.aside == "salvaged" else s.record_seq,
        "energy_wh": next_wh - end_wh,
        "meter": {
            "model": s.meter_model,
            "serial": s.meter_serial,
            "begin_wh": end_wh,
            "end_wh": next_wh,
            "begin": _stamp(s.end_read_at),
            "end": _stamp(s.next_at),
        },
        "stop_reason": s.stop_reason,
        "stop_proof": s.stop_proof,
    }


def settlement_record(s: Session) -> dict[str, object]:
    """How the hold ended, or that it was refused, or that nobody knows yet, or what a person says."""
    return _common(s) | {
        # A salvaged session's own record stands in the chain before this one.
        "refers_seq": None if s.aside == "salvaged" else s.record_seq,
        "outcome": s.payment or "unknown",
        "held_minor": s.held_minor or 0,
        "captured_minor": s.captured_minor,
        "released_minor": s.released_minor,
        "shortfall_minor": s.shortfall_minor,
        "owed_minor": s.owed_minor,
        "waived_minor": s.waived_minor,
        "closed_minor": s.closed_minor,
        "closed_by": s.closed_by,
        "set_aside": s.aside,
        "freed_by_order": s.freed,
        "approval_code": s.approval_code,
        "hold": dict(s.hold),
        "result": dict(s.result),
        "reason": str(s.refusal.get("reason", "")) or s.why,
    }
