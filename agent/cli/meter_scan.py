"""voltill meter scan"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, TypeAlias

import click

from agent.cli.common import (
    FAILED,
    OK,
    WARNING,
    config_option,
    fail,
    json_option,
    print_json,
    state_option,
    table,
)
from agent.cli.meter_way import (
    FRAMINGS,
    Answer,
    driver_env,
    is_held,
    models_dir_option,
    no_serial_options,
    used,
)
from agent.ports import DeviceUnavailable, is_modbus_tcp

# Speeds that meters are found at, the most common first; a scan begins with the factory settings anyway.
SCAN_BAUDS = (9600, 19200, 2400, 38400, 115200, 4800, 57600)
# Meters take 20 to 100 ms. A gateway itself waits for an address where nobody is, usually a second, and is
# deaf meanwhile; then it says so, so that the whole time is rarely spent.
WAIT_MS, WAIT_TCP_MS = 150, 1500
# Speed and framing; none on a network.
Lines: TypeAlias = list[tuple[int | None, str | None]]
_NAME_LIKE = re.compile(r"[\w .+/-]{1,40}", re.ASCII)
_BAUDS_KNOWN = (300, 600, 1200, *sorted(SCAN_BAUDS), 230400, 460800, 921600)


@click.command("scan")
@click.option("--port", required=True, help="Serial port or pyserial URL, or modbus-tcp://HOST.")
@click.option(
    "--baud", "bauds", help="Speeds to try, such as 9600,19200.  [default: all usual ones]"
)
@click.option("--framing", "framings", help="Framings to try, such as 8N1,8E1.  [default: both]")
@click.option(
    "--units", default="1-32", show_default=True, help="Addresses, such as 1-247 or 1,33,42."
)
@click.option(
    "--wait-ms", type=click.IntRange(20, 5000),
    help="How long each address is waited for; more for slow meters or serial servers.  "
    f"[default: {WAIT_MS}; {WAIT_TCP_MS} over Modbus TCP]",
)  # fmt: skip
@click.option("--all", "every_line", is_flag=True, help="Go on at other speeds after a find.")
@models_dir_option
@config_option
@state_option
@json_option
def scan(
    port: str,
    bauds: str | None,
    framings: str | None,
    units: str,
    wait_ms: int | None,
    every_line: bool,
    models_dir: str | None,
    config: Path,
    state: Path,
    as_json: bool,
) -> None:
    """Find out who answers on a bus, at which speed and address, and which meter it may be. Only reads
    are sent, one at a time; a charger may go on working meanwhile, but not its service. Exit code 1
    when a find is not clear, 2 when nobody answered."""
    import asyncio

    from agent.station.drivers import load

    lines: Lines = [(None, None)]
    if is_modbus_tcp(port):
        no_serial_options(port, {"baud": bauds, "framing": framings})
        wait_ms = wait_ms or WAIT_TCP_MS
    else:
        wait_ms = wait_ms or WAIT_MS
        lines = _scan_lines(bauds, framings, models_dir)
    addresses = _units(units)
    is_held(state, config, port)
    progress = Progress(wait_ms, not as_json and sys.stderr.isatty())
    scanning = load("tool", "meter_scan")(
        port, driver_env(), progress.take, lines=lines, units=addresses, models_dir=models_dir,
        wait_ms=wait_ms, every_line=every_line,
    )  # fmt: skip
    if not as_json:
        click.echo(progress.announced(len(lines), len(addresses)), err=True)
    try:
        found = asyncio.run(scanning)
    except (DeviceUnavailable, ValueError) as error:
        raise fail(str(error)) from None
    except KeyboardInterrupt:
        raise fail("stopped") from None
    finally:
        progress.clear()
    _print_scan(port, found, as_json)
    if not found:
        raise click.exceptions.Exit(FAILED)
    clear = all(entry["sure"] or len(entry["models"]) == 1 for entry in found)
    raise click.exceptions.Exit(OK if clear else WARNING)


class Progress:
    """One line that is written over while a person looks on; nothing in a pipe."""

    # Added to each address: pauses, the request itself, and the wait for a late reply.
    OVERHEAD = 2.2

    def __init__(self, wait_ms: int, shown: bool) -> None:
        self._shown, self._wait_ms = shown, wait_ms

    def announced(self, lines: int, units: int) -> str:
        seconds = max(1, round(lines * units * self._wait_ms * self.OVERHEAD / 1000))
        settings = f"{lines} line settings, " if lines > 1 else ""
        return f"{settings}{units} addresses: up to about {seconds} s"

    def take(self, told: dict[str, Any]) -> None:
        if self._shown:
            text = (
                f"\r{100 * told['done'] // told['of']:3} %  {_line(told)} "
                f"unit {told['unit']:<3}  found {told['found']}"
            )
            click.echo(f"{text:<60}", nl=False, err=True)

    def clear(self) -> None:
        if self._shown:
            click.echo("\r" + " " * 60 + "\r", nl=False, err=True)


def _print_scan(port: str, found: list[Answer], as_json: bool) -> None:
    if as_json:
        print_json({"port": port, "found": found})
        return
    if not found:
        click.echo(f"{port}: nobody answered.", err=True)
        wiring = "Are A and B the right way round, and is the line terminated?"
        if is_modbus_tcp(port):
            wiring = "Does the gateway speak Modbus TCP, with the meter's speed on its serial side?"
        click.echo(f"  Is the meter on? {wiring} Try --units 1-247, --wait-ms 500.", err=True)
        return
    rows = [["line", "unit", "model", "serial"]]
    rows += [[_line(e), str(e["unit"]), _guess(e), e["serial"] or "-"] for e in found]
    click.echo(table(rows, frozenset({1})))
    for e in found:
        for place, text in e["told"].items():
            # Of a meter that nobody knows, what it says itself is the only trace; other maps read as noise.
            if not e["models"] and _NAME_LIKE.fullmatch(text):
                click.echo(f"  unit {e['unit']} tells {place}: {text}")
    one = next((e for e in found if e["models"]), None)
    if one is not None:
        serial = f"--baud {one['baud']} --framing {one['framing']} " if one["baud"] else ""
        click.echo(
            f"Read it: voltill meter read --model {one['models'][0]} --port {port} "
            f"{serial}--unit {one['unit']}"
        )


def _line(told: dict[str, Any]) -> str:
    return f"{told['baud']} {told['framing']}" if told["baud"] else "Modbus TCP"


def _guess(entry: Answer) -> str:
    if entry["trouble"]:
        return f"not understood: {entry['trouble']}"
    if not entry["models"]:
        return "answers; no model of the catalogue fits"
    names = " or ".join(entry["models"])
    return names if entry["sure"] else f"perhaps {names}"


def _scan_lines(bauds: str | None, framings: str | None, models_dir: str | None) -> Lines:
    """What meters leave the factory with first, then every other pair."""
    rates = SCAN_BAUDS if bauds is None else _numbers("--baud", bauds, _BAUDS_KNOWN)
    kinds = ("8N1", "8E1") if framings is None else tuple(framings.split(","))
    for kind in kinds:
        if kind not in FRAMINGS:
            raise click.UsageError(f"--framing {kind}: expected one of {', '.join(FRAMINGS)}")
    wanted: Lines = [(rate, kind) for kind in kinds for rate in rates]
    known = used("meter_catalogue", models_dir)["models"]
    factory = [(m["baud"], m["framing"]) for m in known]
    first = [pair for pair in wanted if pair in factory]
    return first + [pair for pair in wanted if pair not in first]


def _numbers(option: str, text: str, allowed: tuple[int, ...]) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) in allowed for part in parts):
        known = ", ".join(map(str, allowed))
        raise click.UsageError(f"{option} {text}: expected numbers out of {known}, with commas")
    return tuple(int(part) for part in parts)


def _units(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise click.UsageError(f"--units {text}: expected such as 1-32 or 1,33,42")
        found += range(int(first), int(last or first) + 1)
    if not found or not all(1 <= unit <= 247 for unit in found):
        raise click.UsageError(f"--units {text}: expected addresses from 1 to 247")
    return list(dict.fromkeys(found))
