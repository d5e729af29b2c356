"""What is wrong with values, in a person's words, at the place in the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from agent.settings.codes import Kind
from agent.settings.document import Document, Steps, dotted
from agent.settings.problems import Problem
from agent.settings.shape import Finding, Section, bare, is_section, kinds_of, read

S = TypeVar("S", bound=Section)


def close(word: str, words: Iterable[str]) -> str:
    """The name that was probably meant, or empty."""
    names = list(words)
    folded = {name.lower().replace("-", "_"): name for name in names}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), list(folded), 1, 0.6)
    return folded[found[0]] if found else ""


def validate(doc: Document, section: type[S], base: Path) -> S | None:
    """The section from a document, or None with everything that is wrong added to its problems.
    Relative paths resolve against `base`."""
    value, findings = read(section, doc.data, base)
    doc.problems += _without_echoes(doc, [_problem(doc, section, one) for one in findings])
    return None if doc.problems else value


def _without_echoes(doc: Document, found: list[Problem]) -> list[Problem]:
    """A mistyped name is one mistake: that the right one is missing is not said as well."""
    meant = {
        f"{p.path.rpartition('.')[0]}.{p.close}".lstrip(".")
        for p in found
        if p.code == doc.codes[Kind.UNKNOWN_SETTING] and p.close
    }
    missing = doc.codes[Kind.MISSING]
    return [p for p in found if not (p.code == missing and p.path in meant)]


def _problem(doc: Document, top: type[Section], found: Finding) -> Problem:
    steps, kind, about = found.steps, found.kind, found.about
    if kind == "missing":
        return _missing(doc, top, steps)
    if kind == "unknown":
        return _unknown(doc, top, steps)
    path = dotted(steps)
    place = doc.key_at(steps) if found.in_key else doc.value_at(steps)
    if kind in Kind.__members__:
        word = close(str(about.get("word", "")), about.get("words", ()))
        seen, expected = str(about["seen"]), str(about["expected"])
        return Problem(doc.codes[Kind[kind]], place, path, seen, expected, word)
    if kind == "none_of":
        return _none_of(doc, found)
    at, seen, expected = _told(doc, top, found)
    return Problem(doc.codes[at], place, path, seen, expected)


def _missing(doc: Document, top: type[Section], steps: Steps) -> Problem:
    parent = steps[:-1]
    place = doc.key_at(parent) if parent else doc.value_at(())
    about = _description(top, steps)
    seen = "is missing"
    if steps in doc.key_places:
        place, seen = doc.key_at(steps), "is empty"
    return Problem(
        doc.codes[Kind.MISSING], place, dotted(steps), seen, f"expected {about}" if about else ""
    )


def _unknown(doc: Document, top: type[Section], steps: Steps) -> Problem:
    owner = _section_at(top, steps[:-1])
    names = list(owner.settings_of) if owner else []
    section = doc.value(steps[:-1])
    free = [name for name in names if not isinstance(section, dict) or name not in section]
    word = close(str(steps[-1]), free)
    expected = "" if word else f"expected one of {', '.join(free or names)}"
    return Problem(
        doc.codes[Kind.UNKNOWN_SETTING],
        doc.key_at(steps),
        dotted(steps),
        "is not a setting",
        expected,
        word,
    )


def _none_of(doc: Document, found: Finding) -> Problem:
    steps, words = found.steps, found.about["words"]
    if found.in_key:
        place, word, seen = doc.key_at(steps), str(steps[-1]), "is not one of the names"
    else:
        place, word = doc.value_at(steps), str(doc.value(steps))
        seen = f'"{word}" is not allowed'
    expected = f"expected one of {', '.join(words)}"
    code = doc.codes[Kind.NOT_ALLOWED]
    return Problem(code, place, dotted(steps), seen, expected, close(word, words))


def _told(doc: Document, top: type[Section], found: Finding) -> tuple[Kind, str, str]:
    """What shape.Finding names by a word of its own."""
    kind, bound = found.kind, found.about.get("bound")
    value = doc.value(found.steps)
    about = _description(top, found.steps)
    if kind == "not_a_section":
        if _is_secret(top, found.steps) and isinstance(value, str):
            return (
                Kind.SECRET_INLINE,
                "a secret stands in the configuration",
                "put it into a file of mode 0600 and write {file: path}, or {credential: name}",
            )
        seen = "is empty" if value is None else "is not a section"
        return Kind.WRONG_KIND, seen, f"expected {about}, written as name: value"
    if kind == "not_a_list":
        seen = "is empty" if value is None else "is not a list"
        return Kind.WRONG_KIND, seen, f"expected a list: {about}"
    if kind in ("too_low", "too_high"):
        end = "or more" if kind == "too_low" else "or less"
        return Kind.NOT_ALLOWED, f"{value} is out of range", f"expected {bound} {end}"
    if kind in ("too_few", "too_many"):
        few = "at least" if kind == "too_few" else "at most"
        seen = f"has {found.about['seen']} entries" if found.about["seen"] else "is empty"
        return Kind.NOT_ALLOWED, seen, f"expected {few} {bound}: {about}"
    raise AssertionError(f"no words for {kind} at {dotted(found.steps)}")


def _is_secret(top: type[Section], steps: Steps) -> bool:
    owner = _section_at(top, steps)
    return owner is not None and owner.__name__ == "SecretSource"


def _description(top: type[Section], steps: Steps) -> str:
    """What a setting is for; of a list item, what the list is for."""
    while steps and isinstance(steps[-1], int):
        steps = steps[:-1]
    owner = _section_at(top, steps[:-1]) if steps else None
    setting = owner.settings_of.get(str(steps[-1])) if owner else None
    return setting.description if setting else ""


def _section_at(top: type[Section], steps: Steps) -> type[Section] | None:
    """The section class a path leads to."""
    kind: Any = top
    for step in steps:
        owner = _section(kind)
        if owner is not None:
            field = kinds_of(owner).get(str(step))
            if field is None:
                return None
            kind = field
        else:
            kind = _element(kind)
    return _section(kind)


def _section(kind: Any) -> type[Section] | None:
    found: Any = bare(kind)
    return found if is_section(found) else None


def _element(kind: Any) -> Any:
    """What a list or a dictionary holds."""
    arguments = get_args(bare(kind))
    return arguments[-1] if arguments else None
