"""YAML to typed settings, with every error at once and its place in the file.

Names are looked up when they are first used: a command that only catches `SettingsRefused` loads
neither the models nor PyYAML."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.settings.cross import Known
    from agent.settings.load import (
        Loaded,
        check,
        check_tariff,
        load_settings,
        load_station,
        load_tariff,
    )
    from agent.settings.models import (
        Bus,
        EvsePoint,
        Settings,
        TerminalPoint,
        Uplink,
    )
    from agent.settings.problems import Problem, SettingsRefused, Severity, errors, report
    from agent.settings.schema import json_schema, tariff_schema
    from agent.settings.secrets import Secret, SecretUnavailable, read_secret, secret_path
    from agent.settings.section import SecretSource

__all__ = [
    "Bus",
    "EvsePoint",
    "Known",
    "Loaded",
    "Problem",
    "Secret",
    "SecretSource",
    "SecretUnavailable",
    "Settings",
    "SettingsRefused",
    "Severity",
    "TerminalPoint",
    "Uplink",
    "check",
    "check_tariff",
    "errors",
    "json_schema",
    "load_settings",
    "load_station",
    "load_tariff",
    "read_secret",
    "report",
    "secret_path",
    "tariff_schema",
]

_HOME = {
    "cross": ("Known",),
    "load": (
        "Loaded",
        "check",
        "check_tariff",
        "load_settings",
        "load_station",
        "load_tariff",
    ),
    "models": ("Bus", "EvsePoint", "Settings", "TerminalPoint", "Uplink"),
    "problems": ("Problem", "SettingsRefused", "Severity", "errors", "report"),
    "schema": ("json_schema", "tariff_schema"),
    "section": ("SecretSource",),
    "secrets": ("Secret", "SecretUnavailable", "read_secret", "secret_path"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
