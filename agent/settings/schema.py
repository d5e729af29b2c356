"""JSON Schema for editors, from the same models that load the file."""

from __future__ import annotations

from typing import Any

from agent.settings.models import Settings
from agent.settings.tariff_file import TariffFile

# The newest draft that yaml-language-server, JetBrains and others all understand.
DRAFT = "http://json-schema.org/draft-07/schema#"
# Constraints that stand behind a validator of ours keep pydantic's names.
_NAMES = {"ge": "minimum", "le": "maximum"}


def json_schema() -> dict[str, Any]:
    """Schema of station.yaml, draft 7."""
    return _draft7(Settings.model_json_schema(), "voltill station configuration")


def tariff_schema() -> dict[str, Any]:
    """Schema of a tariff file, draft 7."""
    return _draft7(TariffFile.model_json_schema(), "voltill tariff")


def _draft7(schema: dict[str, Any], title: str) -> dict[str, Any]:
    rest = {key: value for key, value in schema.items() if key not in ("$defs", "title")}
    out: dict[str, Any] = {"$schema": DRAFT, "title": title}
    out |= _convert(rest)
    out["definitions"] = {k: _convert(v) for k, v in sorted(schema.get("$defs", {}).items())}
    return out


def _convert(node: Any) -> Any:
    if isinstance(node, list):
        return [_convert(item) for item in node]
    if not isinstance(node, dict):
        return node
    out: dict[str, Any] = {}
    key: str
    for key, value in node.items():
        if key == "title" and isinstance(value, str):
            continue  # pydantic repeats the setting's name in title case
        if key == "default" and value is None:
            continue
        if key == "properties":
            out[key] = {name: _convert(item) for name, item in value.items()}
        elif key == "$ref":
            out[key] = value.replace("#/$defs/", "#/definitions/")
        else:
            out[_NAMES.get(key, key)] = _convert(value)
    if "patternProperties" in out:
        out["additionalProperties"] = False
    if "$ref" in out and len(out) > 1:
        # Draft 7 ignores everything beside a $ref.
        out["allOf"] = [{"$ref": out.pop("$ref")}]
    return out
