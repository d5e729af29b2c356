"""Which reading ends a bill. Pure.

The process that sees a plug go watches the connector until the stop is proven: no other car comes there
unseen, and the register bills. Where another life of the process reads the end, somebody else may have
plugged in meanwhile, on a release that nobody had taken back. The driver who left pays up to the last
reading that was durable when his plug was seen gone."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from agent.session.events import Event
from agent.session.raises import after_restart
from agent.session.session import Session
from agent.values import Stamp

FOUND_MOST = 10  # no meter keeps so many; the record's schema allows as many (asyncapi.yaml)
LAST_DURABLE = "last_durable"  # the quality of an end reading that no register could confirm


class Durable(NamedTuple):
    """A reading of the register as an event has stored it."""

    wh: int
    at: Stamp | None


def signing(s: Session, e: Event) -> Session:
    """Told again for what was found in the meter: the text stays."""
    found = s.meter_found
    if e.text("found") not in ("", *found) and len(found) < FOUND_MOST:
        found = (*found, e.text("found"))
    return replace(s, signing_text=s.signing_text or e.text("text"), meter_found=found)


def told_by_meter(s: Session, e: Event) -> Session:
    """What a signing meter adds to begin and end."""
    trouble = e.mapping("meter_trouble") or s.meter_trouble
    return replace(s, meter_values=e.mapping("meter_values"), meter_trouble=trouble)


def stopped(s: Session, e: Event) -> Session:
    return replace(s, stop_proof=e.text("proof"))


def restarted_ending(s: Session, e: Event) -> Session:
    """Another life of the process than the one that stopped the session."""
    return replace(after_restart(s, e), gone_unwatched=s.gone_wh is not None)


def is_named_once(s: Session, _: Event) -> bool:
    """It was billed by its last durable reading, and nothing names yet what the register says since."""
    return s.end_quality == LAST_DURABLE and s.unmeasured_seq is None


def unmeasured(s: Session, e: Event) -> Session:
    at = e.mapping("at")
    return replace(
        s,
        next_wh=e.integer("energy_wh"),
        next_at=Stamp.from_json(dict(at)) if at else e.stamp,  # type: ignore[arg-type]  # as stored
        unmeasured_seq=e.integer("seq"),
    )


def pays_until_wh(s: Session) -> int | None:
    """What the register may say at most in the bill; None where the register alone decides."""
    return s.gone_wh if s.gone_unwatched else None


def last_durable(s: Session) -> Durable:
    """What is billed where no register can be."""
    if s.gone_unwatched and s.gone_wh is not None:
        return Durable(s.gone_wh, s.gone_at)
    last_wh = s.last_wh if s.last_wh is not None else s.begin_wh
    return Durable(last_wh or 0, s.last_at)
