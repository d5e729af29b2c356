"""The function codes as methods, for devices: each makes a request and waits for its answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NotRequired, TypedDict, Unpack

from drivers.meter.modbus import Function, Request
from drivers.meter.timing import DeviceTiming
from drivers.meter.turns import Answer, Priority


class Asking(TypedDict):
    """How a request is made: what its device needs, and who goes first (reads: READ)."""

    timing: DeviceTiming
    priority: NotRequired[Priority]


class Ordering(Asking):
    """How a write is made (COMMAND unless said otherwise). `repeatable`: it may arrive twice."""

    repeatable: NotRequired[bool]


class Calls(ABC):
    """Addresses are those on the wire, from zero. Each raises BusError, and ValueError for what cannot go
    on the wire. Writes are sent once unless `repeatable`, which is for what may arrive twice."""

    @abstractmethod
    async def transact(
        self,
        request: Request,
        *,
        timing: DeviceTiming,
        priority: Priority = Priority.READ,
        repeatable: bool | None = None,
    ) -> Answer:
        """Send `request` when its turn comes and wait for the answer."""

    async def _read(self, request: Request, how: Asking) -> tuple[int, ...]:
        return (await self.transact(request, **how)).values

    async def _write(self, request: Request, how: Ordering) -> tuple[int, ...]:
        given: Ordering = {"priority": Priority.COMMAND, "repeatable": False, **how}
        return (await self.transact(request, **given)).values

    async def read_coils(
        self, unit: int, address: int, count: int = 1, **how: Unpack[Asking]
    ) -> tuple[int, ...]:
        """Coils as 0 and 1 (function 1)."""
        return await self._read(Request(unit, Function.READ_COILS, address, count), how)

    async def read_discrete(
        self, unit: int, address: int, count: int = 1, **how: Unpack[Asking]
    ) -> tuple[int, ...]:
        """Discrete inputs as 0 and 1 (function 2)."""
        return await self._read(Request(unit, Function.READ_DISCRETE, address, count), how)

    async def read_holding(
        self, unit: int, address: int, count: int = 1, **how: Unpack[Asking]
    ) -> tuple[int, ...]:
        """Holding registers (function 3)."""
        return await self._read(Request(unit, Function.READ_HOLDING, address, count), how)

    async def read_input(
        self, unit: int, address: int, count: int = 1, **how: Unpack[Asking]
    ) -> tuple[int, ...]:
        """Input registers (function 4)."""
        return await self._read(Request(unit, Function.READ_INPUT, address, count), how)

    async def write_coil(
        self, unit: int, address: int, value: bool, **how: Unpack[Ordering]
    ) -> None:
        """One coil (function 5)."""
        request = Request(unit, Function.WRITE_COIL, address, values=(int(value),))
        await self._write(request, how)

    async def write_coils(
        self, unit: int, address: int, values: Sequence[bool], **how: Unpack[Ordering]
    ) -> None:
        """Several coils (function 15)."""
        bits = tuple(int(value) for value in values)
        await self._write(Request(unit, Function.WRITE_COILS, address, values=bits), how)

    async def write_registers(
        self, unit: int, address: int, values: Sequence[int], **how: Unpack[Ordering]
    ) -> None:
        """One holding register (function 6) or several (function 16)."""
        function = Function.WRITE_REGISTER if len(values) == 1 else Function.WRITE_REGISTERS
        await self._write(Request(unit, function, address, values=tuple(values)), how)

    async def read_write(
        self,
        unit: int,
        address: int,
        count: int,
        write_address: int,
        values: Sequence[int],
        **how: Unpack[Ordering],
    ) -> tuple[int, ...]:
        """Write holding registers, then read others, in one request (function 23)."""
        request = Request(unit, Function.READ_WRITE, address, count, tuple(values), write_address)
        return await self._write(request, how)
