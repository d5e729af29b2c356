"""The function codes as methods, for devices: each makes a request and waits for its answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from drivers.meter.modbus import Function, Request
from drivers.meter.timing import DeviceTiming
from drivers.meter.turns import Answer, Priority


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

    async def read_coils(
        self,
        unit: int,
        address: int,
        count: int = 1,
        *,
        timing: DeviceTiming,
        priority: Priority = Priority.READ,
    ) -> tuple[int, ...]:
        """Coils as 0 and 1 (function 1)."""
        request = Request(unit, Function.READ_COILS, address, count)
        return (await self.transact(request, timing=timing, priority=priority)).values

    async def read_discrete(
        self,
        unit: int,
        address: int,
        count: int = 1,
        *,
        timing: DeviceTiming,
        priority: Priority = Priority.READ,
    ) -> tuple[int, ...]:
        """Discrete inputs as 0 and 1 (function 2)."""
        request = Request(unit, Function.READ_DISCRETE, address, count)
        return (await self.transact(request, timing=timing, priority=priority)).values

    async def read_holding(
        self,
        unit: int,
        address: int,
        count: int = 1,
        *,
        timing: DeviceTiming,
        priority: Priority = Priority.READ,
    ) -> tuple[int, ...]:
        """Holding registers (function 3)."""
        request = Request(unit, Function.READ_HOLDING, address, count)
        return (await self.transact(request, timing=timing, priority=priority)).values

    async def read_input(
        self,
        unit: int,
        address: int,
        count: int = 1,
        *,
        timing: DeviceTiming,
        priority: Priority = Priority.READ,
    ) -> tuple[int, ...]:
        """Input registers (function 4)."""
        request = Request(unit, Function.READ_INPUT, address, count)
        return (await self.transact(request, timing=timing, priority=priority)).values

    async def write_coil(
        self,
        unit: int,
        address: int,
        value: bool,
        *,
        timing: DeviceTiming,
        priority: Priority = Priority.COMMAND,
        repeatable: bool = False,
    ) -> None:
        """One coil (function 5)."""
        request = Request(unit, Function.WRITE_COIL, address, values=(int(value),))
        await self.transact(request, timing=timing, priority=priority, repeatable=repeatable)

    async def write_coils(
        self,
        unit: int,
        address: int,
        values: Sequence[bool],
        *,
        timing: DeviceTiming,
        priority: Priority = Priority.COMMAND,
        repeatable: bool = False,
    ) -> None:
        """Several coils (function 15)."""
        bits = tuple(int(value) for value in values)
        request = Request(unit, Function.WRITE_COILS, address, values=bits)
        await self.transact(request, timing=timing, priority=priority, repeatable=repeatable)

    async def write_registers(
        self,
        unit: int,
        address: int,
        values: Sequence[int],
        *,
        timing: DeviceTiming,
        priority: Priority = Priority.COMMAND,
        repeatable: bool = False,
    ) -> None:
        """One holding register (function 6) or several (function 16)."""
        function = Function.WRITE_REGISTER if len(values) == 1 else Function.WRITE_REGISTERS
        request = Request(unit, function, address, values=tuple(values))
        await self.transact(request, timing=timing, priority=priority, repeatable=repeatable)

    async def read_write(
        self,
        unit: int,
        address: int,
        count: int,
        write_address: int,
        values: Sequence[int],
        *,
        timing: DeviceTiming,
        priority: Priority = Priority.COMMAND,
        repeatable: bool = False,
    ) -> tuple[int, ...]:
        """Write holding registers, then read others, in one request (function 23)."""
        request = Request(unit, Function.READ_WRITE, address, count, tuple(values), write_address)
        asked = self.transact(request, timing=timing, priority=priority, repeatable=repeatable)
        return (await asked).values
