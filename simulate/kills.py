"""Kills that rotate over every state of a session and every kind of step, and what leads a visit into the
state where its kill waits."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import NamedTuple

from agent.session import S
from simulate.fate import DAY_END, NO_SESSION, STEPS, Kill
from simulate.place import Variant
from simulate.plan import Fault, Visit

# `new` is never stored, `closed` is nobody's any more.
STATES = (NO_SESSION, *(str(s) for s in S if s not in (S.NEW, S.CLOSED)))
PAIRS = tuple((state, step) for step in STEPS for state in STATES)
# Apart, so that seeds of other stations mean what they meant before.
DAY_PAIRS = tuple((DAY_END, step) for step in STEPS)
ALL_PAIRS = (*PAIRS, *DAY_PAIRS)
ALL_STATES = (*STATES, DAY_END)
# They last for milliseconds: a slow disk stretches them until another kind of step falls into them.
SHORT = (
    "approved",
    "recording",
    "settled",
    "beginning",
    "ending",
    "held",
    "capturing",
    "releasing",
)
# They last as long as the terminal is spoken to.
SPOKEN = (
    "authorizing",
    "approved",
    "hold_unclear",
    "capture_unclear",
    "release_unclear",
    "raise_open",
)
DUE = ("capture_due", "release_due")
SLOW_TERMINAL_S = "0.3"
SLOW_DISK_S = "0.6"  # a commit: late, but in time for a terminal
SLOW_HOST_S = "20"  # the session is over before the host has raised its hold
# Refused not for now, and for good (PA00P015 ch. 10): command, code, how often.
REFUSED = {
    "capture_due": "capture 9c 2",
    "release_due": "cancel 9c 2",
    "unresolved": "capture 05 1",
}
GOOD_CARDS = ("visa", "mastercard", "girocard", "amex", "phone", "maestro", "low")
RAISE = str(S.RAISE_OPEN)
FIRST_S = 0.05
VISIT_S = 90.0


def pair_of(number: int, variant: Variant) -> int:
    """Pairs in turn. A state that only some stations know is aimed at in all of their turns that are even."""
    if variant.raises and number % 2:
        return STATES.index(RAISE) + len(STATES) * (number // 2 % len(STEPS))
    pair = number % len(PAIRS)
    return pair if variant.raises or PAIRS[pair][0] != RAISE else (pair + 1) % len(PAIRS)


def aim_at_day(number: int, last: int, rng: random.Random, cuts: bool) -> Kill:
    """Instead of the last kill of a visit: one while the terminal is told to end its day."""
    step, nth = STEPS[number % len(STEPS)], rng.choice((1, 1, 2, 2, 3, 5))
    return Kill(
        visit=last,
        state=DAY_END,
        step=step,
        nth=1 if step == "sync" or step.startswith("mqtt") else nth,
        power=cuts and rng.randrange(3) == 0,
        away_s=rng.choice((3.0, 8.0, 25.0, 70.0)),
    )


class Aimed(NamedTuple):
    visit: Visit
    kills: list[Kill]
    faults: list[Fault]


def aim(pair: int, number: int, visit: Visit, rng: random.Random, cuts: bool) -> Aimed:
    """The visit that leads to state and step of `pair`, the kills on its way, and the faults it needs."""
    state, step = PAIRS[pair % len(PAIRS)]
    visit = _way(state, visit)
    kills, faults = [], []
    before = _before(state, number, rng)
    if before is not None:
        kills.append(before)
    if state in REFUSED:
        faults.append(Fault("terminal_refuses", number, FIRST_S, VISIT_S, what=REFUSED[state]))
    if state == RAISE:
        faults.append(Fault("host_slow", number, FIRST_S, VISIT_S, what=SLOW_HOST_S))
    outside = step not in ("write", "sync")
    if state in SHORT and outside and rng.randrange(8):
        faults.append(Fault("disk_stall", number, FIRST_S, VISIT_S, what=SLOW_DISK_S))
    if state in SPOKEN and outside and not step.startswith("terminal"):
        faults.append(Fault("terminal_slow", number, FIRST_S, VISIT_S, what=SLOW_TERMINAL_S))
    nth = rng.choice((1, 1, 1, 2, 2, 3, 5))
    few = step == "sync" or step.startswith("mqtt") or state in (*SHORT, *SPOKEN, *DUE, "suspended")
    kill = Kill(
        visit=number,
        state=state,
        step=step,
        nth=1 if few and rng.randrange(4) else nth,
        power=cuts and rng.randrange(3) == 0,
        away_s=rng.choice((3.0, 3.0, 3.0, 8.0, 25.0, 70.0)),
    )
    return Aimed(visit, [*kills, kill], faults)


def _way(state: str, visit: Visit) -> Visit:
    """Changed only as far as the state needs it."""
    if state in (NO_SESSION, "authorizing"):
        return visit
    good = visit if visit.card in GOOD_CARDS else replace(visit, card="visa")
    if state == "held":  # a car that is there begins at once
        return replace(good, order="tap_first", early="")
    if state in ("approved", "hold_unclear"):
        return replace(good, order="tap_first" if visit.order == "no_tap" else visit.order)
    if state.startswith("releas"):
        return replace(good, order="no_plug")
    comes_to_charge = visit.order in ("plug_first", "tap_first")
    charged = good if comes_to_charge else replace(good, order="plug_first")
    if state == RAISE:
        short = replace(charged, order="plug_first", end="unplug", charge_s=2.0, load_w=22_000)
        return replace(short, early="", stray_tap="")
    if state == "suspended":
        return replace(charged, end="full")
    return replace(charged, early="")


def _before(state: str, number: int, rng: random.Random) -> Kill | None:
    """An outcome is unclear after a death in the dialogue."""
    dialogue = {
        "hold_unclear": "authorizing",
        "capture_unclear": "capturing",
        "release_unclear": "releasing",
    }
    if state not in dialogue:
        return None
    step = rng.choice(("terminal_send", "terminal_receive"))
    return Kill(number, dialogue[state], step, rng.choice((1, 2, 2, 3)), False, 3.0)
