"""Plans from seeds."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from simulate.day_faults import DAY_FAULTS
from simulate.fate import Kill
from simulate.kills import aim, aim_at_day, pair_of
from simulate.place import Variant
from simulate.plan import Fault, Plan, Visit

CARDS = ("visa", "mastercard", "girocard", "amex", "phone", "maestro")
BAD_CARDS = ("decline", "expired", "no_credit", "pin", "unreadable", "rfid")
# Chances are weights: what ends in a capture more often than what does not.
ORDERS = ("plug_first",) * 6 + ("tap_first",) * 5 + ("no_plug",) + ("no_tap",)
ENDS = (
    ("unplug",) * 4
    + ("tap",) * 4
    + ("control", "estop", "limit", "limit", "full", "other_card", "sigterm")
)
EARLY = ("",) * 12 + ("unplug", "tap")
RAISING = Variant(hold="12.00", raises=True)
VARIANTS = (
    Variant(),
    Variant(),
    Variant(start="plug"),
    Variant(connectors=2),
    Variant(partial="release"),
    Variant(on_sigterm="hand_over"),
    Variant(resume_s=5),
    RAISING,
)
DAYS = (
    Variant(end_at="13:18", drain_min=1, eod_holds="charges_full"),
    Variant(end_at="13:18", drain_min=0, eod_holds="cancels"),
    Variant(end_at="13:19", drain_min=1, eod_holds="cancels", connectors=2),
    Variant(end_at="13:18", drain_min=2, eod_holds="keeps"),
    Variant(end_at="13:19", drain_min=0, eod_holds="keeps", connectors=2),
    Variant(end_at="13:19", drain_min=1, eod_holds="refuses", connectors=2, foreign="release"),
    Variant(end_at="13:20", drain_min=1, eod_holds="charges_full", foreign="release"),
    Variant(end_at="13:20", drain_min=0, eod_holds="refuses", hold="12.00", raises=True),
    Variant(drain_min=1, eod_holds="charges_full", on_sigterm="hand_over"),
    Variant(drain_min=2, eod_holds="refuses"),
    Variant(reboot_at="13:22", eod_holds="refuses"),
)
REPLACED = "terminal_replaced"
TARIFF_CHANGES = "tariff_changes"
APPROVES_LESS = "host_approves_less"
MORE_FAULTS = (*DAY_FAULTS, REPLACED, TARIFF_CHANGES, APPROVES_LESS)
SEVERAL = (
    Variant(connectors=3),
    Variant(connectors=2, terminals=2),
    Variant(connectors=3, terminals=2),
    Variant(connectors=4, terminals=2, start="plug"),
    Variant(
        connectors=4, terminals=2, end_at="13:19", drain_min=0, eod_holds="cancels", hold="12.00"
    ),
)
TIMED = (
    Variant(timed=True),
    Variant(timed=True, connectors=2),
    Variant(timed=True, hold="12.00", raises=True),
    Variant(timed=True, resume_s=5, on_sigterm="hand_over"),
)
# A raise that is killed beside what else is booked at its terminal.
RAISED = (
    Variant(connectors=2, hold="12.00", raises=True),
    Variant(connectors=3, terminals=2, hold="12.00", raises=True),
    Variant(end_at="13:18", drain_min=1, eod_holds="keeps", hold="12.00", raises=True),
    Variant(
        connectors=2, end_at="13:19", drain_min=0, eod_holds="keeps", hold="12.00", raises=True
    ),
)
MORE_VARIANTS = (*DAYS, *SEVERAL, *RAISED)
MORE_OF = 4  # one seed of so many has a station of these
TIMED_OF = 9  # ... whose tariff knows charging time
CHANGED_OF = 11  # ... whose tariff changes while the agent is dead
LONG_OF = 400  # ... that is left alone for a day and more: as dear as a hundred others
LONG_PEACE_H = 26
# Where neither car nor session is, so seldom is looked for one; a whole day's hours are mostly that.
SPARSE_POLL_S = 5.0
REPLACED_OF = 30  # one seed of so many has a terminal that is replaced
LIMITED_OF = 12  # one visit of so many has a limit of its own
LIMITS = (
    "max_cost_minor 500",
    "max_cost_minor 800",
    "max_cost_minor 1100",
    "max_energy_wh 120",
    "max_energy_wh 250",
    "max_time_s 15",
    "max_time_s 40",
)
CONDUCT_OF = 6  # one seed of so many has one more visitor, who looks whether his orders are obeyed
# (order, end); "" is an outage while energy flows.
CONDUCT = (
    ("tap_twice", "unplug"),
    ("tap_stop", "unplug"),
    ("plug_first", "estop"),
    ("plug_first", "tap"),
    ("plug_first", ""),
)
OWN, LATER = 0xDA7, 0x71F
FAULTS = (
    "terminal_noise",
    "terminal_flips",
    "bus_noise",
    "bus_flips",
    "terminal_reboot",
    "terminal_lock",
    "terminal_off",
    "terminal_point",
    "terminal_fault",
    "terminal_refuses",
    "terminal_loses",
    "host_offline",
    "host_slow",
    "terminal_unplugged",
    "bus_unplugged",
    "meter_fault",
    "meter_late",
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


# What an installation has all the time: a bad cable, a slow meter.
LASTING = ("terminal_flips", "bus_flips", "meter_late")


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
    more: tuple[Variant, ...] = MORE_VARIANTS
    more_faults: tuple[str, ...] = MORE_FAULTS
    timed: tuple[Variant, ...] = TIMED
    long_of: int = LONG_OF
    conduct_of: int = CONDUCT_OF
    idle_poll_s: float = SPARSE_POLL_S


def make_plan(seed: int, menu: Menu) -> Plan:
    rng = random.Random(seed)
    variant = rng.choice(menu.variants)
    # From numbers of its own, so that all other seeds mean what they meant before these were there.
    own = random.Random(seed ^ OWN)
    if menu.more and own.randrange(MORE_OF) == 0:
        variant = own.choice(menu.more)
    later = random.Random(seed ^ LATER)
    if menu.long_of and later.randrange(menu.long_of) == 0:
        return make_long(seed, menu, later)
    if menu.timed and later.randrange(TIMED_OF) == 0:
        variant = later.choice(menu.timed)
    visits = [_visit(rng, variant) for _ in range(rng.randint(*menu.visits))]
    calm = rng.randrange(1000) < menu.calm_permille
    faults: list[Fault] = []
    kills: list[Kill] = []
    if menu.faults and not calm:
        for _ in range(rng.choice((0, 1, 1, 2, menu.faults_most))):
            faults.append(_fault(rng, menu, len(visits)))
    if menu.kills and not calm:
        for n, visit in enumerate(visits):
            # A prime apart, so that neighbouring seeds and visits meet different pairs.
            aimed = aim(pair_of(seed + 7919 * n, variant), n + 1, visit, rng, menu.cuts)
            visits[n] = aimed.visit
            kills += aimed.kills
            faults += aimed.faults
    if variant.ends_days and not calm:
        _add_days(seed, menu, own, visits, faults, kills)
    if REPLACED in menu.more_faults and not calm and own.randrange(REPLACED_OF) == 0:
        faults.append(_own_fault(REPLACED, len(visits), own))
    if TARIFF_CHANGES in menu.more_faults and kills and later.randrange(CHANGED_OF) == 0:
        faults.append(_own_fault(TARIFF_CHANGES, len(visits), later))
    if APPROVES_LESS in menu.more_faults and variant.raises and later.randrange(2):
        faults.append(_own_fault(APPROVES_LESS, len(visits), later))
    if not calm:
        _add_limits(own, visits)
    _add_conduct(later, variant, menu, visits, kills)
    return Plan(seed, variant, tuple(visits), tuple(faults), tuple(kills), menu.idle_poll_s)


# Trouble that is over only after hours, and what a terminal says no by so often that it is tried by the hour.
LONG_FAULTS = (
    ("terminal_refuses", "capture 9c 9"),
    ("terminal_refuses", "cancel 9c 9"),
    ("terminal_refuses", "capture a0 7"),
    ("terminal_loses", ""),
    # Off for longer than a hold is waited for, so that its outcome is listed as unknown.
    ("terminal_point", "reserve:host_asked 900"),
    ("terminal_point", "reserve:result_sent 900"),
    ("terminal_point", "capture:host_asked 900"),
    ("terminal_point", "capture:completed 2400"),
    ("terminal_replaced", ""),
)
LONG_FAULT_S = (700.0, 2_400.0, 7_000.0)


def make_long(seed: int, menu: Menu, rng: random.Random) -> Plan:
    """A few visits with trouble around the money, hours in which that lasts, and more than a day of peace."""
    variant = Variant(peace_h=LONG_PEACE_H, on_sigterm=rng.choice(("end", "hand_over")))
    visits = []
    faults: list[Fault] = []
    kills: list[Kill] = []
    for number in range(1, rng.randint(1, 2) + 1):
        visit = replace(
            _visit(rng, variant), order=rng.choice(("plug_first", "plug_first", "no_plug"))
        )
        visits.append(replace(visit, card=rng.choice(CARDS), early="", stray_tap=""))
        if menu.faults:
            kind, what = rng.choice(LONG_FAULTS)
            after_s, for_s = rng.choice((0.1, 15.0, 30.0)), rng.choice(LONG_FAULT_S)
            after_s = 0.1 if what else after_s
            faults.append(Fault(kind, number, after_s, for_s, rng.randrange(1 << 12), what))
    if menu.kills and rng.randrange(2):
        aimed = aim(pair_of(seed, variant), 1, visits[0], rng, menu.cuts)
        kills += aimed.kills
    return Plan(seed, variant, tuple(visits), tuple(faults), tuple(kills), menu.idle_poll_s)


def _add_limits(own: random.Random, visits: list[Visit]) -> None:
    for n, visit in enumerate(visits):
        if own.randrange(LIMITED_OF) == 0 and visit.end in ("unplug", "tap", "limit"):
            limit = own.choice(LIMITS)
            visits[n] = replace(visit, limit=limit, end="limit", load_w=22_000)


def _add_conduct(
    later: random.Random, variant: Variant, menu: Menu, visits: list[Visit], kills: list[Kill]
) -> None:
    """Somebody who changes his mind, presses the emergency stop and waits, or whose agent is away for longer
    than a session may be resumed."""
    if not menu.conduct_of or later.randrange(menu.conduct_of):
        return
    order, end = later.choice(CONDUCT)
    plain = _visit(later, variant)
    visits.append(
        replace(plain, order=order, end=end or "unplug", early="", stray_tap="", charge_s=25.0)
    )
    if end == "estop":
        visits[-1] = replace(visits[-1], stays_s=30.0)
    if end == "tap":  # his car stays where it is, and somebody comes to the next connector
        connector = (visits[-1].connector + 1) % variant.connectors
        visits[-1] = replace(visits[-1], stays_s=90.0)
        next_one = replace(_visit(later, variant), connector=connector, early="", stray_tap="")
        visits.append(replace(next_one, order="tap_first", gap_s=50.0, charge_s=25.0))
    if not end and order == "plug_first" and menu.kills:
        # Longer than a minute behind the outage, so that what is charged then can be told from what is not.
        visits[-1] = replace(visits[-1], charge_s=150.0, load_w=3_700)
        kills.append(Kill(len(visits), "charging", "bus_send", 3, False, 20.0))


def _add_days(
    seed: int, menu: Menu, own: random.Random, visits: list[Visit], faults: list[Fault],
    kills: list[Kill],
) -> None:  # fmt: skip
    """What happens around the end of a day."""
    if seed % 3 == 0:  # long enough to run into it
        visits[-1] = replace(visits[-1], charge_s=120.0, load_w=3_700)
    kinds = [kind for kind in menu.more_faults if kind in DAY_FAULTS]
    for _ in range(own.choice((0, 1, 1, 2)) if kinds else 0):
        faults.append(_own_fault(own.choice(kinds), len(visits), own))
    if menu.kills and seed % 2:
        others = [kill for kill in kills if kill.visit < len(visits)]
        kills[:] = [*others, aim_at_day(seed // 2, len(visits), own, menu.cuts)]


def _own_fault(kind: str, visits: int, own: random.Random) -> Fault:
    return Fault(
        kind=kind,
        visit=own.randint(1, visits),
        after_s=own.choice((0.0, 5.0, 10.0, 20.0, 45.0)) + own.random(),
        for_s=own.choice((30.0, 75.0, 200.0, 400.0)),
        amount=own.randrange(1 << 16),
    )


def _visit(rng: random.Random, variant: Variant) -> Visit:
    card = rng.choice(CARDS)
    if rng.randrange(12) == 0:
        card = rng.choice(BAD_CARDS)
    if rng.randrange(8) == 0:
        card = "low"
    return Visit(
        connector=rng.randrange(variant.connectors),
        card=card,
        order=rng.choice(ORDERS),
        end=rng.choice(ENDS),
        load_w=rng.choice((3_700, 11_000, 22_000)),
        charge_s=rng.choice((2.0, 6.0, 15.0, 25.0, 45.0)),
        gap_s=rng.choice((4.0, 6.0, 12.0)),
        early=rng.choice(EARLY),
        stray_tap=rng.choice(("", "", "", "", "visa2", "same")),
    )


def _fault(rng: random.Random, menu: Menu, visits: int) -> Fault:
    kind = rng.choice(menu.faults)
    lasting = kind in LASTING
    return Fault(
        kind=kind,
        visit=1 if lasting else rng.randint(1, visits),
        after_s=rng.choice((0.0, 2.0, 5.0, 9.0, 14.0, 20.0, 40.0)) + rng.random(),
        for_s=600.0 if lasting else rng.choice((1.0, 4.0, 12.0, 30.0, 75.0)),
        amount=rng.randrange(1 << 16),
    )
