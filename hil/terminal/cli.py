"""`python -m hil terminal`: the terminal as a process."""

from __future__ import annotations

import argparse
from pathlib import Path

from hil.common.proc import run_service
from hil.terminal.manual import as_text
from hil.terminal.presets import PRESETS
from hil.terminal.simulator import Options, Simulator


def main(argv: list[str]) -> int:
    given = vars(_parser().parse_args(argv))
    lists = {name: tuple(given[name]) for name in ("settings", "faults")}
    options = Options(**{**given, **lists})
    if options.link is None and options.tcp_port is None:
        _parser().error("give --link, --tcp or both")
    where = " ".join(
        str(part)
        for part in (options.link, f"tcp:{options.tcp_port}" if options.tcp_port else None)
        if part
    )

    async def start() -> Simulator:
        return await Simulator(options).start()

    return run_service(start, f"terminal {options.tid} on {where}")


def _digits(size: int, what: str) -> type[str]:
    class Digits(str):
        def __new__(cls, text: str) -> Digits:
            if len(text) != size or not text.isdigit():
                raise argparse.ArgumentTypeError(f"{what} is {size} digits, not {text!r}")
            return super().__new__(cls, text)

    return Digits


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hil terminal",
        description="Simulated ZVT payment terminal with an acquirer behind it.",
        epilog=as_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--link", type=Path, help="publish the serial line (a pty) under this path")
    add(
        "--tcp",
        dest="tcp_port",
        type=int,
        metavar="PORT",
        help="also listen on this local TCP port",
    )
    add("--control", type=Path, required=True, help="control socket")
    add("--store", type=Path, required=True, help="what the terminal remembers, a JSON file")
    add("--ledger", type=Path, required=True, help="what the acquirer booked, JSON lines")
    add("--tid", type=_digits(8, "a terminal id"), default="52523535", help="for a new store")
    add("--password", type=_digits(6, "a password"), default="123456")
    add("--currency", type=_digits(3, "a currency"), default="978", help="ISO 4217 number")
    add("--baud", type=int, default=115200)
    add("--pace", action="store_true", help="send and receive at --baud instead of at once")
    add("--speed", type=_positive, default=4.0, help="times as fast as a real terminal")
    add("--delay-ms", type=int, help="every delay takes this long instead; 0 for none")
    add("--vendor", choices=sorted(PRESETS), help="switches of a terminal family, see below")
    add(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a switch, after --vendor; may be given often",
    )
    add(
        "--fault",
        dest="faults",
        action="append",
        default=[],
        metavar="NAME[=COUNT]",
        help="spoil the first blocks; COUNT -1 for ever; may be given often",
    )
    add("--seed", type=int, default=1, help="for whatever happens at random")
    return parser
