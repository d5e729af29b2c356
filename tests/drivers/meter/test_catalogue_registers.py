"""Every model of the catalogue against the simulated meter with its own register map, at the wire: what the
driver reads is what the meter's registers stand for, value by value, and that is the truth as exactly as the
registers can tell it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

import pytest
from support.rtu_slave import Clock, Port, crc, driver_env

from agent.ports import DeviceUnavailable, LineSpec, MeterSpec
from agent.values import ReadingState
from drivers.meter.catalogue import known_models, load_model
from drivers.meter.look import Look, look
from drivers.meter.modbus_meter import open_meter
from drivers.meter.rtu import Bus
from hil.charger.plant import Plant
from hil.charger.rtu import answer
from hil.meter import wordmap
from hil.meter.slave import Slave

FAST = {"turnaround_ms": 60, "longest_reply_ms": 80, "min_gap_ms": 0, "signing_reply_ms": 80}
LINE = LineSpec("/dev/bus", 115200)
LOAD_W = 10_873
# A counter that has run: every register of it is in use, and its last digits are not zero.
START_WH = 8_345_678
FLOWED_NS = 3_723_456_000_000


class OnTheWire:
    """The simulated meter as a peer of `support.rtu_slave`."""

    def __init__(self, slave: Slave, unit: int) -> None:
        self.slave, self.unit = slave, unit
        self.asked: list[tuple[int, int, int]] = []

    def answer(self, frame: bytes) -> bytes:
        pdu = frame[1:-2]
        self.asked.append(
            (pdu[0], int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big"))
        )
        return crc(bytes([frame[0]]) + answer(self.slave, pdu))


def simulated(name: str, *, start_wh: int = START_WH, load_w: int = LOAD_W) -> OnTheWire:
    found = wordmap.load(name)
    plant = Plant(bare=True, load_w=load_w)
    plant.advance(0)
    plant.advance(FLOWED_NS)
    return OnTheWire(Slave(plant, found, found.serial, start_wh), found.unit)


@contextmanager
def on_bus(peer: OnTheWire) -> Iterator[tuple[Bus, Clock]]:
    env, clock, _ = driver_env()
    yield Bus(LINE, env, Port(peer)), clock  # type: ignore[arg-type]  # answers like one


async def looked(name: str, peer: OnTheWire) -> Look:
    env, _, _ = driver_env()
    bus = Bus(LINE, env, Port(peer))  # type: ignore[arg-type]  # answers like one
    try:
        return await look(load_model(name), MeterSpec(name, peer.unit, options=FAST), bus, env)
    finally:
        await bus.close()


def test_every_model_has_a_simulated_meter_and_the_other_way_round() -> None:
    assert wordmap.names() == known_models()


def of_map(name: str) -> str:
    """Names of values that the map calls otherwise."""
    return {"serial_number": "serial", "energy_import_coarse": "energy_import.coarse",
            "energy_export_coarse": "energy_export.coarse"}.get(name, name)  # fmt: skip


@pytest.mark.parametrize("name", known_models())
def test_every_value_is_what_the_registers_stand_for(name: str) -> None:
    peer = simulated(name)
    found = asyncio.run(looked(name, peer))
    shown = peer.slave.shown()
    if "power" not in shown:  # a meter with a register for each direction
        shown["power"] = _number(shown["power_import"]) - _number(shown["power_export"])
    model = load_model(name)
    assert found.reading.state is ReadingState.OK, found.reading.why
    assert [v.name for v in found.values] == [*model.values, *model.texts]
    seen = 0
    for value in found.values:
        expected = shown.get(of_map(value.name))
        if expected is None:
            assert value.number is None and "all ones" in value.why, value
        elif isinstance(expected, str):
            assert value.text == expected.strip(), value
        else:
            assert value.number == expected, value
            seen += 1
    assert seen >= 6
    # Nothing that the map serves is left out, but for constants that belong to other values.
    left = {n for n, v in shown.items() if isinstance(v, Fraction)} - {
        of_map(v.name) for v in found.values
    }
    assert {n for n in left if not n.endswith(HELPERS)} == set()
    assert found.reading.energy_import_wh == round(_number(shown["energy_import"]))
    assert found.reading.power_w == round(_number(shown["power"]))
    assert found.reading.serial == (peer.slave.serial or None)
    assert not found.strange


HELPERS = (
    "_exponent", ".whole", "_id", "_length", "model_code", "current_mean",
)  # fmt: skip


def _number(value: Fraction | str) -> Fraction:
    assert isinstance(value, Fraction)
    return value


# How far a register may be from the truth, in its base unit: half a count, or one for counters.
COARSEST = {"V": Fraction(1, 10), "A": Fraction(1, 100), "W": Fraction(10), "Hz": Fraction(1, 10),
            "Wh": Fraction(100), "degC": Fraction(1, 10), "": Fraction(0)}  # fmt: skip


@pytest.mark.parametrize("name", known_models())
def test_what_is_shown_is_the_truth(name: str) -> None:
    """The simulated meter itself: its registers are near the physics, in the right unit and phase."""
    peer = simulated(name)
    truth = peer.slave.truth()
    assert truth["energy_import"] == START_WH + Fraction(LOAD_W * FLOWED_NS, 3600 * 10**9)
    for value in asyncio.run(looked(name, peer)).values:
        quantity = of_map(value.name).partition(".")[0]
        if value.number is None or quantity not in truth:
            continue
        allowed = max(COARSEST[value.unit], abs(truth[quantity]) / 2**23)
        assert abs(value.number - truth[quantity]) <= allowed, (value, float(truth[quantity]))


@pytest.mark.parametrize("name", known_models())
def test_billing_asks_short_questions_and_in_order(name: str) -> None:
    """A reading costs one or two requests, and none is longer than the meter answers."""
    peer, model = simulated(name), load_model(name)

    async def main() -> None:
        with on_bus(peer) as (bus, _):
            env, _, _ = driver_env()
            meter = open_meter(MeterSpec(name, peer.unit, options=FAST), bus, env)
            assert (await meter.read()).ok
            peer.asked.clear()
            assert (await meter.read()).ok
            await bus.close()

    asyncio.run(main())
    wanted = [model.energy_import.block]
    if model.power.block not in wanted:
        wanted.append(model.power.block)
    blocks = [model.blocks[name] for name in wanted]
    assert peer.asked == [(b.function, b.address, b.count) for b in blocks]
    assert sum(b.count for b in blocks) <= 66  # some 200 ms at 9600 baud, both ways


@pytest.mark.parametrize("name", known_models())
def test_no_value_is_no_number(name: str) -> None:
    """Each meter's own marks, and what stands in their place, are a state."""
    peer = simulated(name)
    peer.slave.nan = True
    found = asyncio.run(looked(name, peer))
    assert found.reading.state is ReadingState.NOT_AVAILABLE, found.reading
    assert found.reading.why.startswith("MTR-013")
    measured = peer.slave.truth()
    for value in found.values:
        if of_map(value.name).partition(".")[0] in measured and value.unit not in ("Hz", "degC"):
            assert value.number is None, value


def test_a_missing_phase_reads_no_voltage_and_is_told_as_such() -> None:
    peer = simulated("eastron_sdm630")
    peer.slave.missing.add(2)
    found = asyncio.run(looked("eastron_sdm630", peer))
    values = {v.name: v for v in found.values}
    assert values["voltage_l2"].number == 0 and values["voltage_l1"].number != 0
    assert found.strange == ["voltage_l2 is 0 V: is the phase connected?"]


# --- Another meter than the file says ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "there", "claims"),
    [
        ("carlogavazzi_em340_family", "carlogavazzi_em24_rs485", "claims to be carlogavazzi_em24_rs485"),
        ("carlogavazzi_em24_rs485", "carlogavazzi_em340_family", "claims to be carlogavazzi_em340_family"),
    ],
)  # fmt: skip
def test_a_wrong_model_stops_billing_and_is_named(expected: str, there: str, claims: str) -> None:
    peer = simulated(there)

    async def main() -> None:
        with on_bus(peer) as (bus, _):
            env, _, _ = driver_env()
            meter = open_meter(MeterSpec(expected, peer.unit, options=FAST), bus, env)
            with pytest.raises(DeviceUnavailable, match=claims) as caught:
                await meter.identity()
            assert caught.value.code == "MTR-015"
            for _ in range(2):
                reading = await meter.read()
                assert reading.state is ReadingState.WRONG_MODEL
                assert claims in reading.why and f"expected {expected}" in reading.why
                assert reading.energy_import_wh is None
            await bus.close()

    asyncio.run(main())


def test_a_code_nobody_knows_is_told_with_those_that_are_expected() -> None:
    peer = simulated("carlogavazzi_em340_family")
    peer.slave.map = wordmap.replaced(peer.slave.map, "model_code", 1760)
    found = asyncio.run(looked("carlogavazzi_em340_family", peer))
    assert found.reading.state is ReadingState.WRONG_MODEL
    assert "model_code '1760', which is no model known here" in found.reading.why
    assert "331, 332" in found.reading.why


def test_a_name_known_from_a_weak_source_refuses_nobody_and_is_shown() -> None:
    peer = simulated("iskra_wm3m4")
    peer.slave.map = wordmap.replaced(peer.slave.map, "model", "WM3M4-X2")
    found = asyncio.run(looked("iskra_wm3m4", peer))
    assert found.reading.ok, found.reading.why
    assert found.tells["model"] == "WM3M4-X2"
    assert any("WM3M4-X2" in text for text in found.strange)


# --- Values that can be torn ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["carlogavazzi_em340_family", "iskra_wm3m4", "bauer_bsm_ws36a"])
def test_values_in_two_pieces_never_tear_while_they_count(name: str) -> None:
    """From one request to the next the counter runs over a full kWh: no reading is between two values."""
    peer = simulated(name, start_wh=999_850, load_w=0)
    always_fresh = replace(peer.slave.map, refresh_ms=0)
    flowed = [Fraction(0)]
    seen: list[int] = []

    class Counting(Slave):
        def read_words(self, function: int, address: int, count: int) -> list[int]:
            flowed[0] += 7
            self.start_wh = 999_850 + int(flowed[0])
            return list(super().read_words(function, address, count))

    peer.slave = Counting(peer.slave.plant, always_fresh, peer.slave.serial, 999_850)

    async def main() -> None:
        with on_bus(peer) as (bus, _):
            env, _, _ = driver_env()
            spec = MeterSpec(name, peer.unit, options=FAST)
            meter = open_meter(spec, bus, env)
            for _ in range(30):
                reading = await meter.read()
                assert reading.ok, reading.why
                assert reading.energy_import_wh is not None
                # The simulated meter rounds down to what its register can show: 10 Wh at most.
                assert 0 <= 999_850 + flowed[0] - reading.energy_import_wh <= 18
                seen.append(reading.energy_import_wh)
            await bus.close()

    asyncio.run(main())
    assert seen == sorted(seen) and seen[-1] > 1_000_000
