"""The physics is exact: whatever the moments of looking, the energy is the same integer."""

from __future__ import annotations

import random
import struct
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from hil.charger.ev_cc_ac1 import EvCcAc1, factory_registers
from hil.charger.plant import FALL_STEPS, MW_NS_PER_MWH, Phase, Plant
from hil.charger.sdm630 import Sdm630, factory_config

MS = 1_000_000
S = 1000 * MS


def charging(load_w: int = 11_000, **options: int) -> Plant:
    plant = Plant(react_ms=300, fall_ms=300, load_w=load_w, **options)
    plant.advance(0)
    plant.plugged = plant.released = True
    plant.changed()
    return plant


def test_energy_starts_after_the_cars_reaction_and_is_exact() -> None:
    plant = charging()
    assert (plant.control_pilot(), plant.power_mw) == ("B2", 0)
    plant.advance(300 * MS - 1)
    assert plant.energy_mw_ns == 0
    plant.advance(300 * MS + 3600 * S)
    assert plant.control_pilot() == "C2"
    assert plant.energy_mw_ns == 11_000_000 * 3600 * S
    assert plant.energy_mwh == 11_000_000


def test_a_withdrawn_release_brings_the_power_down_in_steps() -> None:
    plant = charging(load_w=8000)
    plant.advance(1300 * MS)  # one second at 8 kW
    plant.released = False
    plant.changed()
    seen = []
    for step in range(4):
        plant.advance((1300 + step * 100) * MS)
        seen.append((plant.control_pilot(), plant.power_mw // 1000))
    assert seen == [("C1", 6000), ("C1", 4000), ("C1", 2000), ("B1", 0)]
    plant.advance(99 * S)
    assert plant.energy_mw_ns == 8_000_000 * S + (6 + 4 + 2) * 1_000_000 * 100 * MS
    assert FALL_STEPS == 4


def test_unplug_and_emergency_stop_end_the_power_at_once() -> None:
    for what in ("plugged", "estop", "ground_fault", "powered", "available"):
        plant = charging()
        plant.advance(S)
        before = plant.energy_mw_ns
        setattr(plant, what, what in ("estop", "ground_fault"))
        plant.changed()
        plant.advance(10 * S)
        assert plant.energy_mw_ns == before > 0, what
        assert plant.power_mw == 0


def test_no_energy_without_release_plug_or_wish() -> None:
    for missing in ("plugged", "released", "load_w"):
        plant = charging()
        setattr(plant, missing, 0)
        plant.changed()
        plant.advance(3600 * S)
        assert plant.energy_mw_ns == 0, missing


def test_an_ineffective_stop_goes_on_delivering() -> None:
    plant = charging()
    plant.advance(S)
    plant.stop_ineffective, plant.released = True, False
    plant.changed()
    plant.advance(10 * S)
    assert (plant.control_pilot(), plant.power_mw) == ("C1", 11_000_000)


def test_the_limit_caps_only_when_asked() -> None:
    free, capped = charging(360_000), charging(360_000, cap_to_limit=True)
    for plant in (free, capped):
        plant.limit_a = 16
        plant.advance(S)
    assert free.power_mw == 360_000_000
    assert capped.power_mw == 16 * 690 * 1000


def test_looking_often_or_seldom_gives_the_same_integer() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        often, seldom = charging(), charging()
        now = 0
        for _ in range(30):
            now += chance.randint(0, 400 * MS)
            often.advance(now)
            if chance.random() < 0.3:  # an input changes: both are brought to this moment
                seldom.advance(now)
                what, value = chance.choice(
                    [
                        ("plugged", 1),
                        ("plugged", 0),
                        ("released", 1),
                        ("released", 0),
                        ("load_w", 777),
                    ]
                )
                for plant in (often, seldom):
                    setattr(plant, what, value)
                    plant.changed()
        seldom.advance(now)
        assert often.energy_mw_ns == seldom.energy_mw_ns, f"seed {seed}"
        assert often.phase is seldom.phase, f"seed {seed}"


@settings(print_blob=True)
@given(start_wh=st.integers(0, 10**10), mwh=st.integers(0, 10**9))
def test_the_register_is_the_float32_nearest_to_the_truth(start_wh: int, mwh: int) -> None:
    plant = Plant(energy_mw_ns=mwh * MW_NS_PER_MWH)
    meter = Sdm630(plant, 1, start_wh, factory_config(1, 9600))
    words = meter.read_words(4, 0x48, 2)
    (kwh,) = struct.unpack(">f", struct.pack(">HH", *words))
    truth = Fraction(start_wh, 1000) + Fraction(mwh, 10**6)
    (up,) = struct.unpack(
        ">f", struct.pack(">I", struct.unpack(">I", struct.pack(">f", kwh))[0] + 1)
    )
    assert abs(Fraction(kwh) - truth) <= (Fraction(up) - Fraction(kwh)) / 2
    assert meter.register_wh == round(Fraction(kwh) * 1000)


def test_meter_faults_change_what_is_shown_and_not_what_flowed() -> None:
    plant = Plant(energy_mw_ns=5000 * MW_NS_PER_MWH)
    meter = Sdm630(plant, 1, 1_000_000, factory_config(1, 9600))
    meter.freeze()
    plant.energy_mw_ns += 100_000 * MW_NS_PER_MWH
    assert meter.register_wh == 1_000_005
    meter.frozen_kwh, meter.jump_back_wh = None, 500
    assert meter.register_wh == 999_605
    meter.jump_back_wh, meter.nan = 0, True
    assert meter.read_words(4, 0x48, 2) == [0x7FC0, 0]
    assert plant.energy_mwh == 105_000


def test_the_controller_releases_only_in_mode_three() -> None:
    plant = Plant(load_w=1)
    plant.advance(0)
    evse = EvCcAc1(plant, factory_registers(enable_mode=1))
    evse.write_bits(20000, [True])
    assert plant.released is False
    evse.write_words(4000, [3])
    assert plant.released is True
    evse.power_up()
    assert plant.released is False, "the coil is volatile"
    assert evse.retentive[4000] == 3


def test_the_fail_safe_is_off_by_default_and_withdraws_when_set() -> None:
    plant = Plant()
    real, watched = EvCcAc1(plant, factory_registers()), EvCcAc1(plant, factory_registers(), 5)
    for evse in (real, watched):
        evse.write_bits(20000, [True])
    assert real.trip_failsafe(0, 3600 * S) is False
    assert watched.trip_failsafe(0, 5 * S - 1) is False
    assert watched.trip_failsafe(0, 5 * S) is True
    assert plant.released is False


def test_status_f_needs_register_4001() -> None:
    plant = Plant()
    evse = EvCcAc1(plant, factory_registers())
    evse.write_bits(20001, [False])
    assert plant.control_pilot() == "A1"
    evse.write_words(4001, [2])
    assert plant.control_pilot() == "F"
    assert evse.read_words(4, 24000, 1) == [int.from_bytes(b"F0", "big")]
    assert evse.read_words(4, 24025, 1) == [1 << 5]
    assert plant.phase is Phase.IDLE
