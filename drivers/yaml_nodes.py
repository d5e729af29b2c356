"""YAML read as nodes with their lines, so that every problem of a file can be told with its place.

A file from outside is hostile until proven: bounded in size, no aliases, no duplicate keys, no tags, no
value that YAML turned into something else than what was written.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

# A file of ours is a page of text; anything larger is not one.
MAX_FILE_BYTES = 64 * 1024
# Our forms are four deep at most. Deeper nesting costs the parser time that grows with its square.
MAX_DEPTH = 10
# libyaml where it is there: a thirtieth of the time, which is felt at the start of an agent.
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_INTEGER = re.compile(r"0x[0-9A-Fa-f]{1,8}|-?[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Problem:
    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


class _Refused(Exception):
    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line, self.text = line, text


def read_document(path: Path, problems: list[Problem]) -> Entry | None:
    """The top mapping of the file; None after noting why there is none."""
    try:
        return Entry(path, _compose(_read(path)), problems)
    except _Refused as refused:
        problems.append(Problem(path, refused.line, refused.text))
        return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _Refused(1, f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise _Refused(1, f"larger than {MAX_FILE_BYTES} bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Refused(raw[: error.start].count(b"\n") + 1, "not UTF-8 text") from error


def _compose(text: str) -> yaml.MappingNode:
    try:
        _check_tokens(text)
        node = yaml.compose(text, _LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise _Refused(line, f"not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise _Refused(1, f"not YAML: {error}") from error
    if not isinstance(node, yaml.MappingNode):
        raise _Refused(1, "expected a mapping of keys and values")
    return node


def _check_tokens(text: str) -> None:
    """Refuse what our files have no use for, before anything is built from it."""
    depth = 0
    for token in yaml.scan(text, _LOADER):
        line = token.start_mark.line + 1
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken):
            raise _Refused(line, "anchors, aliases and tags are not allowed")
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:
            raise _Refused(line, "nested too deeply")


class Entry:
    """A mapping of the file. Every getter returns None after it has noted a problem."""

    def __init__(self, path: Path, node: yaml.MappingNode, problems: list[Problem]) -> None:
        self._path, self._node, self._problems = path, node, problems
        self._items: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "(not a name)"
            if name in self._items:
                self._note(key, f"{name}: written twice")
            self._items[name] = value

    def _note(self, node: yaml.Node, text: str) -> None:
        problem = Problem(self._path, node.start_mark.line + 1, text)
        if problem not in self._problems:  # one section may be looked at by several checks
            self._problems.append(problem)

    def problem(self, key: str, text: str) -> None:
        """Note a problem at `key`."""
        self._note(self._items.get(key, self._node), f"{key}: {text}")

    @property
    def names(self) -> list[str]:
        """Its keys, in the order of the file."""
        return list(self._items)

    def only(self, allowed: Sequence[str]) -> None:
        """Refuse every other key."""
        for key, _ in self._node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "(not a name)"
            if name not in allowed:
                close = difflib.get_close_matches(name, allowed, 1)
                hint = f"did you mean {close[0]}?" if close else f"expected {', '.join(allowed)}"
                self._note(key, f"{name}: not known; {hint}")

    def _get(self, key: str) -> yaml.Node | None:
        if key not in self._items:
            self.problem(key, "missing")
        return self._items.get(key)

    def _scalar(self, key: str, wanted: str) -> yaml.ScalarNode | None:
        node = self._get(key)
        if node is None or isinstance(node, yaml.ScalarNode):
            return node
        self.problem(key, f"expected {wanted}")
        return None

    def word(self, key: str) -> str | None:
        """What stands at `key`, if it is one word; notes nothing."""
        node = self._items.get(key)
        return str(node.value) if isinstance(node, yaml.ScalarNode) else None

    def text(self, key: str) -> str | None:
        """Non-empty text, as written. A bare number or `NO` is refused: it must be quoted."""
        node = self._scalar(key, "text")
        if node is None:
            return None
        if node.tag != "tag:yaml.org,2002:str" or not node.value.strip():
            self.problem(key, f'{node.value!r}: expected text; put it in quotes: "{node.value}"')
            return None
        return str(node.value)

    def integer(self, key: str, low: int, high: int) -> int | None:
        """A whole number, decimal or 0x hexadecimal."""
        node = self._scalar(key, "a whole number")
        if node is None:
            return None
        plain = not node.style and _INTEGER.fullmatch(node.value)
        number = int(node.value, 16 if node.value.startswith("0x") else 10) if plain else None
        if number is None or not low <= number <= high:
            self.problem(key, f"{node.value!r}: expected a whole number from {low} to {high}")
            return None
        return number

    def choice(self, key: str, allowed: Sequence[str]) -> str | None:
        """One of a few words."""
        node = self._scalar(key, "one word")
        if node is None:
            return None
        if node.value not in allowed:
            close = difflib.get_close_matches(node.value, allowed, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            self.problem(key, f"{node.value!r}: expected one of {', '.join(allowed)}{hint}")
            return None
        return str(node.value)

    def plain(self, key: str) -> str | int | bool | None:
        """Text, a whole number, or true or false. What YAML would turn into something else (`NO`, `12:30`,
        `1.0`) is refused: it must be quoted."""
        node = self._scalar(key, "one value")
        if node is None:
            return None
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind == "str":
            return str(node.value)
        if kind == "int" and _INTEGER.fullmatch(node.value):
            return int(node.value, 16 if node.value.startswith("0x") else 10)
        if kind == "bool" and node.value in ("true", "false"):
            return bool(node.value == "true")
        self.problem(key, f'{node.value!r}: put it in quotes: "{node.value}"')
        return None

    def mapping(self, key: str) -> Entry | None:
        node = self._get(key)
        if node is None or isinstance(node, yaml.MappingNode):
            return None if node is None else Entry(self._path, node, self._problems)
        self.problem(key, "expected keys and values")
        return None

    def texts(self, key: str, *, may_be_empty: bool = False) -> tuple[str, ...] | None:
        """A list of texts."""
        node = self._get(key)
        if node is None:
            return None
        texts = _texts(node)
        if texts is None or (not texts and not may_be_empty):
            self.problem(key, "expected a list of texts")
            return None
        return texts

    def groups(self, key: str) -> Iterable[tuple[str, ...]]:
        """A list of lists of texts; may be empty."""
        node = self._get(key)
        if node is None:
            return ()
        groups = [_texts(item) for item in node.value] if _is_list(node) else [None]
        if any(group is None for group in groups):
            self.problem(key, "expected a list of lists of names")
            return ()
        return [group for group in groups if group is not None]


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode)


def _texts(node: yaml.Node) -> tuple[str, ...] | None:
    if not isinstance(node, yaml.SequenceNode):
        return None
    if not all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return None
    return tuple(str(item.value) for item in node.value)
