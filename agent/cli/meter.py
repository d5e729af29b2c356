"""voltill meter read | scan | models"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import click

from agent.cli.common import (
    FAILED,
    OK,
    WARNING,
    config_option,
    fail,
    json_option,
    kwh,
    print_json,
    state_option,
    table,
)
from agent.cli.meter_scan import scan
from agent.cli.meter_way import (
    FRAMINGS,
    Answer,
    driver_env,
    is_held,
    models_dir_option,
    no_serial_options,
    through_service,
    used,
)
from agent.ports import DeviceUnavailable, LineSpec, is_modbus_tcp

# `--watch` without `--times`: a working day, so that a forgotten window ends.
WATCH_MOST = 8 * 3600
# From here on a person is told why nothing happens.
LONG_MS = 3000
EVERY_MS = 1000


@click.group()
def command() -> None:
    """Look at energy meters: read one, find out what hangs on a bus, list the models.

    No configuration is needed, and nothing is ever written to a meter. While the service runs it has
    the port of its bus; then read through it with --evse."""


# --- read -----------------------------------------------------------------------------------------


@command.command("read")
@click.option("--model", help="Name in the catalogue (`voltill meter models`), or a model file.")
@click.option("--port", help="Serial port or pyserial URL, or modbus-tcp://HOST[:PORT].")
@click.option("--baud", type=click.IntRange(min=1), help="[default: the model's factory setting]")
@click.option("--framing", type=click.Choice(FRAMINGS), help="[default: as baud]")
@click.option("--unit", type=click.IntRange(1, 247), help="Modbus address.  [default: as baud]")
@click.option("--evse", help="Through the running service: the meter of this connector.")
@click.option("--raw", is_flag=True, help="Every register in hex beside what it means.")
@click.option("--watch", is_flag=True, help="A line a second, until Ctrl-C.")
@click.option(
    "--times", type=click.IntRange(1, WATCH_MOST), help="With --watch: end after so many."
)
@models_dir_option
@config_option
@state_option
@json_option
def read(
    model: str | None,
    port: str | None,
    baud: int | None,
    framing: str | None,
    unit: int | None,
    evse: str | None,
    raw: bool,
    watch: bool,
    times: int | None,
    models_dir: str | None,
    config: Path,
    state: Path,
    as_json: bool,
) -> None:
    """What a meter tells: identity, register, power, and all its values. Give --model and --port, or
    --evse while the service runs (it holds the port). Exit code 1 when something looks wrong, 2 when
    there is no reading that could be billed."""
    if times is not None and not watch:
        raise click.UsageError("--times without --watch")
    if evse is not None:
        if model or port or raw or watch:
            raise click.UsageError("--evse goes with no other option: it is the service that reads")
        _print_one(through_service(state, evse), False, as_json)
        return
    if model is None or port is None:
        raise click.UsageError("give --model and --port, or --evse while the service runs")
    is_held(state, config, port)
    known = used("meter_line", model, models_dir)
    line = _line(model, port, known, baud, framing, unit)
    # Over TCP a late reply is known by its number, so nobody listens for one.
    if known["quiet_ms"] >= LONG_MS and not as_json and not is_modbus_tcp(port):
        wait_s = known["quiet_ms"] // 1000
        click.echo(f"Listening for {wait_s} s first: this meter may answer that late ...", err=True)
    rows = Rows(raw, watch, as_json)
    _watched(model, line, models_dir, rows, (times or WATCH_MOST) if watch else 1)
    raise click.exceptions.Exit(rows.code)


def _line(
    model: str, port: str, known: Answer, baud: int | None, framing: str | None, unit: int | None
) -> tuple[LineSpec, int]:
    """Line and unit: the model's factory setting where the call says nothing."""
    given = {"baud": baud, "framing": framing, "unit": unit}
    if is_modbus_tcp(port):
        no_serial_options(port, given)
        given = {"unit": unit}
    missing = [name for name, one in given.items() if one is None and known[name] is None]
    if missing:
        options = ", ".join(f"--{name}" for name in missing)
        raise click.UsageError(
            f"no source names the factory setting of {model}: give {options} as the meter's menu says, "
            "or find them with `voltill meter scan`"
        )
    if is_modbus_tcp(port):
        return LineSpec(port), unit or known["unit"]
    return LineSpec(port, baud or known["baud"], framing or known["framing"]), unit or known["unit"]


def _watched(
    model: str,
    line: tuple[LineSpec, int],
    models_dir: str | None,
    rows: Rows,
    times: int,
) -> None:
    import asyncio

    from agent.station.drivers import load

    everything = rows.raw or rows.as_json or not rows.watch
    looking = load("tool", "meter_watch")(
        model, *line, driver_env(), rows.take, models_dir=models_dir, everything=everything,
        times=times, every_ms=EVERY_MS,
    )  # fmt: skip
    try:
        asyncio.run(looking)
    except (DeviceUnavailable, ValueError) as error:
        raise fail(str(error)) from None
    except KeyboardInterrupt:
        click.echo("", err=True)


class Rows:
    """Prints each look as it comes; `code` is that of the worst."""

    def __init__(self, raw: bool, watch: bool, as_json: bool) -> None:
        self.raw, self.watch, self.as_json = raw, watch, as_json
        self.code = OK
        self._count = 0

    def take(self, answer: Answer) -> None:
        self.code = max(self.code, _code(answer))
        if not self.watch:
            _print_look(answer, self.raw, self.as_json)
        elif self.as_json:
            import json

            click.echo(json.dumps(answer, ensure_ascii=False))
        else:
            if self._count == 0:
                click.echo(_heading(answer))
            click.echo(_line_of(answer))
            if self.raw:
                _print_values(answer, True)
        self._count += 1
        sys.stdout.flush()  # somebody may be reading the pipe line by line


def _code(answer: Answer) -> int:
    if answer["state"] != "ok":
        return FAILED
    return WARNING if answer.get("strange") else OK


def _print_one(answer: Answer, raw: bool, as_json: bool) -> None:
    _print_look(answer, raw, as_json)
    raise click.exceptions.Exit(_code(answer))


def _print_look(answer: Answer, raw: bool, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    if answer["state"] == "ok":
        click.echo(_heading(answer))
        energy = kwh(answer["energy_import_wh"])
        click.echo(f"  energy {energy} kWh, power {answer['power_w']} W")
        _print_signing(answer.get("signing"))
    else:
        click.echo(f"{answer['model'] or 'meter'}: {answer['state']}: {answer['why']}", err=True)
        if answer["state"] == "no_answer" and "unit" in answer:
            click.echo(
                f"  tried {_where(answer)}; find its setting with `voltill meter scan "
                f"--port {answer['port']}`",
                err=True,
            )
    _print_values(answer, raw)
    for text in answer.get("strange", ()):
        click.echo(f"  look: {text}", err=True)


def _print_signing(signing: Answer | None) -> None:
    if signing is None:
        return
    if signing["why"]:
        click.echo(f"  signs its records; {signing['why']}", err=True)
        return
    click.echo(f"  signs its records; now: {signing['state']}")
    click.echo(f"  public key {signing['public_key'] or 'none'}")


def _heading(answer: Answer) -> str:
    where = f" ({_where(answer)})" if "unit" in answer else ""
    return f"{answer['model']}, serial {answer['serial'] or 'unknown'}{where}"


def _where(answer: Answer) -> str:
    if answer["baud"] is None:
        return f"{answer['port']}, unit {answer['unit']}"
    return f"{answer['port']}, {answer['baud']} {answer['framing']}, unit {answer['unit']}"


def _line_of(answer: Answer) -> str:
    if answer["state"] != "ok":
        return f"  {answer['state']}: {answer['why']}"
    return f"  {kwh(answer['energy_import_wh'])} kWh  {answer['power_w']:>7} W"


def _print_values(answer: Answer, raw: bool) -> None:
    rows = []
    for value in answer.get("values", ()):
        row = [f"  {value['name']}", _said(value)]
        rows.append([*row, value["raw"]] if raw else row)
    if rows:
        heading = ["  value", "reads", "registers"] if raw else ["  value", "reads"]
        click.echo(table([heading, *rows]))


command.add_command(scan)


# Decimals that a person can use; JSON has all of them.
_DECIMALS = {"V": 1, "A": 3, "W": 1, "Hz": 2, "VA": 1, "var": 1, "degC": 1}


def _said(value: Answer) -> str:
    if value["value"] is None:
        return f"- ({value['why']})"
    text, unit = value["value"], value["unit"]
    if unit == "Wh":
        text, unit = f"{Decimal(text) / 1000:.3f}", "kWh"
    elif unit in _DECIMALS:
        text = f"{Decimal(text):.{_DECIMALS[unit]}f}"
    return f"{text} {unit}".rstrip()


# --- models ---------------------------------------------------------------------------------------


@command.command("models")
@models_dir_option
@json_option
def models(models_dir: str | None, as_json: bool) -> None:
    """Every meter model, shipped or your own, and what is wrong with a file of yours. Exit code 2 when
    a file is wrong."""
    found = used("meter_catalogue", models_dir)
    if as_json:
        print_json(found)
    else:
        rows = [["model", "meters", "factory line", "unit", "signs", "file"]]
        rows += [
            [m["model"], f"{m['vendor']} {', '.join(m['models'])}", _factory(m),
             str(m["unit"] or "?"), m["signing"], m["file"]]
            for m in found["models"]
        ]  # fmt: skip
        click.echo(table(rows, frozenset({3})))
        for text in found["problems"]:
            click.echo(text, err=True)
    raise click.exceptions.Exit(FAILED if found["problems"] else OK)


def _factory(model: Answer) -> str:
    return f"{model['baud'] or '?'} {model['framing'] or '?'}"
