"""pydantic's findings in a person's words, at the place in the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent.settings.codes import Kind
from agent.settings.document import Document, Steps, dotted
from agent.settings.problems import Problem

M = TypeVar("M", bound=BaseModel)

_WORDS = re.compile(r"'([^']*)'|\b([0-9]+)\b")
# Every type of error the models can raise on scalars, lists and mappings; another one is our bug.
_RANGE = {
    "greater_than_equal": ("ge", "or more"),
    "less_than_equal": ("le", "or less"),
}


def close(word: str, words: Iterable[str]) -> str:
    """The name that was probably meant, or empty."""
    names = list(words)
    folded = {name.lower().replace("-", "_"): name for name in names}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), list(folded), 1, 0.6)
    return folded[found[0]] if found else ""


def validate(doc: Document, model: type[M], base: Path) -> M | None:
    """The model from a document, or None with everything that is wrong added to its problems.
    Relative paths resolve against `base`."""
    try:
        value = model.model_validate(doc.data, context={"base": base})
    except ValidationError as e:
        found = [
            _problem(doc, model, error)
            for error in e.errors(include_url=False, include_input=False)
        ]
        doc.problems += _without_echoes(doc, found)
        return None
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


def _problem(doc: Document, model: type[BaseModel], error: ErrorDetails) -> Problem:
    steps = _inside(doc, error["loc"])
    kind, ctx = error["type"], error.get("ctx", {})
    path = dotted(steps)
    if kind == "missing":
        return _missing(doc, model, steps)
    if kind == "extra_forbidden":
        return _unknown(doc, model, steps)
    if steps and error["loc"][-1] == "[key]":
        place, seen, expected, word = _key_text(doc, steps, error)
        return Problem(doc.codes[Kind.NOT_ALLOWED], place, path, seen, expected, word)
    place = doc.value_at(steps)
    if kind in Kind.__members__:
        word = close(str(ctx.get("word", "")), ctx.get("words", ()))
        return Problem(
            doc.codes[Kind[kind]], place, path, str(ctx["seen"]), str(ctx["expected"]), word
        )
    at, seen, expected, word = _builtin(doc, model, steps, error)
    return Problem(doc.codes[at], place, path, seen, expected, word)


def _inside(doc: Document, loc: tuple[int | str, ...]) -> Steps:
    """pydantic's path without its marks for dictionary keys."""
    return tuple(step for step in loc if step != "[key]")


def _missing(doc: Document, model: type[BaseModel], steps: Steps) -> Problem:
    parent = steps[:-1]
    place = doc.key_at(parent) if parent else doc.value_at(())
    about = _description(model, steps)
    seen = "is missing"
    if steps in doc.key_places:
        place, seen = doc.key_at(steps), "is empty"
    return Problem(
        doc.codes[Kind.MISSING], place, dotted(steps), seen, f"expected {about}" if about else ""
    )


def _unknown(doc: Document, model: type[BaseModel], steps: Steps) -> Problem:
    owner = _model_at(model, steps[:-1])
    names = list(owner.model_fields) if owner else []
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


def _key_text(doc: Document, steps: Steps, error: ErrorDetails) -> tuple[Any, str, str, str]:
    ctx = error.get("ctx", {})
    words = [a or b for a, b in _WORDS.findall(str(ctx.get("expected", "")))]
    if error["type"] == "literal_error":
        expected = f"expected one of {', '.join(words)}"
        return doc.key_at(steps), "is not one of the names", expected, close(str(steps[-1]), words)
    return doc.key_at(steps), str(ctx.get("seen", error["msg"])), str(ctx.get("expected", "")), ""


def _builtin(
    doc: Document, model: type[BaseModel], steps: Steps, error: ErrorDetails
) -> tuple[Kind, str, str, str]:
    kind, ctx = error["type"], error.get("ctx", {})
    value = doc.value(steps)
    about = _description(model, steps)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        if _is_secret(model, steps) and isinstance(value, str):
            return (
                Kind.SECRET_INLINE,
                "a secret stands in the configuration",
                "put it into a file of mode 0600 and write {file: path}, or {credential: name}",
                "",
            )
        found = "is empty" if value is None else "is not a section"
        return Kind.WRONG_KIND, found, f"expected {about}, written as name: value", ""
    if kind == "list_type":
        found = "is empty" if value is None else "is not a list"
        return Kind.WRONG_KIND, found, f"expected a list: {about}", ""
    if kind == "literal_error":
        words = [a or b for a, b in _WORDS.findall(str(ctx["expected"]))]
        expected = f"expected one of {', '.join(words)}"
        return Kind.NOT_ALLOWED, f'"{value}" is not allowed', expected, close(str(value), words)
    if kind in _RANGE:
        key, text = _RANGE[kind]
        return Kind.NOT_ALLOWED, f"{value} is out of range", f"expected {ctx[key]} {text}", ""
    if kind in ("too_short", "too_long"):
        bound = "min_length" if kind == "too_short" else "max_length"
        few = "at least" if kind == "too_short" else "at most"
        expected = f"expected {few} {ctx[bound]}: {about}"
        seen = f"has {ctx['actual_length']} entries" if ctx["actual_length"] else "is empty"
        return Kind.NOT_ALLOWED, seen, expected, ""
    if kind == "string_too_long":
        expected = f"expected at most {ctx['max_length']} characters"
        return Kind.NOT_ALLOWED, "is too long", expected, ""
    raise AssertionError(f"no words for {kind} at {dotted(steps)}")


def _is_secret(model: type[BaseModel], steps: Steps) -> bool:
    owner = _model_at(model, steps)
    return owner is not None and owner.__name__ == "SecretSource"


def _description(model: type[BaseModel], steps: Steps) -> str:
    """What a setting is for; of a list item, what the list is for."""
    while steps and isinstance(steps[-1], int):
        steps = steps[:-1]
    owner = _model_at(model, steps[:-1]) if steps else None
    field = owner.model_fields.get(str(steps[-1])) if owner else None
    return (field.description or "") if field else ""


def _model_at(model: type[BaseModel], steps: Steps) -> type[BaseModel] | None:
    """The section class a path leads to."""
    kind: Any = model
    for step in steps:
        owner = _section(kind)
        if owner is not None:
            field = owner.model_fields.get(str(step))
            if field is None:
                return None
            kind = field.annotation
        else:
            kind = _element(kind)
    return _section(kind)


def _bare(kind: Any) -> Any:
    """Without Annotated and without None."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
            continue
        options = [a for a in get_args(kind) if a is not type(None)]
        if type(None) in get_args(kind) and len(options) == 1:
            kind = options[0]
            continue
        return kind


def _section(kind: Any) -> type[BaseModel] | None:
    bare = _bare(kind)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None


def _element(kind: Any) -> Any:
    """What a list or a dictionary holds."""
    arguments = get_args(_bare(kind))
    return arguments[-1] if arguments else None
