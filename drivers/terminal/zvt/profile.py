"""Terminal families as data: what differs between makes stands in one YAML file each.

The form (`format: voltill-zvt-profile-1`), all keys required, others refused:

    title       for people
    base        the shipped profile this one differs from; only `generic` has none and says all
    settings    name -> {value, source}. The names are the fields of Profile. A value is text, a whole
                number, or true or false; lists are one text with blanks between
    source      where the value is known from: "digest N" (our notes on the protocol, docs/terminals.md
                names what they are made of), "PA00P015 ..." or "PA00P016 ..." (the protocol documents),
                "manual: ..." (the maker's), "seen: ..." (on which terminal), or "assumed: ..." and why

A technician's own file has the same form and stands anywhere: the option `profile` is its path.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.ports import DeviceUnavailable
from drivers.terminal.zvt.profile_schema import SETTINGS, Kept, Plain, Profile, prints_by
from drivers.yaml_nodes import Entry, Problem, read_document

__all__ = ["Family", "Profile", "Sourced", "load_profile", "names", "read_family", "shipped"]

SHIPPED = Path(__file__).with_name("profiles")
FORMAT = "voltill-zvt-profile-1"
ROOT = "generic"
_SOURCE = re.compile(
    r"digest [0-9]{1,2}(\.[0-9]{1,2})?(: .{3,120})?|PA00P01[56] .{2,120}|(manual|seen|assumed): .{3,120}"
)
_SOURCE_FORMS = (
    '"digest 5.1", "PA00P015 06 00", "manual: ...", "seen: ..." or "assumed: ..." with the reason'
)


@dataclass(frozen=True, slots=True)
class Sourced:
    """A setting of a file: its value as Profile keeps it, and where it is known from."""

    value: object
    source: str


@dataclass(frozen=True, slots=True)
class Family:
    """One file: what it says itself, nothing of its base."""

    name: str
    title: str
    base: str | None
    settings: Mapping[str, Sourced]


def names() -> list[str]:
    """The shipped profiles, `generic` first. Entry point `tool.zvt_profiles`: every start asks, so no file
    is read for it."""
    return sorted((path.stem for path in SHIPPED.glob("*.yaml")), key=lambda s: (s != ROOT, s))


def shipped() -> list[Family]:
    """The shipped files, in the order of `names`."""
    return [read_family(SHIPPED / f"{name}.yaml") for name in names()]


def load_profile(name: str, options: Mapping[str, object]) -> Profile:
    """The profile `name` (a shipped one, or the path of a file), single settings replaced by `options`,
    of which `profile` outranks the name. Raises DeviceUnavailable TRM-010."""
    own = dict(options)
    chosen = own.pop("profile", name)
    if not isinstance(chosen, str) or not chosen:
        raise _refused(f"option profile: {chosen!r}", "a name, or the path of a file")
    family = _family(chosen)
    values = {**_base_values(family), **{key: s.value for key, s in family.settings.items()}}
    for key, value in own.items():
        values[key] = _option(key, value)
    _agrees(family.name, values)
    return Profile(name=family.name, title=family.title, **values)  # type: ignore[arg-type]


def read_family(path: Path) -> Family:
    """The file at `path`. Raises DeviceUnavailable TRM-010 with every problem, each with its line."""
    problems: list[Problem] = []
    top = read_document(path, problems)
    family = None if top is None else _read(top, path.stem)
    if family is None or problems:
        found = sorted(problems, key=lambda problem: problem.line)
        raise _refused(
            "\n".join(map(str, found)), "the form of docs/terminals.md", f"correct {path}"
        )
    return family


def _family(chosen: str) -> Family:
    if "/" in chosen or chosen.endswith(".yaml"):
        return read_family(Path(chosen))
    path = SHIPPED / f"{chosen}.yaml"
    known = sorted(p.stem for p in SHIPPED.glob("*.yaml"))
    if chosen not in known:
        raise _refused(
            f"no ZVT profile {chosen}",
            f"one of {', '.join(known)}",
            "correct `profile`, or give the path of a file of your own as option `profile`",
        )
    return read_family(path)


def _base_values(family: Family) -> dict[str, object]:
    """What the bases say, the nearest last. Bases are shipped, so there is no circle."""
    if family.base is None:
        return {}
    base = read_family(SHIPPED / f"{family.base}.yaml")
    return {**_base_values(base), **{key: s.value for key, s in base.settings.items()}}


def _refused(seen: str, expected: str, remedy: str = "correct `options`") -> DeviceUnavailable:
    return DeviceUnavailable("TRM-010", seen, expected, remedy)


def _option(key: str, value: object) -> object:
    setting = SETTINGS.get(key)
    if setting is None:
        close = difflib.get_close_matches(key, SETTINGS, 1)
        hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(sorted(SETTINGS))}"
        raise _refused(f"terminal option {key} is not known", hint)
    is_plain = isinstance(value, str | int)  # bool is an int
    kept = setting.check(value) if isinstance(value, str | int) else None
    if not is_plain or not isinstance(kept, Kept):
        expected = kept if isinstance(kept, str) else "text, a whole number, or true or false"
        raise _refused(f"terminal option {key}: {value!r}", expected)
    return kept.value


def _agrees(name: str, values: Mapping[str, object]) -> None:
    """What two settings must agree on."""
    told, wanted = values["prints"], prints_by(str(values["config_byte"]))
    if told != wanted:
        raise _refused(
            f"profile {name}: prints is {told}, config_byte {values['config_byte']}",
            f"prints: {wanted}, which is what that byte means",
            "correct one of the two",
        )


# --- The file. Each function notes its problems in the entry. ---------------------------------------


def _read(top: Entry, name: str) -> Family | None:
    top.only(["format", "title", "base", "settings"])
    top.choice("format", (FORMAT,))
    title = top.text("title")
    base = _base(top, name)
    settings = top.mapping("settings")
    if title is None or settings is None:
        return None
    settings.only(list(SETTINGS))
    found = {key: _setting(settings, key) for key in settings.names if key in SETTINGS}
    if base is None:
        for key in SETTINGS:
            if key not in found:
                settings.problem(key, "missing; a profile without base says all")
    kept = {key: sourced for key, sourced in found.items() if sourced is not None}
    return Family(name, title, base, kept)


def _base(top: Entry, name: str) -> str | None:
    """Only the shipped `generic` has none."""
    if name == ROOT and "base" not in top.names:
        return None
    known = [path.stem for path in SHIPPED.glob("*.yaml")]
    return top.choice("base", sorted(known)) or ROOT


def _setting(settings: Entry, key: str) -> Sourced | None:
    entry = settings.mapping(key)
    if entry is None:
        return None
    entry.only(["value", "source"])
    value, source = _value(entry, key), entry.text("source")
    if source is not None and not _SOURCE.fullmatch(source):
        entry.problem("source", f"{key}: {source!r}: expected {_SOURCE_FORMS}")
    return None if value is None or source is None else Sourced(value.value, source)


def _value(entry: Entry, key: str) -> Kept | None:
    written: Plain | None = entry.plain("value")
    if written is None:
        return None
    kept = SETTINGS[key].check(written)
    if isinstance(kept, Kept):
        return kept
    entry.problem("value", f"{key}: {written!r}: expected {kept}")
    return None
