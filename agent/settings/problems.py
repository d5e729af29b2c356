"""What is wrong with a configuration file, where, and what to do about it.

Imported without the models and PyYAML, so that a command can catch `SettingsRefused` cheaply."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

# A file full of nonsense is told apart by its first problems; the rest only scrolls them away.
MAX_SHOWN = 50
# Wide enough for a line of YAML, narrow enough for a serial console of 80 columns to wrap once.
EXCERPT_COLUMNS = 110
# Settings whose value is never echoed, also when the setting's name is mistyped or the file is no
# YAML at all. The value ends where a flow mapping or a comment would.
_SECRET = re.compile(
    r"""(?ix) ( ["']? (?: pass? \w* | p[au]s+w\w* | pwd | pin | secret\w* | token | key ) ["']? \s* : \s* )
        ( (?![{\[]) (?: "[^"]*"? | '[^']*'? | [^\s,}\]\#]+ ) )"""
)


class Severity(StrEnum):
    ERROR = "error"  # the agent does not start
    WARNING = "warning"  # it starts; a person should look
    NOTE = "note"  # could not be checked here


@dataclass(frozen=True, slots=True)
class Place:
    """A span of a file. Lines and columns count from 1; line 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0
    length: int = 1
    excerpt: str = ""  # the line, with secrets masked

    @property
    def sort_key(self) -> tuple[str, int, int]:
        return (self.file, self.line, self.column)


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `path` names the setting (`terminals[0].baud`), `seen` says what was found,
    `expected` what belongs there, `close` the name that was probably meant."""

    code: str
    place: Place
    path: str
    seen: str
    expected: str = ""
    close: str = ""
    severity: Severity = Severity.ERROR

    def text(self) -> str:
        """file:line:column, the finding, the line with a caret under the fault, what was expected."""
        at = self.place
        where = f"{at.file}:{at.line}:{at.column}" if at.line else at.file
        path = f"{self.path}: " if self.path else ""
        rows = [f"{where}: {self.severity}[{self.code}]: {path}{self.seen}"]
        hint = f'did you mean "{self.close}"?' if self.close else ""
        if at.line:
            shown, column = _window(at.excerpt, at.column)
            length = max(1, min(at.length, len(shown) - column + 1))
            rows.append(f"{at.line:6d} | {shown}")
            rows.append(f"       | {' ' * (column - 1)}{'^' * length} {hint}".rstrip())
        elif hint:
            rows.append(f"       = {hint}")
        if self.expected:
            rows.append(f"       = {self.expected}")
        return "\n".join(rows)

    def json(self) -> dict[str, str | int]:
        """For `--json`."""
        return {
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "id": self.code,
            "severity": str(self.severity),
            "path": self.path,
            "seen": self.seen,
            "expected": self.expected,
            "did_you_mean": self.close,
        }


class SettingsRefused(Exception):
    """The configuration cannot be used. `problems` holds everything that was found, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = ordered(problems)
        super().__init__(report(self.problems))


def ordered(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda p: p.place.sort_key)


def errors(problems: Iterable[Problem]) -> list[Problem]:
    return [p for p in problems if p.severity is Severity.ERROR]


def report(problems: Sequence[Problem]) -> str:
    """All problems as a person reads them, with a count at the end. Empty when there are none."""
    if not problems:
        return ""
    blocks = [p.text() for p in problems[:MAX_SHOWN]]
    if len(problems) > MAX_SHOWN:
        blocks.append(f"... and {len(problems) - MAX_SHOWN} more")
    counts = [
        f"{n} {severity}{'s' if n > 1 else ''}"
        for severity in Severity
        if (n := sum(p.severity is severity for p in problems))
    ]
    return "\n\n".join([*blocks, f"{', '.join(counts)} in {problems[0].place.file}"])


def mask(line: str) -> str:
    """The line without values of secret settings and without control characters; same length, so that
    a caret under it still points to the right column."""
    hidden = _SECRET.sub(lambda m: m[1] + "*" * len(m[2]), line)
    return "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in hidden)


def _window(line: str, column: int) -> tuple[str, int]:
    """The part of a long line around `column`, and where the column is in it."""
    if len(line) <= EXCERPT_COLUMNS:
        return line, column
    start = max(0, min(column - 1 - EXCERPT_COLUMNS // 3, len(line) - EXCERPT_COLUMNS))
    cut = line[start : start + EXCERPT_COLUMNS]
    if start:
        cut = "..." + cut[3:]
    if start + EXCERPT_COLUMNS < len(line):
        cut = cut[:-3] + "..."
    return cut, column - start
