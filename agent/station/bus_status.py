"""Each bus with what happened on it, and which of our devices has which address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.settings.models import Settings

Told = dict[str, Any]


def described(settings: Settings, buses: Mapping[str, Any]) -> list[Told]:
    """As `Bus.status()` has it (docs/modbus.md), with `name`, and with `device` at each unit: what the
    configuration has there, empty where nobody of ours is."""
    found = []
    for name, bus in buses.items():
        told: Told = bus.status()
        units = {
            unit: {"device": _device(settings, name, unit), **counted}
            for unit, counted in told["units"].items()
        }
        found.append({"name": name, **told, "units": units})
    return found


def _device(settings: Settings, bus: str, unit: str) -> str:
    for point in settings.evses:
        for what, device in (("meter", point.meter), ("controller", point.evse)):
            if (device.bus, str(device.unit)) == (bus, unit):
                return f"{what} of {point.id}"
    return ""
