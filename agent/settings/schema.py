"""JSON Schema for editors, from the same sections that load the file."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal, get_args, get_origin

from agent.settings.models import Settings
from agent.settings.shape import (
    Limits,
    Schema,
    Section,
    but_none,
    is_section,
    kinds_of,
    may_be_none,
)
from agent.settings.tariff_file import TariffFile

# The newest draft that yaml-language-server, JetBrains and others all understand.
DRAFT = "http://json-schema.org/draft-07/schema#"
_TYPES = {str: "string", int: "integer"}


def json_schema() -> dict[str, Any]:
    """Schema of station.yaml, draft 7."""
    return _schema(Settings, "voltill station configuration")


def tariff_schema() -> dict[str, Any]:
    """Schema of a tariff file, draft 7."""
    return _schema(TariffFile, "voltill tariff")


def _schema(top: type[Section], title: str) -> dict[str, Any]:
    met: dict[str, Any] = {}
    out = {"$schema": DRAFT, "title": title, **_section(top, met)}
    return out | {"definitions": dict(sorted(met.items()))}


def _section(section: type[Section], met: dict[str, Any]) -> dict[str, Any]:
    """One section; those below it are added to `met`."""
    properties = {}
    for name, kind in kinds_of(section).items():
        setting = section.settings_of[name]
        out: dict[str, Any] = {"description": setting.description}
        if setting.default_factory is None and not setting.needed and setting.default is not None:
            out["default"] = setting.default
        out |= _of(kind, met)
        if "$ref" in out:  # draft 7 ignores everything beside a $ref
            out["allOf"] = [{"$ref": out.pop("$ref")}]
        properties[name] = dict(sorted(out.items()))
    needed = [name for name, one in section.settings_of.items() if one.needed]
    return {
        "additionalProperties": False,
        "description": inspect.getdoc(section),
        "properties": properties,
        **({"required": needed} if needed else {}),
        "type": "object",
        **section.schema_also,
    }


def _of(kind: Any, met: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1:], met)
    if may_be_none(kind):
        return {"anyOf": [_of(but_none(kind), met), {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(arguments), "type": _TYPES[type(arguments[0])]}
    if origin is list:
        return {"items": _of(arguments[0], met), "type": "array"}
    if origin is dict:
        return _dict(arguments[0], arguments[1], met)
    if is_section(kind):
        if kind.__name__ not in met:
            met[kind.__name__] = {}  # named before it is looked into
            met[kind.__name__] = _section(kind, met)
        return {"$ref": f"#/definitions/{kind.__name__}"}
    return {"type": _TYPES[kind]}


def _annotated(kind: Any, notes: tuple[Any, ...], met: dict[str, Any]) -> dict[str, Any]:
    given = [note.of for note in notes if isinstance(note, Schema)]
    out = dict(given[-1]) if given else _of(kind, met)
    after = notes[max((i for i, note in enumerate(notes) if isinstance(note, Schema)), default=0) :]
    for note in after:
        if isinstance(note, Limits):
            out |= _limits(note, out)
    return dict(sorted(out.items()))


def _limits(limits: Limits, of: dict[str, Any]) -> dict[str, Any]:
    kind = "Items" if of.get("type") == "array" else "Length"
    found = {
        "minimum": limits.ge,
        "maximum": limits.le,
        f"min{kind}": limits.min_length,
        f"max{kind}": limits.max_length,
    }
    return {name: bound for name, bound in found.items() if bound is not None}


def _dict(of_key: Any, kind: Any, met: dict[str, Any]) -> dict[str, Any]:
    key, value = _of(of_key, met), _of(kind, met)
    if "pattern" in key:
        named = {"patternProperties": {key["pattern"]: value}, "additionalProperties": False}
        return named | {"type": "object"}
    names = {"propertyNames": {"enum": key["enum"]}} if "enum" in key else {}
    return {"additionalProperties": value} | names | {"type": "object"}
