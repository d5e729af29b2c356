"""The port of an energy meter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from agent.values import Reading


@dataclass(frozen=True, slots=True)
class MeterIdentity:
    model: str
    serial: str | None


class Meter(Protocol):
    """An energy meter. `read` never raises for a bad or missing answer: the reading says so."""

    async def identity(self) -> MeterIdentity:
        """Raises DeviceUnavailable."""

    async def read(self) -> Reading: ...


@runtime_checkable
class SigningMeter(Protocol):
    """Capability: a meter that signs. Begin and end are commands of their own; what `fetch` returned
    must be durable before `acknowledge`, because some meters discard it then. All raise DeviceUnavailable,
    after which each may be called again (docs/meters.md)."""

    async def begin(self, text: str) -> None: ...

    def resume(self, text: str) -> None:
        """After a restart: what runs in the meter, or may run, began with this text. Sends nothing."""

    async def end(self) -> None: ...

    async def fetch(self) -> bytes: ...

    async def acknowledge(self) -> None: ...

    async def public_key(self) -> bytes | None:
        """DER SubjectPublicKeyInfo; None where it has none."""
