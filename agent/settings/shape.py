"""Sections of a file as typed classes: what is read from plain data, with everything that is wrong at once.

A section is a class with annotated settings, as a dataclass has them. What a setting may be is its
annotation: `Literal`, a list, a dictionary, another section, or `Annotated` with what turns a scalar as
written into the value (`Before`), what looks at the value (`After`), and `Limits`. None is let through
where the annotation has `| None`. The bare types inside `Annotated` are for people and mypy: `Before`
makes them. Ours rather than a library's, because validation of settings is all it is for: the library
took a fifth of the agent's memory for as long as it ran (docs/benchmarks.md, core).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NoReturn,
    Self,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

Steps = tuple[str | int, ...]
_UNIONS = (Union, types.UnionType)
_NOTHING: Any = object()


class Unfit(Exception):
    """A value that is refused. `kind` is a name of codes.Kind, then the texts go to a person as they are;
    or one of the words below, for which agent.settings.explain has the text."""

    def __init__(self, kind: str, **about: Any) -> None:
        super().__init__(kind)
        self.kind, self.about = kind, about


class _Told(Exception):
    """Something inside is wrong, and already noted where it stands."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at a place. `kind` is as in Unfit, or: missing, unknown, not_a_section, not_a_list,
    none_of, too_low, too_high, too_few, too_many. `in_key`: the name itself is wrong."""

    steps: Steps
    kind: str
    about: dict[str, Any]
    in_key: bool = False


@dataclass(frozen=True, slots=True)
class Before:
    """Turns what was written into a value; may raise Unfit."""

    made: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class After:
    """Looks at the value, gives it or another one; may raise Unfit."""

    checked: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class AfterIn:
    """As After, and is told the folder against which paths resolve."""

    checked: Callable[[Any, Path], Any]


@dataclass(frozen=True, slots=True, eq=False)  # typing hashes what stands in Annotated
class Schema:
    """The JSON Schema of a value as written, where it cannot be told from the annotation."""

    of: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a number: `ge`, `le`; of a text: `max_length`; of a list: both lengths."""

    ge: int | None = None
    le: int | None = None
    min_length: int | None = None
    max_length: int | None = None

    def check(self, value: Any) -> None:
        if value is None:
            return
        if self.ge is not None and value < self.ge:
            raise Unfit("too_low", bound=self.ge)
        if self.le is not None and value > self.le:
            raise Unfit("too_high", bound=self.le)
        if self.min_length is not None and len(value) < self.min_length:
            raise Unfit("too_few", bound=self.min_length, seen=len(value))
        if self.max_length is not None and len(value) > self.max_length:
            raise Unfit("too_many", bound=self.max_length, seen=len(value))


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a section, apart from its annotation."""

    description: str
    limits: Limits
    default: Any = _NOTHING
    default_factory: Callable[[], Any] | None = None

    @property
    def needed(self) -> bool:
        return self.default is _NOTHING and self.default_factory is None

    def without(self) -> Any:
        """Its value where the file says nothing."""
        if self.default_factory is not None:
            return self.default_factory()
        return list(self.default) if isinstance(self.default, list) else self.default


def setting(
    *,
    description: str,
    default: Any = _NOTHING,
    default_factory: Callable[[], Any] | None = None,
    ge: int | None = None,
    le: int | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
) -> Any:
    """What stands behind the annotation of a setting. Without a default it is needed. `description` is what
    an editor shows, and what the error for a missing one says."""
    return Setting(description, Limits(ge, le, min_length, max_length), default, default_factory)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting,))
class Section:  # noqa: PLW1641 - it holds lists
    """A section: unknown settings are errors, and nothing changes after loading."""

    settings_of: ClassVar[dict[str, Setting]] = {}
    # What needed_beside and idle_beside say, for the JSON Schema.
    schema_also: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        cls.settings_of = {
            name: value for name, value in vars(cls).items() if isinstance(value, Setting)
        }

    def __init__(self, **values: Any) -> None:
        """From values that need no check."""
        for name, one in self.settings_of.items():
            if name not in values and one.needed:
                raise TypeError(f"{type(self).__name__}: {name} is missing")
            self.__dict__[name] = values.pop(name) if name in values else one.without()
        if values:
            raise TypeError(f"{type(self).__name__}: no such setting: {', '.join(values)}")

    def agree(self) -> None:
        """What several settings must agree on; may raise Unfit."""

    @classmethod
    def needed_beside(cls, data: Mapping[str, object]) -> Collection[str]:
        """Settings with a default that are needed all the same, beside the others as written."""
        return ()

    @classmethod
    def idle_beside(cls, data: Mapping[str, object]) -> Mapping[str, tuple[str, str]]:
        """Settings that say nothing beside the others as written: to each what was seen and expected.
        Writing one is an error, because its writer takes it for in force."""
        return {}

    def but(self, **changes: Any) -> Self:
        """A copy with other values, which are not checked."""
        return type(self)(**{**self.__dict__, **changes})

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name}: settings do not change")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name}: settings do not change")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({values})"


S = TypeVar("S", bound=Section)


_KINDS: dict[type, dict[str, Any]] = {}


def kinds_of(section: type[Section]) -> dict[str, Any]:
    """The annotations of a section's settings, with their limits."""
    if section not in _KINDS:  # resolved when first needed: few stations have every section
        hints: dict[str, Any] = get_type_hints(section, include_extras=True)
        settings = section.settings_of.items()
        _KINDS[section] = {name: Annotated[hints[name], one.limits] for name, one in settings}
    return _KINDS[section]


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def may_be_none(kind: Any) -> bool:
    return get_origin(kind) in _UNIONS and types.NoneType in get_args(kind)


def but_none(kind: Any) -> Any:
    """Of `X | None` the X."""
    return Union[tuple(one for one in get_args(kind) if one is not types.NoneType)]  # noqa: UP007


def bare(kind: Any) -> Any:
    """Without Annotated and without None."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif may_be_none(kind):
            kind = but_none(kind)
        else:
            return kind


def read(section: type[S], data: object, folder: Path) -> tuple[S | None, list[Finding]]:
    """The section from plain data, or None and everything that is wrong with it. Relative paths resolve
    against `folder`."""
    reader = _Reader(folder)
    return reader.part(section, data, ()), reader.found


@dataclass(slots=True)
class _Reader:
    """Values by annotation. A part that is wrong is noted, and its neighbours are still looked at."""

    folder: Path
    found: list[Finding] = field(default_factory=list)

    def part(self, kind: Any, value: object, steps: Steps, *, in_key: bool = False) -> Any:
        """The value; None after noting what is wrong with it."""
        before = len(self.found)
        try:
            return self._value(kind, value, steps)
        except _Told:
            assert len(self.found) > before
        except Unfit as unfit:
            self.found.append(Finding(steps, unfit.kind, unfit.about, in_key))
        return None

    def _value(self, kind: Any, value: Any, steps: Steps) -> Any:
        """Raises Unfit for the value itself, _Told for what is in it."""
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self._annotated(arguments[0], arguments[1:], value, steps)
        if may_be_none(kind):
            return None if value is None else self._value(but_none(kind), value, steps)
        if origin is Literal:
            if value not in arguments:
                raise Unfit("none_of", words=[str(word) for word in arguments])
            return value
        if origin is list:
            return self._list(arguments[0], value, steps)
        if origin is dict:
            return self._dict(arguments[0], arguments[1], value, steps)
        return self._section(kind, value, steps) if is_section(kind) else value

    def _annotated(self, kind: Any, notes: Iterable[Any], value: Any, steps: Steps) -> Any:
        for note in notes:
            if isinstance(note, Before):
                value = note.made(value)
        value = self._value(kind, value, steps)
        for note in notes:
            if isinstance(note, Limits):
                note.check(value)
            elif isinstance(note, After):
                value = note.checked(value)
            elif isinstance(note, AfterIn):
                value = note.checked(value, self.folder)
        return value

    def _list(self, kind: Any, value: object, steps: Steps) -> list[Any]:
        if not isinstance(value, list):
            raise Unfit("not_a_list")
        before = len(self.found)
        made = [self.part(kind, one, (*steps, i)) for i, one in enumerate(value)]
        self._all_good_since(before)
        return made

    def _dict(self, of_key: Any, kind: Any, value: object, steps: Steps) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Unfit("not_a_section")
        before = len(self.found)
        made = {}
        for name, one in value.items():
            key = self.part(of_key, name, (*steps, name), in_key=True)
            made[key] = self.part(kind, one, (*steps, name))
        self._all_good_since(before)
        return made

    def _section(self, section: type[S], value: object, steps: Steps) -> S:
        if not isinstance(value, dict):
            raise Unfit("not_a_section")
        before = len(self.found)
        made = {}
        kinds = kinds_of(section)
        needed, idle = section.needed_beside(value), section.idle_beside(value)
        for name, one in section.settings_of.items():
            here = (*steps, name)
            if name in needed and value.get(name) is None:
                self.found.append(Finding(here, "missing", {}))
            elif name in value and name in idle:
                seen, expected = idle[name]
                about = {"seen": seen, "expected": expected}
                self.found.append(Finding(here, "NOT_NEEDED", about, in_key=True))
            elif name in value:
                made[name] = self.part(kinds[name], value[name], here)
            elif one.needed:
                self.found.append(Finding(here, "missing", {}))
        self.found += [
            Finding((*steps, name), "unknown", {}) for name in value if name not in kinds
        ]
        self._all_good_since(before)
        found = section(**made)
        found.agree()
        return found

    def _all_good_since(self, before: int) -> None:
        if len(self.found) > before:
            raise _Told
