"""YAML text to plain data with the place of every key and value. YAML is hostile until proven.

Scalars stay text with a note whether they were quoted, so that `NO`, `12:30`, `017` and `0.490` mean
what was written; the models decide by field what a text is. Only PyYAML's pure loader is used: its C
loader overflows the stack on deep nesting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from agent.settings.codes import Kind
from agent.settings.problems import Place, Problem, SettingsRefused, mask

# A station file is about 3 KiB; 64 KiB bounds what a parser can be made to chew on.
MAX_BYTES = 64 * 1024
# The deepest setting sits at 5; PyYAML recurses, so the bound must come before Python's own.
MAX_DEPTH = 20

Step = str | int
Steps = tuple[Step, ...]


class Scalar(str):
    """The text of a scalar as written. `plain` is False when it was quoted or a block."""

    __slots__ = ("plain",)
    plain: bool

    @classmethod
    def of(cls, text: str, plain: bool) -> Scalar:
        new = cls(text)
        new.plain = plain
        return new


@dataclass(slots=True)
class Document:
    """A parsed file. `places` holds values by path, `key_places` the keys they stand under."""

    file: str
    codes: Mapping[Kind, str]
    lines: list[str]
    data: dict[str, object] = field(default_factory=dict)
    places: dict[Steps, Place] = field(default_factory=dict)
    key_places: dict[Steps, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, line: int, column: int, length: int = 1) -> Place:
        """A place by zero-based mark, kept inside the file (an error at the end marks the line after)."""
        last = max(len(self.lines) - 1, 0)
        if line > last:
            line, column = last, len(self.lines[last]) if self.lines else 0
        text = self.lines[line] if self.lines else ""
        return Place(self.file, line + 1, column + 1, max(1, length), mask(text))

    def value(self, path: Steps) -> object:
        """What stands at a path, or None."""
        value: object = self.data
        for step in path:
            if isinstance(value, dict) and isinstance(step, str):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int):
                value = value[step]
            else:
                return None
        return value

    def value_at(self, path: Steps) -> Place:
        """The place of a value, or of the nearest section around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(self.file))

    def key_at(self, path: Steps) -> Place:
        """The place of a key; a list item has none and gives its value's."""
        return self.key_places.get(path) or self.value_at(path)

    def add(self, kind: Kind, place: Place, path: str, seen: str, expected: str = "") -> None:
        self.problems.append(Problem(self.codes[kind], place, path, seen, expected))

    def refuse(self, kind: Kind, place: Place, seen: str, expected: str = "") -> SettingsRefused:
        """The error for a file that cannot be read any further."""
        return SettingsRefused(
            [*self.problems, Problem(self.codes[kind], place, "", seen, expected)]
        )


def dotted(path: Steps) -> str:
    """("terminals", 0, "baud") as terminals[0].baud."""
    out = ""
    for step in path:
        out += f"[{step}]" if isinstance(step, int) else f".{step}" if out else step
    return out


def read(path: Path, codes: Mapping[Kind, str], what: str) -> Document:
    """Read and parse a file; `what` names it for a person ("configuration file").

    Raises SettingsRefused when it cannot be read or is no YAML of the allowed kind. What could be
    read around (a key written twice) is in `problems`."""
    name = str(path)
    doc = Document(name, codes, [])
    whole = Place(name)
    try:
        with path.open("rb") as f:
            raw = f.read(MAX_BYTES + 1)
    except OSError as e:
        reason = {
            "FileNotFoundError": "does not exist",
            "PermissionError": "may not be read by this user",
            "IsADirectoryError": "is a directory",
        }.get(type(e).__name__, e.strerror or str(e))
        raise doc.refuse(
            Kind.UNREADABLE, whole, f"the {what} {reason}", "expected a readable YAML file"
        ) from None
    if len(raw) > MAX_BYTES:
        raise doc.refuse(
            Kind.TOO_LARGE, whole, f"the {what} is larger than 64 KiB", "expected a few KiB of YAML"
        )
    return parse(_decode(doc, raw), name, codes)


def _decode(doc: Document, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        before = raw[: e.start]
        line = before.count(b"\n") + 1
        start = before.rfind(b"\n") + 1
        column = len(before[start:].decode("utf-8", "replace")) + 1
        end = raw.find(b"\n", e.start)
        text = raw[start : end if end >= 0 else None].decode("utf-8", "replace")
        raise doc.refuse(
            Kind.NOT_TEXT,
            Place(doc.file, line, column, 1, mask(text)),
            f"byte 0x{raw[e.start]:02x} is not UTF-8",
            "save the file as UTF-8 (an editor may have used Latin-1 or UTF-16)",
        ) from None


def parse(text: str, name: str, codes: Mapping[Kind, str]) -> Document:
    """As `read`, from text."""
    doc = Document(name, codes, text.splitlines())
    try:
        node = _Refusing(doc, text).get_single_node()
    except yaml.MarkedYAMLError as e:
        raise _syntax(doc, e) from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position)
        column = e.position - (text.rfind("\n", 0, e.position) + 1)
        raise doc.refuse(
            Kind.NOT_TEXT,
            doc.place(line, column),
            f"the character U+{ord(text[e.position]):04X} is not allowed in YAML",
            "delete it; it often comes from copying out of another program",
        ) from None
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
        raise doc.refuse(Kind.EMPTY, Place(name), "the file is empty")
    if not isinstance(node, yaml.MappingNode):
        raise doc.refuse(
            Kind.WRONG_KIND,
            _of(doc, node),
            "the file does not begin with a setting",
            "expected sections, each as name: value",
        )
    doc.data = _mapping(doc, node, ())
    return doc


class _Refusing(yaml.SafeLoader):
    """Refuses what settings have no use for as soon as it is read, so before anything recurses over it.
    The text is parsed once: PyYAML's parser is a large part of a start on a board."""

    def __init__(self, doc: Document, text: str) -> None:
        super().__init__(text)
        self._doc = doc
        self._depth = self._documents = 0

    def get_event(self) -> yaml.Event:
        event: yaml.Event = super().get_event()  # type: ignore[no-untyped-call]
        self._check(event)
        return event

    def _check(self, event: yaml.Event) -> None:
        doc, mark = self._doc, event.start_mark
        assert mark is not None  # PyYAML marks every event it parses
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise doc.refuse(
                    Kind.MANY_DOCUMENTS,
                    doc.place(mark.line, mark.column, 3),
                    "a second document begins here",
                    "expected one document; delete the line ---",
                )
        named = isinstance(event, yaml.NodeEvent) and event.anchor is not None
        if isinstance(event, yaml.AliasEvent) or named:
            raise doc.refuse(
                Kind.NOT_PLAIN,
                doc.place(mark.line, mark.column),
                "anchors (&name) and aliases (*name) are not allowed",
                "write the value out, or put it into quotes when it is text",
            )
        if getattr(event, "tag", None) is not None:
            raise doc.refuse(
                Kind.NOT_PLAIN,
                doc.place(mark.line, mark.column),
                f"the tag {getattr(event, 'tag', '')} is not allowed",
                "write the value without !",
            )
        if isinstance(event, yaml.CollectionStartEvent):
            self._depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            self._depth -= 1
        if self._depth > MAX_DEPTH:
            raise doc.refuse(
                Kind.TOO_DEEP,
                doc.place(mark.line, mark.column),
                f"nested deeper than {MAX_DEPTH} levels",
            )


def _syntax(doc: Document, e: yaml.MarkedYAMLError) -> SettingsRefused:
    mark = e.problem_mark or e.context_mark
    place = Place(doc.file) if mark is None else doc.place(mark.line, mark.column)
    seen = str(e.problem or e.context or "not YAML")
    expected = "expected YAML: name: value, sections indented by spaces"
    if "\\t" in seen or "\t" in doc.lines[place.line - 1][: place.column] if doc.lines else False:
        seen, expected = "a tab", "YAML is indented with spaces only"
    elif e.context and e.context_mark and mark and e.context_mark.line != mark.line:
        expected = f"{e.context} that began in line {e.context_mark.line + 1}; {expected}"
    return doc.refuse(Kind.SYNTAX, place, f"not valid YAML here: {seen}", expected)


def _of(doc: Document, node: yaml.Node) -> Place:
    start, end = node.start_mark, node.end_mark
    length = end.column - start.column if start.line == end.line else 1
    if isinstance(node, yaml.CollectionNode):
        length = 1  # the caret marks where a section begins, not all of it
    return doc.place(start.line, start.column, length)


def _value(doc: Document, node: yaml.Node, path: Steps) -> object:
    doc.places[path] = _of(doc, node)
    if isinstance(node, yaml.MappingNode):
        return _mapping(doc, node, path)
    if isinstance(node, yaml.SequenceNode):
        return [_value(doc, item, (*path, i)) for i, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    plain = node.style is None
    if plain and node.value in ("", "~", "null"):
        return None
    return Scalar.of(node.value, plain)


def _mapping(doc: Document, node: yaml.MappingNode, path: Steps) -> dict[str, object]:
    doc.places[path] = _of(doc, node)
    out: dict[str, object] = {}
    for key, value in node.value:
        where = _of(doc, key)
        if not isinstance(key, yaml.ScalarNode):
            doc.add(
                Kind.WRONG_KIND, where, dotted(path), "a setting's name is not text", "name: value"
            )
            continue
        name = str(key.value)
        if name == "<<" and key.style is None:
            doc.add(
                Kind.NOT_PLAIN,
                where,
                dotted(path),
                "merging with << is not allowed",
                "write it out",
            )
            continue
        if name in out:
            first = doc.key_places[(*path, name)].line
            doc.add(
                Kind.TWICE,
                where,
                dotted((*path, name)),
                f"written twice, first in line {first}",
                "delete one of them",
            )
            continue
        doc.key_places[(*path, name)] = where
        out[name] = _value(doc, value, (*path, name))
    return out
