"""Rules that connect settings: names that must exist, things that must not be shared, money that must
agree. Works on validated settings and the document they came from."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from agent.settings.codes import Kind
from agent.settings.document import Document, Steps, dotted
from agent.settings.explain import close
from agent.settings.hold import Hold
from agent.settings.models import Settings, Uplink
from agent.settings.problems import Place, Problem, Severity
from agent.values.money import CURRENCIES

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Known:
    """What is installed. Filled in by the caller, because the agent imports no driver."""

    protocols: Collection[str]
    meter_models: Collection[str]
    evse_drivers: Collection[str]
    profiles: Mapping[str, Collection[str]] = field(default_factory=dict)  # by protocol


@dataclass(slots=True)
class _Checker:
    """Reads the document, not the models, so that a wrong baud rate does not hide a wrong reference."""

    doc: Document
    found: list[Problem] = field(default_factory=list)

    def add(
        self,
        kind: Kind,
        steps: Steps,
        seen: str,
        expected: str = "",
        *,
        word: str = "",
        severity: Severity = Severity.ERROR,
        at_key: bool = False,
    ) -> None:
        place: Place = self.doc.key_at(steps) if at_key else self.doc.value_at(steps)
        code = self.doc.codes[kind]
        self.found.append(Problem(code, place, dotted(steps), seen, expected, word, severity))

    def line(self, steps: Steps) -> int:
        return self.doc.value_at(steps).line

    def text(self, *steps: str | int) -> str | None:
        """A scalar as written; None when it is missing or something else."""
        value = self.doc.value(steps)
        return str.__str__(value) if isinstance(value, str) else None

    def items(self, name: str) -> list[int]:
        value = self.doc.value((name,))
        return list(range(len(value))) if isinstance(value, list) else []

    @property
    def buses(self) -> list[str]:
        value = self.doc.value(("buses",))
        return list(value) if isinstance(value, dict) else []


def cross_check(doc: Document, settings: Settings | None, known: Known | None) -> list[Problem]:
    """Everything that is wrong although each setting by itself is well formed. `settings` is None
    when some are not; then money and uplink are left out."""
    c = _Checker(doc)
    _ids(c)
    _buses(c)
    _ports(c)
    _serves(c)
    if known is not None:
        _installed(c, known)
    if settings is not None:
        _money(c, settings)
        if settings.uplink is not None:
            _uplink(c, settings.uplink)
    return c.found


def _ids(c: _Checker) -> None:
    for section in ("evses", "terminals"):
        first: dict[str, int] = {}
        for i in c.items(section):
            name = c.text(section, i, "id")
            if name is None:
                continue
            if name in first:
                line = c.line((section, first[name], "id"))
                c.add(
                    Kind.ID_TWICE,
                    (section, i, "id"),
                    f'"{name}" is used in line {line} already',
                    "each id stands for one thing",
                )
            first.setdefault(name, i)


def _buses(c: _Checker) -> None:
    """Every bus exists, and no two devices answer to one address of it."""
    users: dict[tuple[str, str], Steps] = {}
    used: set[str] = set()
    for i in c.items("evses"):
        for part in ("evse", "meter"):
            here: Steps = ("evses", i, part)
            bus = c.text(*here, "bus")
            if bus is None:
                continue
            used.add(bus)
            if bus not in c.buses:
                _no_such(c, (*here, "bus"), "bus", bus, c.buses, "buses")
                continue
            unit = c.text(*here, "unit") or "1"
            other = users.setdefault((bus, unit), here)
            if other != here:
                where = (*here, "unit") if (*here, "unit") in c.doc.places else here
                c.add(
                    Kind.UNIT_TWICE,
                    where,
                    f'unit {unit} on bus "{bus}" is {dotted(other)} (line {c.line(other)}) already',
                    "give each device on a bus its own address, in the device and here",
                )
    for name in c.buses:
        if name not in used:
            c.add(
                Kind.UNUSED,
                ("buses", name),
                "no device uses this bus",
                severity=Severity.WARNING,
                at_key=True,
            )


def _no_such(
    c: _Checker, steps: Steps, what: str, name: str, names: Collection[str], section: str
) -> None:
    word = close(name, names)
    expected = f"declared below {section}: {', '.join(names) or 'none'}"
    c.add(Kind.NO_SUCH_REFERENCE, steps, f'there is no {what} "{name}"', expected, word=word)


def _ports(c: _Checker) -> None:
    """A serial port belongs to one bus or one terminal; a second opener would steal its bytes."""
    places: list[Steps] = [("buses", name, "port") for name in c.buses]
    places += [("terminals", i, "port") for i in c.items("terminals")]
    first: dict[str, Steps] = {}
    for steps in sorted(places, key=c.line):
        port = c.text(*steps)
        if port is None:
            continue
        if "://" not in port:
            port = os.path.normpath(Path(c.doc.file).parent.absolute() / port)
        other = first.setdefault(port, steps)
        if other != steps:
            c.add(
                Kind.PORT_TWICE,
                steps,
                f"this port is {dotted(other)} (line {c.line(other)}) already",
                "a terminal and each bus need a port of their own",
            )


def _serves(c: _Checker) -> None:
    ids = [name for i in c.items("evses") if (name := c.text("evses", i, "id")) is not None]
    served: set[str] = set()
    complete = True
    for i in c.items("terminals"):
        serves = c.doc.value(("terminals", i, "serves"))
        if not isinstance(serves, list):
            complete = False
            continue
        here: set[str] = set()
        for j in range(len(serves)):
            name = c.text("terminals", i, "serves", j)
            if name is None:
                continue
            if name not in ids:
                _no_such(c, ("terminals", i, "serves", j), "connector", name, ids, "evses")
            elif name in here:
                c.add(
                    Kind.ID_TWICE,
                    ("terminals", i, "serves", j),
                    f'"{name}" is listed twice',
                    "delete one",
                )
            here.add(name)
        served |= here
    for i in c.items("evses") if complete else ():
        name = c.text("evses", i, "id")
        if name is not None and name not in served:
            c.add(
                Kind.UNUSED,
                ("evses", i, "id"),
                "no terminal serves this connector, so nobody can pay there",
                "add it to serves: of a terminal",
                severity=Severity.WARNING,
            )


def _money(c: _Checker, settings: Settings) -> None:
    hold = settings.payment.hold
    if hold.fixed is None:
        _computed(c, settings, hold)
        return
    _amount(c, settings, "amount", hold.fixed)
    for name in ("least", "expected_min", "expected_kwh"):
        if getattr(hold, name) is not None:
            seen = "is never used, because the amount is fixed"
            c.add(Kind.HOLD, ("payment", "hold", name), seen, "write amount: from_tariff")
    raised = {"step": hold.step, "most": hold.most}
    for name, amount in raised.items():
        if hold.strategy == "maximum" and amount is not None:
            seen = "is never used, because the hold stays as it is"
            c.add(Kind.HOLD, ("payment", "hold", name), seen, "write strategy: increment")
        elif hold.strategy == "increment" and amount is None:
            expected = f'write {name}: with an amount in quotes, such as "20.00"'
            c.add(Kind.HOLD, ("payment", "hold"), f"increment without {name}", expected)
        elif amount is not None:
            _amount(c, settings, name, amount)
    if hold.strategy == "increment" and hold.most is not None and hold.most <= hold.fixed:
        seen = f'"{hold.most}" is not more than the first hold of "{hold.fixed}"'
        c.add(Kind.HOLD, ("payment", "hold", "most"), seen, "or write strategy: maximum")


def _computed(c: _Checker, settings: Settings, hold: Hold) -> None:
    """`amount: from_tariff`: within what bounds, and for how much charging."""
    here: Steps = ("payment", "hold")
    if hold.strategy != "maximum":
        expected = "write strategy: maximum, or the amount of the first hold"
        c.add(Kind.HOLD, (*here, "amount"), "a hold that is raised begins with an amount", expected)
    if (hold.expected_min is None) == (hold.expected_kwh is None):
        many = "neither" if hold.expected_min is None else "both"
        expected = "expected one: expected_min: 60, or expected_kwh: 40"
        c.add(
            Kind.HOLD, here, f"from_tariff with {many} of expected_min and expected_kwh", expected
        )
    for name, amount in (("least", hold.least), ("most", hold.most)):
        if amount is None:
            expected = f'write {name}: with an amount in quotes, such as "50.00"'
            c.add(Kind.HOLD, here, f"from_tariff without {name}", expected)
        else:
            _amount(c, settings, name, amount)
    if hold.step is not None:
        seen = "is never used, because the hold stays as it is"
        c.add(Kind.HOLD, (*here, "step"), seen, "write strategy: increment")
    if hold.least is not None and hold.most is not None and hold.most < hold.least:
        seen = f'"{hold.most}" is less than least, "{hold.least}"'
        c.add(Kind.HOLD, (*here, "most"), seen, "expected least or more")


def _amount(c: _Checker, settings: Settings, name: str, amount: Decimal) -> None:
    steps: Steps = ("payment", "hold", name)
    if amount <= 0:
        c.add(Kind.HOLD, steps, f'"{amount}" reserves nothing', "expected more than zero")
        return
    for terminal in settings.terminals:
        digits = CURRENCIES[terminal.currency][1]
        if amount != round(amount, digits):
            c.add(
                Kind.HOLD,
                steps,
                f'"{amount}" has more digits than {terminal.currency} of terminal {terminal.id}',
                f"expected at most {digits} digits after the point",
            )
            return


def _uplink(c: _Checker, uplink: Uplink) -> None:
    if not uplink.tls:
        for name in ("ca", "certificate", "key"):
            if getattr(uplink, name) is not None:
                c.add(
                    Kind.UPLINK,
                    ("uplink", name),
                    "is never used, because mqtt:// is not encrypted",
                    "write mqtts:// in uplink.url",
                )
        if uplink.host not in _LOOPBACK:
            c.add(
                Kind.UPLINK,
                ("uplink", "url"),
                "is not encrypted: records can be read and held back on the way",
                "expected mqtts:// for a broker that is not on this machine",
                severity=Severity.WARNING,
            )
    if (uplink.certificate is None) != (uplink.key is None):
        has, lacks = ("certificate", "key") if uplink.key is None else ("key", "certificate")
        c.add(Kind.UPLINK, ("uplink", has), f"stands without uplink.{lacks}", "write both or none")


def _installed(c: _Checker, known: Known) -> None:
    def check(steps: Steps, what: str, names: Collection[str]) -> None:
        name = c.text(*steps)
        if name is not None and name not in names:
            word = close(name, names)
            rest = f"installed: {', '.join(sorted(names)) or 'none'}"
            c.add(Kind.NOT_INSTALLED, steps, f'no {what} "{name}" is installed', rest, word=word)

    for i in c.items("evses"):
        check(("evses", i, "evse", "driver"), "EVSE driver", known.evse_drivers)
        # A model of the technician's own folder is looked for by its driver, which says what is wrong.
        if c.text("evses", i, "meter", "options", "models_dir") is None:
            check(("evses", i, "meter", "model"), "meter model", known.meter_models)
    for i in c.items("terminals"):
        check(("terminals", i, "protocol"), "protocol", known.protocols)
        profiles = known.profiles.get(c.text("terminals", i, "protocol") or "")
        if profiles is not None:
            check(("terminals", i, "profile"), "profile", profiles)
