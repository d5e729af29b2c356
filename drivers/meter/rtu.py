"""One Modbus bus on asyncio: the shell around its master that owns the line, the timer and the waiters.

`port` modbus-tcp://HOST[:502] speaks Modbus TCP; every other port, tcp:// among them, carries RTU frames.
`open_bus` opens nothing. The first request opens the line; after a loss, requests fail at once with
LineGone until a bounded backoff is over, then the next request opens it again. One `Bus` per physical
bus, shared by all its devices, used from one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.ports import MODBUS_TCP, DeviceUnavailable, DriverEnv, LineSpec
from drivers.meter.calls import Calls
from drivers.meter.master import Master
from drivers.meter.modbus import (
    Babbling,
    BadFrame,
    BusError,
    Echo,
    ExceptionReply,
    LineGone,
    QueueFull,
    Request,
    Timeout,
)
from drivers.meter.tcp_link import PORT, TcpMaster
from drivers.meter.timing import DeviceTiming, Wire
from drivers.meter.turns import Answer, Priority, Turns

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
# A timer is set at least so far ahead: loops may fire one a little early, and to set it for the same moment
# again would spin.
TIMER_LEAST_S = 20e-6

Opener = Callable[[LineSpec], Awaitable["Line"]]


async def _open_line(spec: LineSpec) -> Line:
    from drivers.line import open_line, with_port

    if spec.is_modbus_tcp:
        host = spec.port.removeprefix(MODBUS_TCP)
        spec = replace(spec, port=with_port(f"tcp://{host}", PORT))
    return await open_line(spec)


def master_for(line: LineSpec) -> Turns:
    """The master that speaks what the line carries."""
    if line.is_modbus_tcp:
        return TcpMaster()
    return Master(Wire(line.baud, line.framing), echo=line.echo)


def open_bus(line: LineSpec, env: DriverEnv) -> Bus:
    """A bus on `line`. Must be closed with `await bus.close()`."""
    return Bus(line, env)


def unavailable(error: BusError, who: str) -> DeviceUnavailable:
    """The failed request as the port's exception, with its id of docs/errors.md. `who` names the device
    for a person, such as "meter eastron_sdm630"."""
    if isinstance(error, ExceptionReply) and not error.is_configuration:
        code, expected, remedy = _REFUSED.get(error.code, _DEVICE_FAILED)
    else:
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
# Exceptions that are not about what was asked (V1.1b3 ch. 7).
_DEVICE_FAILED = (
    "MTR-017",
    "a device that works",
    "switch the device off and on; replace it if it lasts",
)
_BUSY = (
    "MTR-018",
    "a device that has time",
    "poll it less often; look whether another master asks it",
)
_GATEWAY = (
    "MTR-019",
    "a reply of the device",
    "check the device behind the gateway, and its unit number",
)
_REFUSED = {5: _BUSY, 6: _BUSY, 10: _GATEWAY, 11: _GATEWAY}


class Bus(Calls):
    """Requests in, answers out; every method that talks raises BusError (see modbus.py for the family).

    A cancelled request is safe: whatever the device still answers is kept away from the next one."""

    def __init__(self, line: LineSpec, env: DriverEnv, opener: Opener = _open_line) -> None:
        self._spec, self._env, self._opener = line, env, opener
        self._master = master_for(line)
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
        first suspends. `repeatable` as in `Turns.submit`. Raises BusError."""
        if self._closed:
            raise LineGone(f"{self._spec.port}: closed")
        lost = self._lost_since_ms is not None and self._env.boot_ms() < self._reopen_at_ms
        # A stop may try at once: what it ends costs more than an early look at the port.
        if lost and priority is not Priority.STOP:
            raise LineGone(self._lost_why)
        loop = asyncio.get_running_loop()
        ticket = self._master.submit(
            request, timing, priority, _now_us(loop), repeatable=repeatable
        )
        waiter: asyncio.Future[Answer] = loop.create_future()
        self._waiters[ticket] = waiter
        if self._serving is None:
            self._serve_again()
        elif self._line is not None:
            self._step()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._master.cancel(ticket, _now_us(loop))
            self._step()
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # it lost the race; asyncio would report it as never looked at
            raise
        finally:
            self._waiters.pop(ticket, None)

    # --- For the station ----------------------------------------------------------------------

    def status(self) -> dict[str, object]:
        """Port, state, how long the line has been lost, and what happened so far; plain JSON values
        (docs/modbus.md)."""
        lost, serial = self._lost_since_ms, not self._spec.is_modbus_tcp
        return {
            "port": self._spec.port,
            "baud": self._spec.baud if serial else None,
            "framing": self._spec.framing if serial else None,
            "state": self._master.state,
            "waiting": self._master.waiting,
            "lost_for_ms": None if lost is None else self._env.boot_ms() - lost,
            "lost_why": self._lost_why if lost is not None else "",
            **self._master.counters.json(),
        }

    async def close(self) -> None:
        """Fail whoever waits and close the line. May be called again."""
        self._closed = True
        loop = asyncio.get_running_loop()
        self._master.line_lost(f"{self._spec.port}: closed", _now_us(loop))
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
            if hasattr(line, "listener"):
                line.listener = self._listen
            self._found()
            while True:
                self._listen(await line.read())
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
        paced = getattr(self._line, "paced", False)
        self._master.line_opened(_now_us(asyncio.get_running_loop()), paced=paced)
        self._step()

    def _lost(self, why: str) -> None:
        now = self._env.boot_ms()
        if self._lost_since_ms is None and not self._closed:
            self._lost_since_ms = now
            self._env.log("bus_line_lost", id="MTR-001", port=self._spec.port, why=why)
        self._line, self._lost_why = None, why
        self._reopen_at_ms = now + self._reopen_pause_ms
        self._reopen_pause_ms = min(2 * self._reopen_pause_ms, REOPEN_MOST_MS)
        self._master.line_lost(why, _now_us(asyncio.get_running_loop()))
        self._deliver()

    # --- One step -----------------------------------------------------------------------------

    def _listen(self, data: bytes) -> None:
        """A piece of a reply changes nothing. Nor do bytes that nobody asked for: they only make the bus
        wait longer, which the timer finds out when it fires."""
        asking = self._master.is_asking
        try:
            self._heard(data)
        except BadFrame as error:
            self._give_up(error)
        else:
            if asking and not self._master.is_asking:
                self._step(look=False)

    def _give_up(self, error: Exception) -> None:
        """The line is lost, or of no use any more."""
        self._lost(str(error))
        if self._serving is not None:
            self._serving.cancel()

    def _heard(self, data: bytes) -> None:
        if data:
            self._master.receive(data, _now_us(asyncio.get_running_loop()))

    def _step(self, *, look: bool = True) -> None:
        """Give the master all that has arrived (unless that was done at this moment), send what it wants,
        hand out answers, set the timer."""
        line = self._line
        if line is not None:
            try:
                if look:
                    self._heard(line.discard())
                frame = self._master.poll(_now_us(asyncio.get_running_loop()))
                if frame is not None:
                    line.write(frame)
            except (OSError, BadFrame) as error:
                self._give_up(error)
        self._deliver()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_us = self._master.next_deadline()
        if deadline_us is not None:
            loop = asyncio.get_running_loop()
            at_s = max(deadline_us / 1e6, loop.time() + TIMER_LEAST_S)
            self._timer = loop.call_at(at_s, self._step)

    def _deliver(self) -> None:
        """Answers are stamped here, in the same step that saw their last byte."""
        for done in self._master.finished():
            waiter = self._waiters.pop(done.ticket, None)
            if waiter is None or waiter.done():
                continue
            if isinstance(done.outcome, BusError):
                waiter.set_exception(done.outcome)
            else:
                self._reopen_pause_ms = REOPEN_FIRST_MS  # only an answer proves that the line works
                waiter.set_result(Answer(done.outcome, self._env.boot_ms()))


def _now_us(loop: asyncio.AbstractEventLoop) -> int:
    """The master's clock: the loop's, which stands still while the machine is suspended, so that a wait may
    become longer by that and never shorter. The boot-time clock has only whole milliseconds."""
    return round(loop.time() * 1e6)
