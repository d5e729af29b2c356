"""The asyncio shell of the bus: cancelled requests, stops, lost lines."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from support.rtu_slave import Clock, Log, Port, Registers, driver_env, prompt

from agent.ports import LineSpec
from drivers.meter import rtu
from drivers.meter.modbus import (
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
from drivers.meter.rtu import Bus, DeviceTiming, Priority

LINE = LineSpec("/dev/bus", 115200, "8N1")
FAST = DeviceTiming(turnaround_ms=30, longest_reply_ms=80, min_gap_ms=1)


def setup(*units: Registers) -> tuple[Bus, Port, Clock, Log]:
    env, clock, log = driver_env()
    port = Port(*units)
    return Bus(LINE, env, port), port, clock, log


def unit(number: int = 1, **registers: int) -> Registers:
    return Registers(number, inputs={at: 100 * number + at for at in range(10)}, coils={5: 1})


def test_reads_and_writes_reach_the_device_and_the_line_opens_late() -> None:
    async def main() -> None:
        device = unit()
        device.holdings = {7: 0, 8: 0}
        bus, port, _, _ = setup(device)
        assert port.opened == []
        assert bus.status()["state"] == "down"
        assert await bus.read_input(1, 2, 3, timing=FAST) == (102, 103, 104)
        await bus.write_coil(1, 5, False, timing=FAST)
        assert await bus.read_coils(1, 5, timing=FAST) == (0,)
        await bus.write_registers(1, 7, [4711], timing=FAST)
        assert await bus.read_holding(1, 7, 2, timing=FAST) == (4711, 0)
        with pytest.raises(ExceptionReply) as caught:
            await bus.read_input(1, 99, timing=FAST)
        assert caught.value.code == 2
        assert bus.status()["answered"] == 5
        assert bus.status()["port"] == LINE.port
        await bus.close()
        assert port.line.closed
        with pytest.raises(LineGone, match="closed"):
            await bus.read_input(1, 2, timing=FAST)

    asyncio.run(main())


def test_cancelled_requests_leave_no_reply_behind() -> None:
    """Requests of one shape, each cancelled at some moment or not, against a slave that is often late.
    Every reply carries the number of its request."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")

    async def main() -> None:
        rng = random.Random(seed)
        device = Registers(1, inputs={0: 0, 1: 0})
        bus, port, _, _ = setup(device)
        heard: list[int] = []

        def slave(frame: bytes, reply: bytes) -> list[tuple[float, bytes]]:
            heard.append(device.inputs[1])
            device.inputs[1] += 1
            return (
                [(rng.choice([0.0, 0.002, 0.02, 0.04, 0.06]), reply)] if rng.random() < 0.9 else []
            )

        port.script = slave
        right = cancelled = failed = 0
        for _ in range(60):
            task = asyncio.create_task(bus.read_input(1, 0, 2, timing=FAST))
            patience = rng.choice([0.005, 0.02, 0.1, 5.0, 5.0])
            try:
                values = await asyncio.wait_for(task, patience)
                # Nobody else asks, so the last request the slave heard is the one answered.
                assert values == (0, heard[-1]), f"seed {seed}"
                right += 1
            except TimeoutError:
                cancelled += 1
            except BusError:
                failed += 1
        assert right > 5, f"seed {seed}"
        assert cancelled > 3, f"seed {seed}"
        await bus.close()

    asyncio.run(main())


def test_a_cancelled_request_that_waits_is_never_sent() -> None:
    async def main() -> None:
        bus, port, _, _ = setup(unit())
        first = asyncio.create_task(bus.read_input(1, 0, timing=FAST))
        second = asyncio.create_task(bus.read_input(1, 1, timing=FAST))
        third = asyncio.create_task(bus.read_input(1, 2, timing=FAST))
        await asyncio.sleep(0)
        second.cancel()
        assert await first == (100,)
        assert await third == (102,)
        assert [frame[3] for frame in port.frames] == [0, 2]
        await bus.close()

    asyncio.run(main())


def test_a_reply_in_the_buffer_counts_although_the_loop_was_busy() -> None:
    """The process stalls until after the deadline; what has arrived meanwhile is looked at first."""

    async def main() -> None:
        bus, port, _, _ = setup(unit())
        await bus.read_input(1, 0, timing=FAST)

        def stall(_frame: bytes, reply: bytes) -> list[tuple[float, bytes]]:
            asyncio.get_running_loop().call_later(0.002, time.sleep, 0.2)
            return [(0.01, reply)]

        port.script = stall
        assert await bus.read_input(1, 1, timing=FAST) == (101,)
        assert bus.status()["timeouts"] == 0
        await bus.close()

    asyncio.run(main())


def test_a_stop_overtakes_queued_reads() -> None:
    async def main() -> None:
        meter, evse = unit(1), unit(2)
        bus, _, _, _ = setup(meter, evse)
        reads = [asyncio.create_task(bus.read_input(1, 0, timing=FAST)) for _ in range(8)]
        await reads[0]
        await bus.write_coil(2, 5, False, timing=FAST, priority=Priority.STOP)
        done = sum(task.done() for task in reads)
        assert done <= 2  # at most the one that was under way went before
        await asyncio.gather(*reads)
        assert evse.coils[5] == 0
        await bus.close()

    asyncio.run(main())


def test_a_lost_line_fails_at_once_and_comes_back() -> None:
    async def main() -> None:
        bus, port, clock, log = setup(unit())
        port.missing = "no such device"
        with pytest.raises(LineGone, match="no such device"):
            await bus.read_input(1, 0, timing=FAST)
        port.missing = ""
        with pytest.raises(LineGone, match="no such device"):
            await bus.read_input(1, 0, timing=FAST)  # still pausing
        assert port.opened == []
        clock.ahead_ms += rtu.REOPEN_FIRST_MS
        assert await bus.read_input(1, 0, timing=FAST) == (100,)
        assert log.events() == ["bus_line_lost", "bus_line_back"]
        assert log.rows[0][1]["id"] == "MTR-001"

        port.script = lambda *_: []
        waiting = asyncio.create_task(bus.read_input(1, 0, timing=FAST))
        while len(port.line.frames) < 2:
            await asyncio.sleep(0)
        port.line.lose("hung up")
        with pytest.raises(LineGone, match="hung up"):
            await waiting
        assert bus.status()["lost_why"] == "hung up"
        port.script = prompt
        # A stop does not wait for the pause to be over.
        await bus.write_coil(1, 5, False, timing=FAST, priority=Priority.STOP)
        assert len(port.opened) == 2
        assert log.events() == ["bus_line_lost", "bus_line_back"] * 2
        await bus.close()

    asyncio.run(main())


def test_the_pause_before_reopening_grows_and_is_bounded() -> None:
    async def main() -> None:
        bus, port, clock, log = setup(unit())
        port.missing = "no such device"
        pauses = []
        for _ in range(8):
            with pytest.raises(LineGone):
                await bus.read_input(1, 0, timing=FAST)
            pauses.append(bus._reopen_at_ms - clock())
            clock.ahead_ms += rtu.REOPEN_MOST_MS
        # The clock runs on a little between the failure and the look at it.
        expected = [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]
        assert all(0 <= want - got < 50 for want, got in zip(expected, pauses, strict=True))
        assert log.events() == ["bus_line_lost"]
        await bus.close()

    asyncio.run(main())


def test_a_line_that_fails_while_writing_is_lost_too() -> None:
    async def main() -> None:
        bus, port, clock, _ = setup(unit())
        await bus.read_input(1, 0, timing=FAST)
        first = port.line
        first.lost = "device reports readiness to write but nothing"
        with pytest.raises(LineGone):
            await bus.read_input(1, 0, timing=FAST)
        clock.ahead_ms += rtu.REOPEN_FIRST_MS
        assert await bus.read_input(1, 0, timing=FAST) == (100,)
        assert first.closed
        await bus.close()

    asyncio.run(main())


def test_closing_fails_whoever_waits_and_may_be_repeated() -> None:
    async def main() -> None:
        bus, port, _, _ = setup(unit())
        port.script = lambda *_: []
        waiting = asyncio.create_task(bus.read_input(1, 0, timing=FAST))
        while not port.frames:
            await asyncio.sleep(0.001)
        await bus.close()
        with pytest.raises(LineGone, match="closed"):
            await waiting
        await bus.close()

    asyncio.run(main())


def test_errors_say_what_to_do() -> None:
    cases: list[tuple[BusError, str]] = [
        (LineGone("x"), "MTR-001"),
        (Timeout("x"), "MTR-002"),
        (BadFrame("x"), "MTR-003"),
        (ExceptionReply(2), "MTR-004"),
        (Echo("x"), "MTR-007"),
        (QueueFull("x"), "MTR-006"),
    ]
    for error, code in cases:
        shown = rtu.unavailable(error, "meter m")
        assert shown.code == code
        assert str(shown).startswith(f"{code}: meter m: {error.why}")
        assert shown.remedy


def test_an_echoing_adapter_is_named() -> None:
    async def main() -> None:
        bus, port, _, _ = setup(unit())
        port.script = lambda frame, reply: [(0.0, frame), (0.01, reply)]
        with pytest.raises(Echo, match="echoes"):
            await bus.read_input(1, 0, timing=FAST)
        await bus.close()

    asyncio.run(main())


def test_two_tasks_share_the_bus_without_mixing() -> None:
    async def main() -> None:
        bus, _, _, _ = setup(unit(1), unit(2))

        async def poll(number: int) -> list[tuple[int, ...]]:
            request = Request(number, Function.READ_INPUT, 3, 2)
            return [(await bus.transact(request, timing=FAST)).values for _ in range(20)]

        first, second = await asyncio.gather(poll(1), poll(2))
        assert first == [(103, 104)] * 20
        assert second == [(203, 204)] * 20
        await bus.close()

    asyncio.run(main())
