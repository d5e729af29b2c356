"""Loading and checking: everything that is wrong is said at once."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from agent.settings.codes import CFG, TAR, Kind
from agent.settings.cross import Known, cross_check
from agent.settings.document import Document, dotted, parse, read
from agent.settings.explain import validate
from agent.settings.files import check_files
from agent.settings.models import Settings
from agent.settings.problems import Problem, SettingsRefused, Severity, errors, ordered
from agent.settings.tariff_file import TariffFile
from agent.tariff import Tariff, TariffInvalid, Usage, headroom

# What a stop takes at the very least: one poll, one bus answer, one contactor. Only to warn of a hold
# that is too small to charge at all; the station computes its own margin.
SHORTEST_REACTION_MS = 2_000
# A hold that ends within this many minutes at full power surprises a driver.
SHORT_SESSION_MIN = 10


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything `voltill run` needs from files, and what a person should look at."""

    settings: Settings
    tariff: Tariff
    warnings: tuple[Problem, ...]


def load_settings(path: Path | str) -> Settings:
    """The settings of a file, without looking at the files it names. Relative paths resolve against
    the configuration file. Raises SettingsRefused with every problem."""
    _, settings, problems = _settings(Path(path), None)
    if settings is None or errors(problems):
        raise SettingsRefused(problems)
    return settings


def settings_of_text(text: str, name: str, base: Path) -> Settings:
    """As load_settings, from text that was kept. Relative paths resolve against `base`."""
    doc = parse(text, name, CFG)
    settings = validate(doc, Settings, base)
    if settings is None:
        raise SettingsRefused(doc.problems)
    return settings


def load_tariff(path: Path | str) -> Tariff:
    """The tariff of a file. Raises SettingsRefused with every problem (ids TAR-...)."""
    tariff, problems = _tariff(Path(path))
    if tariff is None:
        raise SettingsRefused(problems)
    return tariff


def check(
    path: Path | str,
    *,
    files: bool = True,
    known: Known | None = None,
    starting: bool = False,
) -> list[Problem]:
    """Every problem of a configuration, in file order; never raises for what a file holds.

    `files` also looks at the files it names; `known` says which drivers are installed; `starting`
    makes an error of a secret that cannot be had by this process (else a note)."""
    try:
        return _load(Path(path), files, known, starting)[2]
    except SettingsRefused as refused:
        return refused.problems


def check_tariff(path: Path | str) -> list[Problem]:
    """Every problem of a tariff file."""
    return _tariff(Path(path))[1]


def load_station(path: Path | str, *, known: Known | None = None) -> Loaded:
    """Settings and tariff, checked with all files as for a start. Raises SettingsRefused."""
    settings, tariff, problems = _load(Path(path), True, known, True)
    if settings is None or tariff is None or errors(problems):
        raise SettingsRefused(problems)
    return Loaded(settings, tariff, tuple(problems))


def _settings(path: Path, known: Known | None) -> tuple[Document, Settings | None, list[Problem]]:
    doc = read(path, CFG, "configuration file")
    settings = validate(doc, Settings, path.parent.absolute())
    problems = doc.problems + cross_check(doc, settings, known)
    return doc, settings, ordered(problems)


def _tariff(path: Path) -> tuple[Tariff | None, list[Problem]]:
    try:
        doc = read(path, TAR, "tariff file")
    except SettingsRefused as refused:
        return None, refused.problems
    file = validate(doc, TariffFile, path.parent)
    if file is None:
        return None, ordered(doc.problems)
    try:
        return file.tariff(), []
    except TariffInvalid as e:
        place = next(
            (place for steps, place in doc.places.items() if dotted(steps) == e.where),
            doc.value_at(()),
        )
        return None, [Problem(TAR[Kind.TARIFF], place, e.where, e.text)]


def _load(
    path: Path, files: bool, known: Known | None, starting: bool
) -> tuple[Settings | None, Tariff | None, list[Problem]]:
    doc, settings, problems = _settings(path, known)
    tariff_name = doc.value(("tariff", "file"))
    if not files or not isinstance(tariff_name, str):
        return settings, None, problems
    tariff, of_tariff = _tariff(Path(os.path.normpath(path.parent / tariff_name)))
    if settings is not None:
        problems += check_files(doc, settings, starting)
    if settings is not None and tariff is not None:
        problems += _money_of_both(doc, settings, tariff)
    # The tariff's problems stay behind the configuration's: a person corrects one file, then the next.
    return settings, tariff, ordered(problems) + of_tariff


def _money_of_both(doc: Document, settings: Settings, tariff: Tariff) -> list[Problem]:
    found = []
    for i, terminal in enumerate(settings.terminals):
        if terminal.currency != tariff.currency:
            found.append(
                Problem(
                    doc.codes[Kind.CURRENCY],
                    doc.value_at(("terminals", i, "currency")),
                    f"terminals[{i}].currency",
                    f"terminal {terminal.id} takes {terminal.currency},"
                    f" but tariff {tariff.id} is in {tariff.currency}",
                    "terminal and tariff need one currency",
                )
            )
    hold = settings.payment.hold.fixed
    if not found and (hold is None or (hold > 0 and hold == round(hold, 2))):
        with contextlib.suppress(ValueError):  # said where the settings are compared
            found += _hold_is_enough(doc, settings, tariff)
    return found


def _hold_is_enough(doc: Document, settings: Settings, tariff: Tariff) -> list[Problem]:
    terminal = settings.terminals[0]
    hold = settings.hold(terminal, tariff)
    power_w = max(point.max_power_w for point in settings.evses)
    steps = ("payment", "hold", "amount")

    def problem(severity: Severity, seen: str) -> list[Problem]:
        expected = "expected an amount that lets a car charge for a while"
        place = doc.value_at(steps)
        code = doc.codes[Kind.HOLD]
        return [Problem(code, place, dotted(steps), seen, expected, severity=severity)]

    def ahead(ms: int) -> bool:
        found = headroom(tariff, Usage(0), hold.amount_minor, max_power_w=power_w, reaction_ms=ms)
        return found.reached

    if ahead(SHORTEST_REACTION_MS):
        return problem(Severity.ERROR, f"{hold} is used up before a car could charge at all")
    if ahead(SHORT_SESSION_MIN * 60_000):
        kilowatts = Decimal(power_w) / 1000
        text = f"{hold} is used up within {SHORT_SESSION_MIN} minutes at {kilowatts:f} kW"
        return problem(Severity.WARNING, text)
    return []
