"""One RS-485 bus on asyncio: the shell around `Master` that owns the line, the timer and the waiters.

`open_bus` opens nothing. The first request opens the line; after a loss, requests fail at once with
LineGone until a bounded backoff is over, then the next request opens it again. One `Bus` per physical
bus, shared by all its devices, used from one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from agent.ports import DeviceUnavailable, DriverEnv, LineSpec
from drivers.meter.master import Answer, Master, Priority
from drivers.meter.modbus import (
    Babbling,
    BadFrame,
    BusError,
    Echo,
    ExceptionReply,
    Function,
    LineGone,
    QueueFull,
    Request,
    Timeout,
)
from drivers.meter.timing import DeviceTiming, Wire

if TYPE_CHECKING:
    from drivers.line import Line

__all__ = [
    "Answer",
    "Bus",
    "BusError",
    "DeviceTiming",
    "Priority",
    "open_bus",
    "unavailable",
]

# Pause before a lost line is opened again: doubled after each failure, so that a missing USB adapter costs
# nothing, and short enough that a replugged one is back before a driver gives up.
REOPEN_FIRST_MS = 250
REOPEN_MOST_MS = 5_000

Opener = Callable[[LineSpec], Awaitable["Line"]]


async def _open_line(spec: LineSpec) -> Line:
    from drivers.line import open_line

    return await open_line(spec)


def open_bus(line: LineSpec, env: DriverEnv) -> Bus:
    """A bus on `line`. Must be closed with `await bus.close()`."""
    return Bus(line, env)


def unavailable(error: BusError, who: str) -> DeviceUnavailable:
    """The failed request as the port's exception, with its id of docs/errors.md. `who` names the device
    for a person, such as "meter eastron_sdm630"."""
    code, expected, remedy = _EXPLAINED[next(k for k in _EXPLAINED if isinstance(error, k))]
    return DeviceUnavailable(code, f"{who}: {error.why}", expected, remedy)


_EXPLAINED: dict[type[BusError], tuple[str, str, str]] = {
    LineGone: ("MTR-001", "a serial line", "check cable, adapter, port name and permissions"),
    Timeout: (
        "MTR-002",
        "a reply in time",
        "check power, wiring (A and B swapped?), unit number, baud and framing",
    ),
    Echo: ("MTR-007", "only replies of devices", "switch the echo of the RS-485 adapter off"),
    BadFrame: (
        "MTR-003",
        "the reply to the request",
        "check termination, shield, unit numbers used twice, a second master",
    ),
    ExceptionReply: ("MTR-004", "a value", "check that the model and its registers fit the device"),
    Babbling: ("MTR-005", "a quiet bus", "look for a second master or a device that never stops"),
    QueueFull: ("MTR-006", "a bus that keeps up", "poll less often or raise the baud rate"),
    BusError: ("MTR-003", "a usable reply", "check the bus"),
}


class Bus:
    """Requests in, answers out; every method that talks raises BusError (see modbus.py for the family).

    A cancelled request is safe: whatever the device still answers is kept away from the next one."""

    def __init__(self, line: LineSpec, env: DriverEnv, opener: Opener = _open_line) -> None:
        self._spec, self._env, self._opener = line, env, opener
        self._master = Master(Wire(line.baud, line.framing))
        self._waiters: dict[int, asyncio.Future[Answer]] = {}
        self._line: Line | None = None
        self._serving: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._lost_since_ms: int | None = None
        self._lost_why = ""
        self._reopen_at_ms = 0
        self._reopen_pause_ms = REOPEN_FIRST_MS

    # --- For devices --------------------------------------------------------------------------

    async def transact(
        self,
        request: Request,
        *,
        timing: DeviceTiming,
        priority: Priority = Priority.READ,
        repeatable: bool | None = None,
    ) -> Answer:
        """Send `request` when its turn comes and wait for the answer. The request is queued before this
        first suspends. `repeatable` as in `Master.submit`. Raises BusError."""
        now = self._env.boot_ms()
        if self._closed:
            raise LineGone(f"{self._spec.port}: closed")
        lost = self._lost_since_ms is not None and now < self._reopen_at_ms
        # A stop may try at once: what it ends costs more than an early look at the port.
        if lost and priority is not Priority.STOP:
            raise LineGone(self._lost_why)
        ticket = self._master.submit(request, timing, priority, now, repeatable=repeatable)
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiters[ticket] = waiter
        if self._serving is None:
            self._serve_again()
        elif self._line is not None:
            self._step()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._master.cancel(ticket, self._env.boot_ms())
            self._step()
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # it lost the race; asyncio would report it as never looked at
            raise
        finally:
            self._waiters.pop(ticket, None)

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

    # --- For the station ----------------------------------------------------------------------

    def status(self) -> dict[str, object]:
        """Port, state, how long the line has been lost, and what happened so far; plain JSON values."""
        lost = self._lost_since_ms
        counters = asdict(self._master.counters)
        late = counters.pop("latest_late_ms")
        return {
            "port": self._spec.port,
            "state": self._master.state,
            "waiting": self._master.waiting,
            "lost_for_ms": None if lost is None else self._env.boot_ms() - lost,
            "lost_why": self._lost_why if lost is not None else "",
            **counters,
            "latest_late_ms": {str(unit): ms for unit, ms in sorted(late.items())},
        }

    async def close(self) -> None:
        """Fail whoever waits and close the line. May be called again."""
        self._closed = True
        self._master.line_lost(f"{self._spec.port}: closed", self._env.boot_ms())
        self._step()
        serving = self._serving
        if serving is not None:
            serving.cancel()
            await asyncio.wait({serving})

    # --- The line -----------------------------------------------------------------------------

    def _serve_again(self) -> None:
        self._serving = asyncio.get_running_loop().create_task(self._serve())
        self._serving.add_done_callback(self._served)

    async def _serve(self) -> None:
        """Open the line and feed the master until the line is lost."""
        try:
            line = await self._opener(self._spec)
        except OSError as error:
            self._lost(str(error))
            return
        try:
            self._line = line
            self._found()
            while True:
                self._heard(await line.read())
                self._step()
        except OSError as error:
            self._lost(str(error))
        finally:
            self._line = None
            await line.close()

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # A defect of ours: nobody may wait for ever because of it, and it must be seen.
            self._lost(f"{type(error).__name__}: {error}")
            raise error
        if self._master.waiting and not self._closed:
            self._serve_again()  # a stop that came while the lost line was being closed

    def _found(self) -> None:
        now = self._env.boot_ms()
        if self._lost_since_ms is not None:
            after = now - self._lost_since_ms
            self._env.log("bus_line_back", port=self._spec.port, after_ms=after)
        self._lost_since_ms, self._lost_why = None, ""
        self._master.line_opened(now)
        self._step()

    def _lost(self, why: str) -> None:
        now = self._env.boot_ms()
        if self._lost_since_ms is None and not self._closed:
            self._lost_since_ms = now
            self._env.log("bus_line_lost", id="MTR-001", port=self._spec.port, why=why)
        self._line, self._lost_why = None, why
        self._reopen_at_ms = now + self._reopen_pause_ms
        self._reopen_pause_ms = min(2 * self._reopen_pause_ms, REOPEN_MOST_MS)
        self._master.line_lost(why, now)
        self._deliver()

    # --- One step -----------------------------------------------------------------------------

    def _heard(self, data: bytes) -> None:
        if data:
            self._master.receive(data, self._env.boot_ms())

    def _step(self) -> None:
        """Give the master all that has arrived, send what it wants, hand out answers, set the timer."""
        line = self._line
        if line is not None:
            try:
                self._heard(line.discard())
                frame = self._master.poll(self._env.boot_ms())
                if frame is not None:
                    line.write(frame)
            except OSError as error:
                self._lost(str(error))
                if self._serving is not None:
                    self._serving.cancel()
        self._deliver()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._master.next_deadline()
        if deadline is not None:
            # At least a millisecond: the clock is read in whole ones and may stand just before it.
            after_ms = max(1, deadline - self._env.boot_ms())
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(after_ms / 1000, self._step)

    def _deliver(self) -> None:
        for done in self._master.finished():
            waiter = self._waiters.pop(done.ticket, None)
            if waiter is None or waiter.done():
                continue
            if isinstance(done.outcome, Answer):
                self._reopen_pause_ms = REOPEN_FIRST_MS  # only an answer proves that the line works
                waiter.set_result(done.outcome)
            else:
                waiter.set_exception(done.outcome)
