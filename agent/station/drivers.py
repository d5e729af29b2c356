"""Drivers are found by name through entry points (group `voltill.drivers`), so that an OEM adds one in
a package of its own. The agent imports none of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from agent.ports import DeviceUnavailable
from agent.settings.cross import Known

GROUP = "voltill.drivers"


@cache
def installed() -> dict[str, Any]:
    """Entry points by name, such as "terminal.zvt" or "evse.phoenix_rtu". Looked up once: it reads what
    every installed package says of itself, and a start asks for each device."""
    # Imported late: it costs 2 MiB, and commands that touch no device do not need it.
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def names(kind: str) -> list[str]:
    """The driver names of a kind ("terminal", "evse", "meter")."""
    prefix = f"{kind}."
    return sorted(name.removeprefix(prefix) for name in installed() if name.startswith(prefix))


def load(kind: str, name: str) -> Callable[..., Any]:
    """The factory of a driver. Raises DeviceUnavailable STA-001 when no package brings it."""
    point = installed().get(f"{kind}.{name}")
    if point is None:
        raise DeviceUnavailable(
            "STA-001",
            f"no driver {kind}.{name} is installed",
            f"one of {', '.join(names(kind)) or 'none'}",
            "correct the name in the configuration or install the package that brings the driver",
        )
    factory: Callable[..., Any] = point.load()
    return factory


def known() -> Known:
    """What the configuration may name. A driver package says what it brings through entry points
    `tool.meter_models` and `tool.PROTOCOL_profiles`, each a function that lists names."""
    found = installed()
    protocols = names("terminal")
    return Known(
        protocols=protocols,
        meter_models=load("tool", "meter_models")() if "tool.meter_models" in found else (),
        evse_drivers=names("evse"),
        profiles={
            protocol: load("tool", f"{protocol}_profiles")()
            for protocol in protocols
            if f"tool.{protocol}_profiles" in found
        },
    )
