"""(c) The agent's own story: sums, price recomputed, energy against the meter's truth."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from hil.verify.evidence import ERROR, NOTE, Evidence, Finding, Truth
from hil.verify.price import TariffRules, minor_units

EXACT_DIGITS = 12  # exact prices without a finite decimal form are written with this many


def check_sessions(evidence: Evidence) -> Iterator[Finding]:
    for text in evidence.contradictions:
        yield Finding("list_show_differ", "agent", text)
    for session in evidence.sessions:
        yield from _sums(session, evidence.must_be_closed)
        if session.get("cost_minor") is not None:
            yield from _price(session, evidence.tariffs)
    if evidence.truth is not None:
        yield from _energy(evidence.sessions, evidence.truth)


def _sums(session: dict[str, Any], must_be_closed: bool) -> Iterator[Finding]:
    where, held = str(session["id"]), session["held_minor"]
    captured, released = session["captured_minor"], session["released_minor"]
    if session["state"] != "closed":
        text = f"{session['state']} ({session['payment']}), {held} held"
        yield Finding("session_not_closed", where, text, ERROR if must_be_closed else NOTE)
        return
    if captured > held:
        yield Finding("captured_over_held", where, f"captured {captured} of {held}")
    if session["payment"] in ("captured", "released", "cancelled") and captured + released != held:
        text = f"{captured} captured and {released} released of {held}"
        yield Finding("split_differs", where, text)
    cost = session.get("cost_minor")
    if cost is not None and session["payment"] == "captured":
        expected = min(cost, held)
        if captured != expected:
            yield Finding("captured_not_cost", where, f"cost {cost}, captured {captured} of {held}")
        if session["shortfall_minor"] != cost - expected:
            text = f"{session['shortfall_minor']}, expected {cost - expected}"
            yield Finding("shortfall_differs", where, text)
    if cost and session["payment"] in ("released", "cancelled"):
        yield Finding("cost_given_away", where, f"cost {cost}, and the whole hold released")


def _price(session: dict[str, Any], tariffs: dict[str, TariffRules]) -> Iterator[Finding]:
    where = str(session["id"])
    rules = tariffs.get(str(session.get("tariff_id")))
    if rules is None:
        yield Finding("tariff_unknown", where, f"no file given for {session.get('tariff_id')!r}")
        return
    if rules.currency != session["currency"]:
        yield Finding("currency_differs", where, f"{session['currency']}, tariff {rules.currency}")
        return
    gross = rules.gross(
        int(session["energy_wh"]), int(session["charging_ms"]), int(session["idle_ms"])
    )
    billed = session["cost_minor"]
    if billed != rules.round_minor(gross):
        text = f"billed {billed}, recomputed {rules.round_minor(gross)}"
        yield Finding("price_differs", where, text)
    price = session.get("price") or {}
    units = minor_units(rules.currency)
    try:
        total = Fraction(price["rounded"]["total"]["incl"]) * units
        net = Fraction(price["rounded"]["total"]["excl"]) * units
        exact = Fraction(price["exact"]["total"]["incl"])
    except (KeyError, TypeError, ValueError):
        yield Finding("price_unreadable", where, f"no totals in {price}")
        return
    if total != billed:
        yield Finding("price_differs", where, f"billed {billed}, its price says {total}")
    if abs(exact - gross) > Fraction(1, 10**EXACT_DIGITS):
        yield Finding("price_differs", where, f"exact {exact}, recomputed {gross}")
    if abs(net * (1 + rules.vat) - total) > 1 + rules.vat:
        yield Finding("tax_differs", where, f"net {net} and gross {total} at {rules.vat * 100} %")


def _energy(sessions: list[dict[str, Any]], truth: Truth) -> Iterator[Finding]:
    """All registers in a row from `start_wh` to the truth's end: nothing billed that did not flow,
    nothing that flowed outside a session, within what the float32 register can show."""
    measured = [s for s in sessions if s.get("begin_wh") is not None]
    measured.sort(key=lambda s: (int(s["begin_wh"]), str(s["started"])))
    at: Fraction = Fraction(truth.start_wh)
    for session in measured:
        where, begin, end = str(session["id"]), int(session["begin_wh"]), session.get("end_wh")
        if abs(begin - at) > resolution_wh(begin):
            text = f"the register stood at {float(at):.3f} Wh, the session begins at {begin}"
            yield Finding("energy_outside_session", where, text)
        if end is None:
            return  # still running: what flowed since cannot be told apart
        if session["energy_wh"] != end - begin or end < begin:
            text = f"{session['energy_wh']} Wh billed from {begin} to {end}"
            yield Finding("energy_differs", where, text)
        at = Fraction(end)
    total = truth.start_wh + Fraction(truth.energy_mwh, 1000)
    if abs(total - at) > resolution_wh(int(total)):
        text = (
            f"the meter measured up to {float(total):.3f} Wh, the sessions end at {float(at):.0f}"
        )
        yield Finding("energy_truth_differs", "all sessions", text)


def resolution_wh(register_wh: int) -> Fraction:
    """How far a whole-Wh reading of a float32 kWh register may be from the truth: half a Wh of our
    rounding and half a step of the register, at both ends of a difference."""
    kwh = float(Fraction(register_wh, 1000))
    (bits,) = struct.unpack(">I", struct.pack(">f", kwh))
    below, above = (Fraction(*_float32(bits + n).as_integer_ratio()) for n in (0, 1))
    return 1 + (above - below) * 1000


def _float32(bits: int) -> float:
    value: float = struct.unpack(">f", struct.pack(">I", bits))[0]
    return value
