"""The EV-CC-AC1 driver against a scripted controller: states, release and lease, stops that overtake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.rtu_slave import Clock, Log, Port, Registers, driver_env, float_words, prompt

from agent.ports import DeviceUnavailable, Evse, EvseSpec, EvseState, LineSpec, MeterSpec
from drivers.evse.phoenix_rtu import PhoenixRtu, open_evse
from drivers.evse.pilot import Pilot
from drivers.meter.modbus_meter import open_meter
from drivers.meter.options import OptionError
from drivers.meter.rtu import Bus

LINE = LineSpec("/dev/bus", 115200, "8N1")
FAST = {"turnaround_ms": 30, "longest_reply_ms": 60, "min_gap_ms": 1}


def controller(unit: int = 3, offset: int = 0, **holdings: int) -> Registers:
    """A controller as an installer leaves it: released over Modbus, not released, no car."""
    return Registers(
        unit,
        inputs={at + offset: 0 for at in (24000, 24001, 24002, 24003, 24004, 24025)},
        holdings={4000 + offset: 3, 4002 + offset: 0, 22000 + offset: 32}
        | {int(name[1:]) + offset: value for name, value in holdings.items()},
        coils={20000 + offset: 0, 20002 + offset: 0},
    )


def setup(device: Registers, **options: object) -> tuple[PhoenixRtu, Bus, Port, Clock, Log]:
    env, clock, log = driver_env()
    port = Port(device)
    bus = Bus(LINE, env, port)
    evse = open_evse(EvseSpec("E1", device.unit, {**FAST, **options}), bus, env)
    return evse, bus, port, clock, log


def show(device: Registers, text: str, offset: int = 0) -> None:
    device.inputs[24000 + offset] = int.from_bytes(text.encode().ljust(2, b"\0"), "big")


async def states(evse: PhoenixRtu, device: Registers, *texts: str) -> list[str]:
    seen = []
    for text in texts:
        show(device, text)
        seen.append(str((await evse.snapshot()).state))
    return seen


def test_it_is_an_evse() -> None:
    evse, *_ = setup(controller())
    port: Evse = evse
    assert port.abilities.failsafe_s is None
    assert not port.abilities.can_unlock
    assert not port.abilities.reports_estop


def test_a_session_as_the_controller_shows_it() -> None:
    async def main() -> None:
        device = controller()
        evse, bus, _, clock, _ = setup(device)
        assert await states(evse, device, "A1") == ["unknown"]  # one A proves nothing
        clock.ahead_ms += 1000
        assert await states(evse, device, "A1", "B1", "C1") == ["unplugged", "plugged", "plugged"]
        await evse.release(16_000, 60)
        assert (device.holdings[22000], device.coils[20000]) == (16, 1)
        device.inputs[24003] = 16
        assert await states(evse, device, "B1", "B2", "C2", "B2", "C2", "C1", "D2", "D1") == [
            "plugged",
            "ready",
            "charging",
            "suspended",
            "charging",
            "suspended",
            "charging",
            "suspended",
        ]
        assert (await evse.snapshot()).limit_ma == 16_000
        await evse.stop()
        assert device.coils[20000] == 0
        # The car may hold its contactor for a moment: not finished before B1.
        assert await states(evse, device, "C1", "B1", "A1") == ["suspended", "finished", "finished"]
        clock.ahead_ms += 999
        clock.ahead_ms += 1
        assert await states(evse, device, "A1", "B1") == ["unplugged", "plugged"]
        await bus.close()

    asyncio.run(main())


def test_unplugged_needs_two_reads_a_second_apart_without_anything_between() -> None:
    pilot = Pilot(1000)
    assert pilot.see("C2", 0) is EvseState.CHARGING
    assert pilot.see("A1", 100) is EvseState.CHARGING
    assert pilot.see("A1", 1099) is EvseState.CHARGING
    assert pilot.see("C2", 1100) is EvseState.CHARGING
    assert pilot.see("A2", 1200) is EvseState.CHARGING
    pilot.lose()
    assert pilot.see("A1", 2300) is EvseState.UNKNOWN
    assert pilot.see("A1", 3300) is EvseState.UNPLUGGED


def test_stopping_before_anything_ran_ends_the_release_only() -> None:
    pilot = Pilot(1000)
    pilot.withdraw()  # as every start of the agent does
    assert pilot.see("B1", 0) is EvseState.PLUGGED
    pilot.release()
    assert pilot.see("B2", 1) is EvseState.READY
    pilot.withdraw()
    assert pilot.see("B1", 2) is EvseState.FINISHED
    pilot.release()
    assert pilot.see("B1", 3) is EvseState.PLUGGED


@pytest.mark.parametrize("text", ["E", "E0", "E\0", "F0", "F "])
def test_faults_are_no_unplugging(text: str) -> None:
    async def main() -> None:
        device = controller()
        device.inputs[24025] = 1 << 15 | 1 << 4
        evse, bus, _, clock, log = setup(device)
        show(device, text)
        for _ in range(2):
            snapshot = await evse.snapshot()
            assert snapshot.state is EvseState.FAULT
            assert snapshot.fault_codes == (text[0], "cp_invalid", "residual_current")
            clock.ahead_ms += 2000
        assert [values["id"] for _, values in log.rows] == ["EVS-005"]
        await bus.close()

    asyncio.run(main())


def test_what_is_no_state_is_unknown_and_told_once() -> None:
    async def main() -> None:
        device = controller()
        evse, bus, _, _, log = setup(device)
        assert (
            await states(evse, device, "C2", "C3", "C3", "", "G1") == ["charging"] + ["unknown"] * 4
        )
        assert (await evse.snapshot()).fault_codes == ("EVS-004",)
        assert log.events() == ["evse_state"]
        await bus.close()

    asyncio.run(main())


def test_silence_is_unknown_and_logged_once_with_its_end() -> None:
    async def main() -> None:
        device = controller()
        evse, bus, port, clock, log = setup(device)
        assert await states(evse, device, "C2") == ["charging"]
        port.script = lambda *_: []
        for _ in range(3):
            snapshot = await evse.snapshot()
            assert (snapshot.state, snapshot.fault_codes) == (EvseState.UNKNOWN, ("MTR-002",))
        clock.ahead_ms += 5000
        port.script = prompt
        assert await states(evse, device, "C2") == ["charging"]
        assert log.events() == ["evse_lost", "evse_back"]
        assert log.rows[1][1]["after_ms"] >= 5000
        await bus.close()

    asyncio.run(main())


@pytest.mark.parametrize(("limit_ma", "amps"), [(6_000, 6), (6_999, 6), (19_999, 19), (80_000, 20)])
def test_the_limit_is_whole_amperes_rounded_down(limit_ma: int, amps: int) -> None:
    async def main() -> None:
        device = controller()
        evse, bus, *_ = setup(device, max_current_a=20)
        await evse.release(limit_ma, 60)
        assert device.holdings[22000] == amps
        await bus.close()

    asyncio.run(main())


def test_less_than_six_amperes_are_refused_with_nothing_changed() -> None:
    async def main() -> None:
        device = controller()
        evse, bus, port, *_ = setup(device)
        with pytest.raises(DeviceUnavailable, match="EVS-006"):
            await evse.release(5_999, 60)
        assert port.frames == []
        await bus.close()

    asyncio.run(main())


def test_release_writes_current_before_enable_and_repeats_without_writing() -> None:
    async def main() -> None:
        device = controller()
        writes: list[tuple[int, int, int]] = []
        device.on_write = lambda *write: writes.append(write)
        evse, bus, *_ = setup(device)
        await evse.release(16_000, 60)
        assert writes == [(6, 22000, 16), (5, 20000, 1)]
        await evse.release(16_000, 60)
        assert len(writes) == 2
        # A controller that restarted has forgotten both.
        device.coils[20000], device.holdings[22000] = 0, 32
        await evse.release(16_000, 60)
        assert writes[2:] == [(6, 22000, 16), (5, 20000, 1)]
        await bus.close()

    asyncio.run(main())


def test_a_controller_with_a_fail_safe_timer_is_written_to_every_time() -> None:
    async def main() -> None:
        device = controller()
        writes: list[tuple[int, int, int]] = []
        device.on_write = lambda *write: writes.append(write)
        evse, bus, *_ = setup(device, failsafe_s=30)
        assert evse.abilities.failsafe_s == 30
        for _ in range(2):
            await evse.release(16_000, 60)
        assert writes == [(6, 22000, 16), (5, 20000, 1)] * 2
        await bus.close()

    asyncio.run(main())


def test_a_value_that_does_not_stick_is_an_error_and_nothing_is_enabled() -> None:
    async def main() -> None:
        device = controller()
        evse, bus, port, *_ = setup(device)

        def forget(_frame: bytes, reply: bytes) -> list[tuple[float, bytes]]:
            device.holdings[22000] = 32
            return prompt(_frame, reply)

        port.script = forget
        with pytest.raises(DeviceUnavailable, match=r"EVS-003.*22000 reads 32 after 16"):
            await evse.release(16_000, 60)
        assert device.coils[20000] == 0
        await bus.close()

    asyncio.run(main())


def test_a_controller_that_does_not_listen_is_told_and_can_be_set() -> None:
    async def main() -> None:
        device = controller(r4000=1)
        evse, bus, *_ = setup(device)
        with pytest.raises(DeviceUnavailable, match=r"EVS-002.*4000 is 1.*set_control_mode"):
            await evse.release(16_000, 60)
        assert device.coils[20000] == 0
        # A withdraw that cannot work must not look as if it had.
        with pytest.raises(DeviceUnavailable, match="EVS-002"):
            await evse.withdraw()
        await bus.close()

        evse, bus, _, _, log = setup(device, set_control_mode=True)
        await evse.release(16_000, 60)
        assert device.holdings[4000] == 3
        assert device.coils[20000] == 1
        assert log.events() == ["evse_control_mode_set"]
        await bus.close()

    asyncio.run(main())


def test_the_lease_ends_the_release_from_within_a_snapshot() -> None:
    async def main() -> None:
        device = controller()
        evse, bus, port, clock, log = setup(device)
        await evse.release(16_000, 10)
        clock.ahead_ms += 9_000
        assert await states(evse, device, "C2") == ["charging"]
        assert device.coils[20000] == 1
        await evse.release(16_000, 10)  # asserted again
        clock.ahead_ms += 9_000
        await evse.snapshot()
        assert device.coils[20000] == 1
        clock.ahead_ms += 1_100

        def deaf(_frame: bytes, _reply: bytes) -> list[tuple[float, bytes]]:
            device.coils[20000] = 1
            return []

        port.script = deaf  # the bus fails just now: tried again until it works
        await evse.snapshot()
        port.script = prompt
        await evse.snapshot()
        assert device.coils[20000] == 0
        assert [row for row in log.events() if row == "evse_lease_over"] == ["evse_lease_over"]
        frames = len(port.frames)
        await evse.snapshot()
        assert len(port.frames) == frames + 1  # nothing left to do
        await bus.close()

    asyncio.run(main())


def test_withdraw_works_in_a_process_of_its_own() -> None:
    async def main() -> None:
        device = controller()
        device.coils[20000] = 1
        evse, bus, port, *_ = setup(device)
        await evse.withdraw()
        assert device.coils[20000] == 0
        await evse.withdraw()
        await bus.close()
        assert port.line.closed

    asyncio.run(main())


def test_a_failed_withdraw_raises_and_is_tried_again() -> None:
    async def main() -> None:
        device = controller()
        device.coils[20000] = 1
        evse, bus, port, *_ = setup(device)
        heard: list[bytes] = []

        def deaf(frame: bytes, _reply: bytes) -> list[tuple[float, bytes]]:
            heard.append(frame)
            device.coils[20000] = 1
            return []

        port.script = deaf
        with pytest.raises(DeviceUnavailable, match="MTR-002"):
            await evse.withdraw()
        assert len(heard) == 2  # off may be said twice
        port.script = prompt
        await evse.snapshot()
        assert device.coils[20000] == 0
        await bus.close()

    asyncio.run(main())


@pytest.mark.parametrize("at", range(8))
def test_a_withdraw_at_any_point_of_a_release_wins(at: int) -> None:
    """Whichever request of the release is under way, the coil ends off and stays off."""

    async def main() -> None:
        device = controller()
        evse, bus, port, *_ = setup(device)
        reached = asyncio.Event()

        def slow(frame: bytes, reply: bytes) -> list[tuple[float, bytes]]:
            if len(port.frames) == at + 1:
                reached.set()
            return [(0.01, reply)]

        port.script = slow
        releasing = asyncio.create_task(evse.release(16_000, 60))
        done = asyncio.ensure_future(reached.wait())
        await asyncio.wait({releasing, done}, return_when=asyncio.FIRST_COMPLETED)
        done.cancel()
        finished = releasing.done()
        await evse.withdraw()
        if not finished:
            with pytest.raises(DeviceUnavailable, match="EVS-009"):
                await releasing
        assert device.coils[20000] == 0
        await evse.snapshot()
        assert device.coils[20000] == 0
        await evse.release(16_000, 60)  # and a new one works
        assert device.coils[20000] == 1
        await bus.close()

    asyncio.run(main())


def test_a_withdraw_ends_waiting_releases_too() -> None:
    async def main() -> None:
        device = controller()
        evse, bus, *_ = setup(device)
        releases = [asyncio.create_task(evse.release(16_000, 60)) for _ in range(3)]
        for _ in range(3):
            await asyncio.sleep(0)
        await evse.withdraw()
        for release in releases:
            with pytest.raises(DeviceUnavailable, match="EVS-009"):
                await release
        assert device.coils[20000] == 0
        await bus.close()

    asyncio.run(main())


@pytest.mark.parametrize("value", [0, 1])
def test_a_coil_that_does_not_stick_is_an_error(value: int) -> None:
    async def main() -> None:
        device = controller()
        evse, bus, port, *_ = setup(device)

        def stuck(frame: bytes, reply: bytes) -> list[tuple[float, bytes]]:
            device.coils[20000] = 1 - value
            return prompt(frame, reply)

        port.script = stuck
        with pytest.raises(
            DeviceUnavailable, match=f"EVS-003.*20000 reads {1 - value} after {value}"
        ):
            await (evse.release(16_000, 60) if value else evse.withdraw())
        await bus.close()

    asyncio.run(main())


def test_a_cancelled_release_keeps_its_lease() -> None:
    async def main() -> None:
        device = controller()
        evse, bus, port, clock, _ = setup(device)
        port.script = lambda frame, reply: [] if frame[1] == 5 else prompt(frame, reply)
        releasing = asyncio.create_task(evse.release(16_000, 10))
        while device.coils[20000] == 0:
            await asyncio.sleep(0.001)
        releasing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await releasing
        port.script = prompt
        clock.ahead_ms += 10_000
        await evse.snapshot()
        assert device.coils[20000] == 0
        await bus.close()

    asyncio.run(main())


def test_an_echoing_adapter_cannot_fake_a_stop() -> None:
    async def main() -> None:
        device = controller()
        evse, bus, port, *_ = setup(device)

        def echo(frame: bytes, _reply: bytes) -> list[tuple[float, bytes]]:
            device.coils[20000] = 1  # the controller never hears anything
            return [(0.001, frame)]

        port.script = echo
        with pytest.raises(DeviceUnavailable, match="MTR-007"):
            await evse.withdraw()
        await bus.close()

    asyncio.run(main())


def test_the_lock_follows_release_and_unlock_where_it_may() -> None:
    async def main() -> None:
        device = controller()
        evse, bus, *_ = setup(device)
        with pytest.raises(DeviceUnavailable, match="EVS-007"):
            await evse.unlock()
        await bus.close()

        evse, bus, *_ = setup(device, lock_by_coil=True)
        with pytest.raises(DeviceUnavailable, match=r"EVS-002.*4002 is 0"):
            await evse.release(16_000, 60)
        device.holdings[4002] = 3
        await evse.release(16_000, 60)
        assert device.coils[20002] == 1
        show(device, "C2")
        with pytest.raises(DeviceUnavailable, match="EVS-008"):
            await evse.unlock()
        await evse.stop()
        show(device, "B1")
        await evse.unlock()
        assert device.coils[20002] == 0
        assert evse.abilities.can_unlock
        await bus.close()

    asyncio.run(main())


def test_the_emergency_stop_is_an_input_of_choice() -> None:
    async def main() -> None:
        device = controller()
        evse, bus, *_ = setup(device, estop_input="IN", estop_level=0)
        show(device, "B1")
        assert evse.abilities.reports_estop
        assert (await evse.snapshot()).estop
        device.inputs[24004] = 1 << 4
        assert not (await evse.snapshot()).estop
        await bus.close()

    asyncio.run(main())


def test_registers_of_other_firmware_are_found() -> None:
    async def main() -> None:
        device = controller()
        device.holdings |= device.inputs  # the manual's table lists them as holding registers
        device.inputs = {}
        evse, bus, port, *_ = setup(device)
        assert await states(evse, device, "") == ["unknown"]
        device.holdings[24000] = int.from_bytes(b"C2", "big")
        assert (await evse.snapshot()).state is EvseState.CHARGING
        assert port.frames[-1][1] == 3
        await bus.close()

        device = controller(offset=-1)
        evse, bus, *_ = setup(device, address_offset=-1)
        show(device, "B1", offset=-1)
        assert (await evse.snapshot()).state is EvseState.PLUGGED
        await evse.release(10_000, 60)
        assert (device.holdings[21999], device.coils[19999]) == (10, 1)
        await bus.close()

        device = controller()
        del device.inputs[24004]  # a block that is not whole: the state alone will do
        evse, bus, *_ = setup(device)
        assert await states(evse, device, "B2") == ["ready"]
        await evse.release(7_000, 60)
        assert (await evse.snapshot()).limit_ma == 7_000
        await bus.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_current_a": 5}, "from 6 to 63"),
        ({"max_current_a": "16"}, "whole number"),
        ({"max_current_a": True}, "whole number"),
        ({"set_control_mode": "yes"}, "true or false"),
        ({"status_function": 2}, "from 3 to 4"),
        ({"estop_input": "X"}, "one of EN, XR, ML, CCR, IN"),
        ({"adress_offset": 1}, "did you mean address_offset?"),
        ({"longest_reply_ms": 10, "turnaround_ms": 20}, "raise the latter"),
    ],
)
def test_options_are_checked(options: dict[str, Any], why: str) -> None:
    env, _, _ = driver_env()
    with pytest.raises(OptionError, match=why.replace("?", r"\?")) as caught:
        open_evse(EvseSpec("E1", 3, options), Bus(LINE, env), env)
    assert caught.value.code == "EVS-001"
    assert "evse E1" in str(caught.value)


def test_all_wrong_options_are_told_at_once() -> None:
    env, _, _ = driver_env()
    spec = EvseSpec("E1", 0, {"max_current_a": 1, "estop_level": 2, "what": 1})
    with pytest.raises(OptionError) as caught:
        open_evse(spec, Bus(LINE, env), env)
    assert len(caught.value.problems) == 4


def test_meter_and_controller_share_a_bus_and_a_stop_goes_first() -> None:
    async def main() -> None:
        env, _, _ = driver_env()
        meter_unit = Registers(
            1, inputs=dict.fromkeys(range(0x34, 0x4A), 0), holdings={0xFC00: 0, 0xFC01: 77}
        )
        device = controller()
        port = Port(meter_unit, device)
        bus = Bus(LINE, env, port)
        meter_unit.inputs[0x48], meter_unit.inputs[0x49] = float_words(104.25)
        meter = open_meter(MeterSpec("eastron_sdm630", 1, options=FAST), bus, env)
        evse = open_evse(EvseSpec("E1", 3, FAST), bus, env)
        assert (await meter.read()).energy_import_wh == 104_250
        await evse.release(16_000, 60)
        show(device, "C2")
        polls = [asyncio.create_task(meter.read()) for _ in range(4)]
        polls += [
            asyncio.create_task(bus.read_input(1, 0x34, timing=evse._set.timing)) for _ in "123456"
        ]
        await asyncio.sleep(0)
        before = len(port.frames)
        await evse.stop()
        sent = port.frames[before:]
        first_stop = next(at for at, frame in enumerate(sent) if frame[0] == 3)
        assert first_stop <= 1
        assert device.coils[20000] == 0
        for poll in polls:
            await poll
        await bus.close()

    asyncio.run(main())
