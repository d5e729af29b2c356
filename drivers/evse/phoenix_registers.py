"""Registers and options of the Phoenix Contact EV-CC-AC1 (EV Charge Control Basic).

Source: user manual 106377_en_04, table 9-2.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.ports import EvseSpec
from drivers.meter.modbus import Function
from drivers.meter.options import Options, timing_of
from drivers.meter.timing import DeviceTiming

# Table 9-2; addresses as printed. What differs on the wire is the option address_offset.
CONTROL_MODE, LOCK_MODE = 4000, 4002
COIL_ENABLE, COIL_LOCK = 20000, 20002
MAX_CURRENT = 22000
STATUS = 24000  # two ASCII characters; 24003 offered current in A; 24004 digital inputs
STATUS_REGISTERS = 5
ERRORS = 24025
BY_MODBUS = 3  # value of CONTROL_MODE and LOCK_MODE that makes the coils work

INPUTS = ("EN", "XR", "ML", "CCR", "IN")  # bits 0 to 4 of 24004
ERROR_NAMES = {
    2: "cable_13a_rejected",
    3: "pp_invalid",
    4: "cp_invalid",
    5: "not_available",
    6: "locking",
    7: "unlocking",
    8: "lock_supply",
    11: "ventilation_rejected",
    12: "contactor",
    13: "no_diode",
    15: "residual_current",
}

# What the controller's manual leaves open: typical of a small Modbus slave, to be corrected by options.
DEFAULT_TIMING = DeviceTiming(turnaround_ms=300, longest_reply_ms=1000, min_gap_ms=20)
# IEC 61851-1 allows no less, the register takes no more.
LEAST_CURRENT_A, MOST_CURRENT_A = 6, 63


@dataclass(frozen=True, slots=True)
class Settings:
    """Options of one controller, checked."""

    unit: int
    offset: int
    functions: tuple[Function, ...]
    most_current_a: int
    set_control_mode: bool
    lock_by_coil: bool
    estop_input: int | None
    estop_level: int
    failsafe_s: int | None
    timing: DeviceTiming


def settings_of(spec: EvseSpec) -> Settings:
    """The options of `spec`, checked. Raises OptionError with every problem."""
    options = Options(spec.options, "EVS-001", f"evse {spec.id}")
    function = options.optional_integer("status_function", 3, 4)
    estop = options.text("estop_input")
    options.check(
        estop is None or estop in INPUTS,
        f"option estop_input is {estop!r}; expected one of {', '.join(INPUTS)}",
    )
    options.check(1 <= spec.unit <= 247, f"unit is {spec.unit}; expected 1 to 247")
    both = (Function.READ_INPUT, Function.READ_HOLDING)
    settings = Settings(
        unit=spec.unit,
        offset=options.integer("address_offset", 0, -1, 1),
        functions=both if function is None else (Function(function),),
        most_current_a=options.integer(
            "max_current_a", MOST_CURRENT_A, LEAST_CURRENT_A, MOST_CURRENT_A
        ),
        set_control_mode=options.flag("set_control_mode", False),
        lock_by_coil=options.flag("lock_by_coil", False),
        estop_input=INPUTS.index(estop) if estop in INPUTS else None,
        estop_level=options.integer("estop_level", 1, 0, 1),
        failsafe_s=options.optional_integer("failsafe_s", 1, 3600),
        timing=timing_of(options, DEFAULT_TIMING),
    )
    options.done()
    return settings
