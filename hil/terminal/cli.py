"""`python -m hil terminal`: the terminal as a process."""

from __future__ import annotations

import argparse
from pathlib import Path

from hil.common.proc import run_service
from hil.terminal.simulator import Options, Simulator

EPILOG = """control verbs (one JSON object a line on the control socket, {"do": VERB, ...}):
  tap {card, stay=false}   remove_card   press_stop   power_off   power_on   unplug   replug
  hold {at}   wait {at, timeout_s=10}   resume {break_link=false}
  fault {name, count=1}   clear_faults   refuse {command, code, count=1}   set {switch: value, ...}
  state   ledger
points: <command>:<received|result_due|result_sent|result_answered|completed>, command one of
  read_card reserve capture book_total cancel enquire register status display repeat end_of_day ...
"""


def main(argv: list[str]) -> int:
    options = Options(**vars(_parser().parse_args(argv)))
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
        epilog=EPILOG,
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
    return parser
