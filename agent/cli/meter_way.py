"""The two ways to a meter: through the running service, which has its port, or straight to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import click

from agent.cli.common import fail, not_allowed
from agent.ports import DriverEnv
from agent.station.control import ControlRefused, ask, control_path

Answer: TypeAlias = dict[str, Any]
FRAMINGS = ("8N1", "8E1", "8O1", "8N2")
models_dir_option = click.option(
    "--models-dir",
    type=click.Path(exists=True, file_okay=False),
    help="Folder with model files of your own.  [default: /etc/voltill/meters]",
)


def through_service(state: Path, evse: str) -> Answer:
    """The reading of a connector's meter by the service that runs."""
    try:
        answer: Answer = ask(control_path(state), "meter_read", evse=evse)
    except ConnectionError as error:
        raise fail(f"STA-013: {error}; with a stopped service use --model and --port") from None
    except ControlRefused as error:
        raise fail(str(error)) from None
    except PermissionError:
        raise fail(not_allowed(state)) from None
    return answer


def is_held(state: Path, config: Path, port: str) -> None:
    """Fails where a service runs and its configuration has this port as a bus. The lock of a serial line
    keeps a second program off as well, but cannot say whose it is; a gateway on a network has no lock."""
    from agent.settings.load import load_settings
    from agent.settings.problems import SettingsRefused

    try:
        ask(control_path(state), "status")
        settings = load_settings(config)
    except (ConnectionError, PermissionError, ControlRefused, SettingsRefused, OSError):
        return  # no service, or none whose buses could be known: the port's own lock decides
    for name, bus in settings.buses.items():
        if _same(bus.port, port):
            evses = [point.id for point in settings.evses if point.meter.bus == name]
            raise fail(
                f"MTR-016: {port} belongs to the running service as bus {name}; read through it with "
                f"--evse {' or '.join(evses)} in place of --port, or stop the service first"
            )


def no_serial_options(port: str, given: Mapping[str, object]) -> None:
    """Refuses speed and framing for a port that is no serial line. `given`: option -> value or None."""
    said = [f"--{name}" for name in ("baud", "framing") if given[name] is not None]
    if said:
        raise click.UsageError(
            f"{' and '.join(said)} say nothing on {port}, which is no serial line: leave them out. A "
            "serial server that passes RTU frames on is tcp://HOST:PORT"
        )


def _same(one: str, other: str) -> bool:
    if "://" in one or "://" in other:
        return one == other
    return Path(one).resolve() == Path(other).resolve()


def driver_env() -> DriverEnv:
    """For a driver without a station: the clock, and nobody who wants its log."""
    from agent.station.clock import SystemClock

    return DriverEnv(SystemClock().boot_ms, lambda *_, **__: None)


def used(tool: str, *given: Any) -> Any:
    """The answer of a driver's tool; a model that is not known or wrong is told and ends the command."""
    from agent.ports import DeviceUnavailable
    from agent.station.drivers import load

    try:
        return load("tool", tool)(*given)
    except (DeviceUnavailable, ValueError) as error:
        raise fail(str(error)) from None
