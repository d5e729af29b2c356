"""`python -m hil meter --model M`: one simulated meter on a line of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from hil.common.proc import run_service
from hil.meter import wordmap
from hil.meter.bench import Bench, Memory, Options, load
from hil.meter.faults import METER_FAULTS, REPLY_FAULTS, SIGNING_FAULTS

DEFAULT_START_WH = 1_042_118
BAUDS = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)

EPILOG = f"""control socket: one JSON object a line, such as {{"do": "load", "w": 11000}}. Verbs:
  state, truth            what it does; every quantity as it is and as its registers tell it
  load w, flow wh         power from now on; energy in an instant
  power_off, power_on     a dead meter; a changed unit number counts after it
  fault name [count]      spoil replies ({", ".join(REPLY_FAULTS)};
                          with ms, code, function, address), or the meter
                          ({", ".join(METER_FAULTS)}; with wh, phase, serial),
                          or its signing ({", ".join(SIGNING_FAULTS)}; with ms, code)
  clear_faults, say hex   all well again; bytes of somebody else on the line
  wait timeout_s [power_w] [drawn_mwh] [requests]
A map of your own: the form is described in hil/meter/wordmap.py."""


def main(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    if args.list:
        for name in wordmap.names():
            found = wordmap.load(name)
            print(f"{name:<28} {found.baud} {found.framing} unit {found.unit}")
        return 0

    async def start() -> Bench:
        return await _made(args).start()

    return run_service(start, f"{args.link}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hil meter",
        description="A Modbus RTU energy meter; the verb `load` sets the power through it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="eastron_sdm630", help="a name of --list, or a map file")
    parser.add_argument("--list", action="store_true", help="every meter there is, and its line")
    parser.add_argument("--link", type=Path, default=Path("meter.pty"), help="symlink to the pty")
    parser.add_argument("--control", type=Path, help="control socket (default: LINK.sock)")
    parser.add_argument("--store", type=Path, help="what survives a power cut; wins over options")
    parser.add_argument("--truth", type=Path, help="a line here for each reply with the energy")
    parser.add_argument("--baud", type=int, choices=BAUDS, help="default: as the factory sets it")
    parser.add_argument("--framing", choices=sorted(wordmap.FRAMING_BITS))
    parser.add_argument("--unit", type=int, choices=range(1, 248), metavar="1-247")
    parser.add_argument("--serial", help="default: that of the map")
    parser.add_argument("--start-wh", type=int, default=DEFAULT_START_WH)
    parser.add_argument("--load-w", type=int, default=0, help="power that flows from the start")
    parser.add_argument("--pace", action="store_true", help="let bytes and replies take their time")
    parser.add_argument(
        "--strict-rate",
        action="store_true",
        help="deaf to a master with another rate, as real ones",
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[=COUNT]", help="from the start"
    )
    return parser


def made(argv: list[str]) -> Bench:
    """The bench of a command line, not started: for tests that run it on their own loop."""
    return _made(_parser().parse_args(argv))


def _made(args: argparse.Namespace) -> Bench:
    found = wordmap.load(args.model)
    memory = (load(args.store) if args.store else None) or Memory(
        model=found.name,
        serial=args.serial if args.serial is not None else found.serial,
        start_wh=args.start_wh,
        load_w=args.load_w,
    )
    if memory.model != found.name:
        raise ValueError(f"{args.store} is the store of a {memory.model}; choose another --store")
    unit = args.unit if args.unit is not None else found.unit
    baud = args.baud if args.baud is not None else found.baud
    setting = next((s for s in found.settings if s.name == "unit"), None)
    if setting is not None:
        unit = memory.settings.setdefault(setting.address, unit)
    control = args.control or args.link.with_name(f"{args.link.name}.sock")
    bench = Bench(
        Options(args.link, control, args.store, args.truth, baud, args.framing or found.framing,
                unit, args.pace, args.strict_rate),
        memory,
        found,
    )  # fmt: skip
    for text in args.fault:
        name, _, count = text.partition("=")
        if name not in REPLY_FAULTS or not (count or "1").isdecimal():
            raise ValueError(f"--fault {text}: expected one of {', '.join(REPLY_FAULTS)}, =COUNT")
        bench.inject(name, int(count or 1))
    return bench
