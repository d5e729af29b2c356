"""voltill meter read"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from agent.cli.common import (
    FAILED,
    OK,
    fail,
    json_option,
    kwh,
    not_allowed,
    print_json,
    state_option,
)
from agent.ports import DeviceUnavailable


@click.group()
def command() -> None:
    """Read one meter."""


@command.command("read")
@click.option("--model", help="Name in the catalogue, such as eastron_sdm630.")
@click.option("--port", help="Serial port or pyserial URL.")
@click.option("--baud", default=9600, show_default=True)
@click.option("--framing", default="8N1", show_default=True)
@click.option("--unit", default=1, show_default=True, help="Modbus address.")
@click.option("--evse", help="Through the running service: the meter of this connector.")
@state_option
@json_option
def read(
    model: str | None,
    port: str | None,
    baud: int,
    framing: str,
    unit: int,
    evse: str | None,
    state: Path,
    as_json: bool,
) -> None:
    """Identity, register and power of a meter. Give --model and --port while the service is stopped,
    or --evse while it runs (it holds the port)."""
    if evse is not None:
        answer = _through_service(state, evse)
    elif model is not None and port is not None:
        answer = _directly(model, port, baud, framing, unit)
    else:
        raise click.UsageError("give --model and --port, or --evse while the service runs")
    if as_json:
        print_json(answer)
    elif answer["state"] == "ok":
        click.echo(f"{answer['model']}, serial {answer['serial'] or 'unknown'}")
        click.echo(f"  energy {kwh(answer['energy_import_wh'])} kWh, power {answer['power_w']} W")
    else:
        click.echo(f"{answer['model'] or 'meter'}: {answer['state']}: {answer['why']}", err=True)
    raise click.exceptions.Exit(OK if answer["state"] == "ok" else FAILED)


def _through_service(state: Path, evse: str) -> dict[str, Any]:
    from agent.station.control import ControlRefused, ask, control_path

    try:
        answer: dict[str, Any] = ask(control_path(state), "meter_read", evse=evse)
    except ConnectionError as error:
        raise fail(f"STA-013: {error}; with a stopped service use --model and --port") from None
    except ControlRefused as error:
        raise fail(str(error)) from None
    except PermissionError:
        raise fail(not_allowed(state)) from None
    return answer


def _directly(model: str, port: str, baud: int, framing: str, unit: int) -> dict[str, Any]:
    from agent.ports import DriverEnv, LineSpec
    from agent.station.clock import SystemClock
    from agent.station.drivers import load

    env = DriverEnv(SystemClock().boot_ms, lambda *_, **__: None)
    read_once = load("tool", "meter_read")
    line = LineSpec(port, baud, framing)
    try:
        answer: dict[str, Any] = asyncio.run(read_once(model, line, unit, env))
    except (DeviceUnavailable, ValueError) as error:
        raise fail(str(error)) from None  # ValueError: a model that is not known
    return answer
