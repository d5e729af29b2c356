"""Options of a device as the configuration gives them, checked strictly and all at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from drivers.meter.timing import DeviceTiming


class OptionError(ValueError):
    """An option is not known or has a value it cannot have. `code` is an id of docs/errors.md."""

    def __init__(self, code: str, problems: list[str]) -> None:
        super().__init__(f"{code}: {'; '.join(problems)}")
        self.code, self.problems = code, problems


class Options:
    """Take each option once with its kind and bounds, then call `done`."""

    def __init__(self, given: Mapping[str, object], code: str, who: str) -> None:
        self._given, self._code, self._who = given, code, who
        self._asked: list[str] = []
        self._problems: list[str] = []

    def _take(self, name: str) -> object | None:
        self._asked.append(name)
        return self._given.get(name)

    def _refuse(self, name: str, value: object, expected: str) -> None:
        self._problems.append(f"{self._who}: option {name} is {value!r}; expected {expected}")

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        found = self.optional_integer(name, low, high)
        return default if found is None else found

    def optional_integer(self, name: str, low: int, high: int) -> int | None:
        value = self._take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self._refuse(name, value, f"a whole number from {low} to {high}")
            return None
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._refuse(name, value, "true or false")
            return default
        return value

    def text(self, name: str) -> str | None:
        value = self._take(name)
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        self._refuse(name, value, "text")
        return None

    def check(self, good: bool, problem: str) -> None:
        """Note `problem` unless `good`: for what several options must agree on."""
        if not good:
            self._problems.append(f"{self._who}: {problem}")

    def done(self) -> None:
        """Raises OptionError with every problem; options nobody asked for are problems."""
        for name in self._given:
            if name not in self._asked:
                close = difflib.get_close_matches(str(name), self._asked, 1)
                hint = (
                    f"did you mean {close[0]}?" if close else f"expected {', '.join(self._asked)}"
                )
                self._problems.append(f"{self._who}: option {name} is not known; {hint}")
        if self._problems:
            raise OptionError(self._code, self._problems)


def timing_of(options: Options, default: DeviceTiming) -> DeviceTiming:
    """`default` with what the options say otherwise."""
    turnaround = options.integer("turnaround_ms", default.turnaround_ms, 1, 60_000)
    longest = options.integer("longest_reply_ms", default.longest_reply_ms, 1, 60_000)
    gap = options.integer("min_gap_ms", default.min_gap_ms, 0, 10_000)
    if turnaround > longest:
        options.check(
            False,
            f"turnaround_ms {turnaround} is more than longest_reply_ms {longest}; raise the latter",
        )
        return default
    return DeviceTiming(turnaround, longest, gap)
