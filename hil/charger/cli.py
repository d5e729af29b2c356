"""`python -m hil charger|evse`: the command lines of the simulated bus."""

from __future__ import annotations

import argparse
from pathlib import Path

from hil.charger import store
from hil.charger.bench import Bench, Options
from hil.charger.ev_cc_ac1 import ENABLE_MODE, EvCcAc1, factory_registers
from hil.charger.plant import Plant
from hil.charger.sdm630 import BAUD_CODES, UNIT_ID, Sdm630, factory_config
from hil.common.proc import run_service

DEFAULT_SERIAL = 12345678
DEFAULT_START_WH = 1_042_118


def main_charger(argv: list[str]) -> int:
    parser = _parser("charger", "An SDM630 meter and an EV-CC-AC1 controller with a car, one bus.")
    _meter_arguments(parser, "--meter-unit")
    _evse_arguments(parser, "--evse-unit")
    return _run(parser.parse_args(argv), meter=True, evse=True)


def main_evse(argv: list[str]) -> int:
    parser = _parser("evse", "An EV-CC-AC1 controller with a car.")
    _evse_arguments(parser, "--unit")
    parser.add_argument("--meter-control", type=Path, help="control socket of a separate meter")
    return _run(parser.parse_args(argv), meter=False, evse=True)


def _parser(name: str, text: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m hil {name}", description=text)
    parser.add_argument("--link", type=Path, required=True, help="symlink to the pty")
    parser.add_argument("--control", type=Path, required=True, help="control socket")
    parser.add_argument("--store", type=Path, help="what survives a power cut; wins over options")
    parser.add_argument("--baud", type=int, default=9600, choices=sorted(BAUD_CODES))
    parser.add_argument("--pace", action="store_true", help="let bytes take their time")
    return parser


def _meter_arguments(parser: argparse.ArgumentParser, unit: str) -> None:
    parser.add_argument(unit, dest="meter_unit", type=int, default=1)
    parser.add_argument("--serial", type=int, default=DEFAULT_SERIAL)
    parser.add_argument("--start-wh", type=int, default=DEFAULT_START_WH)


def _evse_arguments(parser: argparse.ArgumentParser, unit: str) -> None:
    parser.add_argument(unit, dest="evse_unit", type=int, default=3)
    parser.add_argument("--load-w", type=int, default=11_000, help="what the car draws")
    parser.add_argument("--react-ms", type=int, default=300, help="offer to start of charging")
    parser.add_argument("--fall-ms", type=int, default=400, help="withdrawal to no power")
    parser.add_argument("--cap-to-limit", action="store_true", help="the car obeys the limit")
    parser.add_argument("--failsafe-s", type=int, default=0, help="0: none, as the real one")
    parser.add_argument(
        "--enable-mode", type=int, default=3, choices=range(4), help="register 4000"
    )


def _run(args: argparse.Namespace, *, meter: bool, evse: bool) -> int:
    async def start() -> Bench:
        return await _bench(args, meter=meter, evse=evse).start()

    return run_service(start, f"{args.link}")


def _bench(args: argparse.Namespace, *, meter: bool, evse: bool) -> Bench:
    memory = (store.load(args.store) if args.store else None) or store.Memory(
        serial=args.serial if meter else 0,
        start_wh=args.start_wh if meter else 0,
        load_w=args.load_w if evse else 0,
        meter_config=factory_config(args.meter_unit, args.baud) if meter else {},
        evse_retentive=factory_registers(args.enable_mode) if evse else {},
    )
    if meter and UNIT_ID not in memory.meter_config:
        raise ValueError(f"{args.store} was written without a meter; choose another --store")
    if evse and ENABLE_MODE not in memory.evse_retentive:
        raise ValueError(f"{args.store} was written without a controller; choose another --store")
    plant = Plant(
        react_ms=args.react_ms if evse else 0,
        fall_ms=args.fall_ms if evse else 0,
        cap_to_limit=evse and args.cap_to_limit,
        bare=not evse,
        load_w=memory.load_w,
        plugged=memory.plugged,
        energy_mw_ns=memory.energy_mw_ns,
    )
    return Bench(
        Options(
            link=args.link,
            control=args.control,
            store=args.store,
            baud=args.baud,
            pace=args.pace,
            meter_control=None if meter else args.meter_control,
        ),
        memory,
        plant,
        meter=Sdm630(plant, memory.serial, memory.start_wh, memory.meter_config) if meter else None,
        evse=EvCcAc1(plant, memory.evse_retentive, args.failsafe_s) if evse else None,
        evse_unit=args.evse_unit if evse else 0,
    )
