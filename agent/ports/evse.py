"""The port of a charge controller."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from agent.values import Reading


class EvseState(StrEnum):
    """After the pilot states of IEC 61851-1. UNKNOWN and FAULT never mean unplugged."""

    UNKNOWN = "unknown"
    UNPLUGGED = "unplugged"
    PLUGGED = "plugged"  # car present, not released
    READY = "ready"  # released, the car draws nothing
    CHARGING = "charging"
    SUSPENDED = "suspended"  # was charging, now not
    FINISHED = "finished"  # our stop took effect, car still there
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class EvseTransaction:
    """A charge that a controller keeps books of by itself (EVerest). A `token` that is not ours is
    somebody else's session and must be left alone. `begin` and `end` are the register at its two ends:
    their difference is billed. `signed` is a signed meter value as it came."""

    ref: str  # the controller's own id
    token: str | None = None  # what it was authorised with
    begin: Reading | None = None
    end: Reading | None = None
    signed: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EvseSnapshot:
    """The whole picture at `boot_ms` (boot-time clock). Edges are derived by comparing snapshots, so
    a lost or repeated one cannot corrupt anything."""

    state: EvseState
    boot_ms: int
    estop: bool = False
    fault_codes: tuple[str, ...] = ()
    limit_ma: int | None = None
    reading: Reading | None = None  # of a controller that meters by itself
    transaction: EvseTransaction | None = None


@dataclass(frozen=True, slots=True)
class EvseAbilities:
    """`failsafe_s`: after this silence the controller withdraws the release by itself; None when it
    never does, and then an outside watchdog must (design §2 rule 13)."""

    failsafe_s: int | None
    can_unlock: bool = False
    reports_estop: bool = False


class Evse(Protocol):
    """A charge controller. Commands are idempotent and return when sent; whether they worked is
    judged by later snapshots and the meter. All raise DeviceUnavailable."""

    @property
    def abilities(self) -> EvseAbilities: ...

    async def snapshot(self) -> EvseSnapshot:
        """Never raises: without an answer the state is UNKNOWN."""

    async def release(self, limit_ma: int, lease_s: int) -> None:
        """Let energy flow up to `limit_ma`, for `lease_s` unless re-asserted."""

    async def withdraw(self) -> None:
        """Take the release back. Also the safe thing to do at any time."""

    async def stop(self) -> None:
        """End the running charge and keep the car connected."""

    async def unlock(self) -> None: ...
