"""What one seed stands for: drivers' visits, faults and kills, as data. A plan can be made smaller: that is
how a violation's trace becomes a minimal one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from simulate.fate import NO_SESSION, STEPS, Kill
from simulate.place import Variant

CARDS = ("visa", "mastercard", "girocard", "amex", "phone", "maestro")
# State x step pairs that kills rotate over, by seed.
STATES = (
    NO_SESSION,
    "authorizing",
    "approved",
    "hold_unclear",
    "held",
    "beginning",
    "starting",
    "charging",
    "suspended",
    "stopping",
    "ending",
    "recording",
    "capturing",
    "capture_due",
    "capture_unclear",
    "releasing",
    "release_due",
    "release_unclear",
    "settled",
    "unresolved",
)
PAIRS = tuple((state, step) for step in STEPS for state in STATES)


@dataclass(frozen=True, slots=True)
class Visit:
    """One driver. `order`: tap_first, plug_first, no_plug, no_tap. `end`: unplug, tap, control, estop, limit,
    full (the car is full and stays a while), other_card, sigterm. `early`: what happens before energy flows:
    "", unplug, tap (the same card again)."""

    connector: int
    card: str
    order: str
    end: str
    load_w: int
    charge_s: float
    gap_s: float
    early: str = ""
    stray_tap: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` is a function of simulate.faults; it begins `after_s` into visit `visit`, lasts `for_s`."""

    kind: str
    visit: int
    after_s: float
    for_s: float
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    variant: Variant
    visits: tuple[Visit, ...]
    faults: tuple[Fault, ...] = ()
    kills: tuple[Kill, ...] = ()

    def without(self, name: str, at: int) -> Plan:
        """One visit, fault or kill less. Faults and kills of a visit go with it."""
        left = tuple(item for n, item in enumerate(getattr(self, name)) if n != at)
        if name == "faults":
            return replace(self, faults=left)
        if name == "kills":
            return replace(self, kills=left)

        def moved(visit: int) -> int:
            return visit - 1 if visit > at + 1 else visit

        return replace(
            self,
            visits=left,
            faults=tuple(replace(f, visit=moved(f.visit)) for f in self.faults),
            kills=tuple(replace(k, visit=moved(k.visit)) for k in self.kills),
        )


# Chances are weights: what ends in a capture more often than what does not.
ORDERS = ("plug_first",) * 6 + ("tap_first",) * 5 + ("no_plug",) + ("no_tap",)
ENDS = (
    ("unplug",) * 4 + ("tap",) * 4 + ("control", "estop", "limit", "full", "other_card", "sigterm")
)
EARLY = ("",) * 12 + ("unplug", "tap")
VARIANTS = (
    Variant(),
    Variant(),
    Variant(start="plug"),
    Variant(connectors=2),
    Variant(partial="release"),
    Variant(on_sigterm="hand_over"),
    Variant(resume_s=5),
)
FAULTS = (
    "terminal_noise",
    "bus_noise",
    "terminal_reboot",
    "terminal_lock",
    "terminal_off",
    "terminal_point",
    "terminal_fault",
    "terminal_refuses",
    "host_offline",
    "terminal_unplugged",
    "bus_unplugged",
    "meter_fault",
    "meter_nan",
    "evse_fault",
    "backend_gone",
    "backend_cut",
    "backend_slow",
    "backend_refuses",
    "backend_lies",
    "backend_forgets",
    "broker_drops",
    "clock_jump",
    "clock_lost",
    "disk_full",
    "disk_stall",
)


@dataclass(slots=True)
class Menu:
    """Which kinds of trouble a run may have; tests and planted bugs narrow it."""

    faults: tuple[str, ...] = FAULTS
    kills: bool = True
    cuts: bool = True
    visits: tuple[int, int] = (1, 4)
    variants: tuple[Variant, ...] = VARIANTS
    calm_permille: int = 50
    faults_most: int = 3
    weights: dict[str, int] = field(default_factory=dict)


def make_plan(seed: int, menu: Menu) -> Plan:
    rng = random.Random(seed)
    variant = rng.choice(menu.variants)
    visits = tuple(_visit(rng, variant) for _ in range(rng.randint(*menu.visits)))
    calm = rng.randrange(1000) < menu.calm_permille
    faults: list[Fault] = []
    if menu.faults and not calm:
        for _ in range(rng.choice((0, 1, 1, 2, menu.faults_most))):
            faults.append(_fault(rng, menu, len(visits)))
    kills: list[Kill] = []
    if menu.kills and not calm:
        kills = [_kill(rng, menu, seed + 7919 * n, n + 1) for n in range(len(visits))]
    return Plan(seed, variant, visits, tuple(faults), tuple(kills))


def _visit(rng: random.Random, variant: Variant) -> Visit:
    card = rng.choice(CARDS)
    if rng.randrange(12) == 0:
        card = rng.choice(("decline", "expired", "no_credit", "pin", "unreadable", "rfid"))
    if rng.randrange(8) == 0:
        card = "low"
    return Visit(
        connector=rng.randrange(variant.connectors),
        card=card,
        order=rng.choice(ORDERS),
        end=rng.choice(ENDS),
        load_w=rng.choice((3_700, 11_000, 22_000)),
        charge_s=rng.choice((2.0, 6.0, 15.0, 25.0, 45.0)),
        gap_s=rng.choice((1.0, 3.0, 8.0)),
        early=rng.choice(EARLY),
        stray_tap=rng.choice(("", "", "", "", "visa2", "same")),
    )


def _fault(rng: random.Random, menu: Menu, visits: int) -> Fault:
    return Fault(
        kind=rng.choice(menu.faults),
        visit=rng.randint(1, visits),
        after_s=rng.choice((0.0, 2.0, 5.0, 9.0, 14.0, 20.0, 40.0)) + rng.random(),
        for_s=rng.choice((1.0, 4.0, 12.0, 30.0, 75.0)),
        amount=rng.randrange(1 << 16),
    )


def _kill(rng: random.Random, menu: Menu, pick: int, visit: int) -> Kill:
    """The pairs in turn, by seed; the n-th step of that kind in that state."""
    state, step = PAIRS[pick % len(PAIRS)]
    return Kill(
        visit=visit,
        state=state,
        step=step,
        nth=rng.choice((1, 1, 1, 2, 3, 5, 9)),
        power=menu.cuts and rng.randrange(3) == 0,
        away_s=rng.choice((3.0, 3.0, 3.0, 8.0, 25.0, 70.0)),
    )
