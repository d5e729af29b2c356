"""What one seed stands for: drivers' visits, faults and kills, as data. A plan can be made smaller: that is
how a violation's trace becomes a minimal one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.station.charge_point import POLL_S
from simulate.fate import Kill
from simulate.place import Variant


@dataclass(frozen=True, slots=True)
class Visit:
    """One driver. `order`: tap_first, plug_first, no_plug, no_tap, tap_twice (the same card again, to
    cancel), tap_stop (stopped by an app at once). `end`: unplug, tap, control, estop, limit,
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
    stays_s: float = 1.0  # at the charger, after the end
    limit: str = ""  # set once energy flows: a kind of agent's `limit`, and its value


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` is a function of simulate.faults; it begins `after_s` into visit `visit`, lasts `for_s`.
    `amount` decides what the kind leaves open, by chance; `what` says it where it matters."""

    kind: str
    visit: int
    after_s: float
    for_s: float
    amount: int = 0
    what: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    variant: Variant
    visits: tuple[Visit, ...]
    faults: tuple[Fault, ...] = ()
    kills: tuple[Kill, ...] = ()
    idle_poll_s: float = POLL_S

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
