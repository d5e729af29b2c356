"""Whatever a bus does to replies: the right value or an error, never a wrong value. At the wire, with the
whole bus above it, on a virtual clock; and the same wire under pymodbus with its default settings."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.bad_wire import Ask, BadWire, Clients, Score
from support.virtual_loop import VirtualLoop

from agent.ports import DriverEnv, LineSpec
from drivers.meter.master import Master
from drivers.meter.modbus import BusError, Function, Request
from drivers.meter.rtu import Bus
from drivers.meter.tcp_link import TcpMaster
from drivers.meter.timing import DeviceTiming, Wire
from drivers.meter.turns import Priority, Turns

Asker = Callable[[Ask], Awaitable[tuple[int, ...]]]

REQUESTS = 10_000
# What a device is given by this master, and by pymodbus with its default timeout; in seconds.
OURS = (0.12, 0.7)
PYMODBUS = (3.0, 3.7)


class WireLine:
    """The `Line` of a bus: what is written is heard by the slaves."""

    def __init__(self, wire: BadWire) -> None:
        self._wire = wire
        self._bytes = bytearray()
        self._news = asyncio.Event()
        self.paced = not wire.tcp
        wire.say = self._arrive

    def _arrive(self, data: bytes) -> None:
        self._bytes += data
        self._news.set()

    def write(self, data: bytes) -> None:
        self._wire.hear(data)

    async def read(self) -> bytes:
        while not self._bytes:
            self._news.clear()
            await self._news.wait()
        return self.discard()

    def discard(self) -> bytes:
        data = bytes(self._bytes)
        self._bytes.clear()
        return data

    async def close(self) -> None:
        self._wire.say = lambda _data: None


def request_of(ask: Ask) -> Request:
    match ask.function:
        case 5 | 6:
            return Request(ask.unit, Function(ask.function), ask.address, values=(ask.tag,))
        case 15:
            bits = tuple(ask.tag >> at & 1 for at in range(16))
            return Request(ask.unit, Function.WRITE_COILS, ask.address, values=bits)
        case 16:
            return Request(ask.unit, Function.WRITE_REGISTERS, ask.address, values=(ask.tag, 7))
        case 23:
            return Request(ask.unit, Function.READ_WRITE, ask.address, ask.count, (ask.tag,), 1000)
    return Request(ask.unit, Function(ask.function), ask.address, ask.count)


def on_virtual_time(
    wire: BadWire,
    make: Callable[[], Awaitable[tuple[Asker, tuple[type[Exception], ...]]]],
    **more: Any,
) -> Score:
    """The clients on `wire`, asking by what `make` makes. Prints what happened."""
    loop = VirtualLoop()

    async def main() -> Score:
        ask, errors = await make()
        intruder = None if wire.tcp else asyncio.ensure_future(wire.intrude(60.0))
        score = await Clients(wire, ask, errors, **more).run()
        if intruder is not None:
            intruder.cancel()
        return score

    try:
        score = loop.run_until_complete(main())
    finally:
        loop.close()
    assert loop.troubles == []
    print(f"{score.right} right, {score.errors} errors, {score.cancelled} cancelled, "
          f"{len(score.wrong)} wrong; {len(wire.heard)} heard; {dict(wire.kinds)}")  # fmt: skip
    return score


def ours(
    seed: int, times: tuple[float, float], requests: int, master: Turns | None = None, **more: Any
) -> tuple[BadWire, Score]:
    """This bus on a bad wire. `more`: tcp for the wire; functions for the clients."""
    wire = BadWire(random.Random(seed), *times, tcp=more.pop("tcp", False))
    timing = DeviceTiming(round(times[0] * 1000), round(times[1] * 1000), 5)

    async def opener(_spec: LineSpec) -> WireLine:
        return WireLine(wire)

    async def make() -> tuple[Asker, tuple[type[Exception], ...]]:
        loop = asyncio.get_running_loop()
        env = DriverEnv(lambda: int(loop.time() * 1000), lambda *_words, **_values: None)
        port = "modbus-tcp://meter" if wire.tcp else "/dev/bus"
        bus = Bus(LineSpec(port, wire.baud), env, opener)
        if master is not None:
            bus._master = master

        async def ask(ask: Ask) -> tuple[int, ...]:
            return (await bus.transact(request_of(ask), timing=timing)).values

        return ask, (BusError,)

    return wire, on_virtual_time(wire, make, requests=requests, **more)


def bad_enough(score: Score, requests: int, seed: int) -> None:
    """A master that gives up proves nothing, and a good bus neither."""
    assert score.right + score.errors + score.cancelled + len(score.wrong) == requests
    assert score.right > requests // 4, f"seed {seed}"
    assert score.errors > requests // 20, f"seed {seed}"
    assert score.cancelled > requests // 50, f"seed {seed}"


def seed_of() -> int:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return seed


def test_never_a_wrong_value_over_ten_thousand_requests() -> None:
    seed = seed_of()
    wire, score = ours(seed, OURS, REQUESTS)
    assert score.wrong == [], f"seed {seed}"
    assert score.written_twice == 0, f"seed {seed}"
    bad_enough(score, REQUESTS, seed)
    assert len(wire.kinds) == 27, f"seed {seed}: not every fault happened"


def test_never_a_wrong_value_over_tcp() -> None:
    """Late replies are told by their number; there is no quarantine."""
    seed = seed_of()
    wire, score = ours(seed, OURS, REQUESTS, tcp=True)
    assert score.wrong == [], f"seed {seed}"
    assert score.written_twice == 0, f"seed {seed}"
    bad_enough(score, REQUESTS, seed)
    assert len(wire.kinds) == 15, f"seed {seed}: not every fault happened"


# --- The same with a defect ----------------------------------------------------------------------------


class NoQuarantine(Master):
    def _soil(self, base_us: int, quiet_us: int) -> None:
        super()._soil(base_us, 0)


class ForgetsTheCancelled(Master):
    def cancel(self, ticket: int, now_us: int) -> None:
        if self._asked is not None and self._asked.ticket == ticket:
            self._asked = None
        else:
            super().cancel(ticket, now_us)


class ShortQuarantine(Master):
    def _soil(self, base_us: int, quiet_us: int) -> None:
        super()._soil(base_us, quiet_us // 2)


class NoPace(Master):
    def line_opened(self, now_us: int, *, paced: bool = False) -> None:
        super().line_opened(now_us)


class AnyNumber(TcpMaster):
    def _reply(self, number: int, unit: int, pdu: bytes, now_us: int) -> None:
        super()._reply(self._number, unit, pdu, now_us)


class RepeatsWrites(Master):
    def submit(
        self,
        request: Request,
        timing: DeviceTiming,
        priority: Priority,
        now_us: int,
        *,
        repeatable: bool | None = None,
    ) -> int:
        return super().submit(request, timing, priority, now_us, repeatable=True)


@pytest.mark.parametrize(
    "defect", [NoQuarantine, ForgetsTheCancelled, ShortQuarantine, NoPace, AnyNumber, RepeatsWrites]
)
def test_the_property_sees_a_defect(defect: type[Turns]) -> None:
    seen = 0
    for seed in range(4):
        tcp = issubclass(defect, TcpMaster)
        master = TcpMaster() if tcp else Master(Wire(9600))
        master.__class__ = defect
        _, score = ours(seed, OURS, 2_500, master, tcp=tcp)
        seen += len(score.wrong) + score.written_twice
        if seen:
            return
    pytest.fail(f"{defect.__name__} was not seen")


# --- pymodbus ------------------------------------------------------------------------------------------


class PymodbusError(Exception):
    """pymodbus gave an error."""


class Transport:
    """What pymodbus writes to."""

    def __init__(self, wire: BadWire) -> None:
        self._wire = wire

    def write(self, data: bytes) -> None:
        self._wire.hear(data)

    def close(self) -> None:
        pass

    abort = close


def by_pymodbus(seed: int, requests: int) -> Score:
    client_module = pytest.importorskip(
        "pymodbus.client", reason="needs pymodbus: pip install pymodbus"
    )
    from pymodbus.exceptions import ModbusException

    wire = BadWire(random.Random(seed), *PYMODBUS)

    async def make() -> tuple[Asker, tuple[type[Exception], ...]]:
        client = client_module.AsyncModbusSerialClient("wire", baudrate=wire.baud)
        client.ctx.connection_made(Transport(wire))
        wire.say = client.ctx.data_received

        async def ask(ask: Ask) -> tuple[int, ...]:
            read = (
                client.read_holding_registers if ask.function == 3 else client.read_input_registers
            )
            try:
                reply = await read(ask.address, count=ask.count, device_id=ask.unit)
            except ModbusException as error:
                raise PymodbusError from error
            if reply.isError():
                raise PymodbusError
            return tuple(reply.registers)

        return ask, (PymodbusError,)

    return on_virtual_time(wire, make, requests=requests, functions=(3, 4))


def test_pymodbus_with_its_defaults_fails_the_same_test() -> None:
    """The same wire, faults and clients: 3 s timeout and 3 retries, as it comes."""
    requests, seed = 1_000, 5
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    theirs = by_pymodbus(seed, requests)
    assert len(theirs.wrong) > requests // 20
    _, mine = ours(seed, PYMODBUS, requests, functions=(3, 4))
    assert mine.wrong == []
    bad_enough(mine, requests, seed)
    assert mine.right > theirs.right // 2
