"""Where a device is, what a driver is given, and how a device that fails is told. Pure values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


class DeviceUnavailable(Exception):
    """The device did not answer, or not as its protocol says. No money was moved by the failed call.

    `code` is a stable id of docs/errors.md; `seen`, `expected` and `remedy` are for a person."""

    def __init__(self, code: str, seen: str, expected: str = "", remedy: str = "") -> None:
        parts = [f"{code}: {seen}"]
        if expected:
            parts.append(f"expected {expected}")
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(parts))
        self.code, self.seen, self.expected, self.remedy = code, seen, expected, remedy


# --- Where a device is, and what a driver is given ------------------------------------------------


MODBUS_TCP = "modbus-tcp://"


@dataclass(frozen=True, slots=True)
class LineSpec:
    """A serial line: pyserial URL or path, bits a second, and framing such as "8N1". `rs485`: the kernel
    switches the transmitter. `echo`: what is sent comes back."""

    port: str
    baud: int = 9600
    framing: str = "8N1"
    rs485: bool = False
    echo: bool = False

    @property
    def is_modbus_tcp(self) -> bool:
        """No serial line at all: only `port` says something."""
        return is_modbus_tcp(self.port)


def is_modbus_tcp(port: str) -> bool:
    """Whether `port` names a Modbus TCP device or gateway."""
    return port.startswith(MODBUS_TCP)


@dataclass(frozen=True, slots=True)
class DriverEnv:
    """What the station hands to every driver: its boot-time clock in milliseconds, and a place to
    tell what happened (`event` name plus plain values, never card data)."""

    boot_ms: Callable[[], int]
    log: Callable[..., None]


@dataclass(frozen=True, slots=True)
class TerminalSpec:
    id: str
    line: LineSpec
    password: str = field(repr=False)
    currency: str
    profile: str = "generic"
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MeterSpec:
    model: str
    unit: int = 1
    serial: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvseSpec:
    id: str
    unit: int = 1
    options: Mapping[str, object] = field(default_factory=dict)
