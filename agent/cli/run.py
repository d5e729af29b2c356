"""voltill run"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import click

from agent.cli.common import BAD_CONFIG, FAILED, config_option, fail, json_option, state_option

# By then a start is over, and what it made stays for good.
STARTED_S = 5.0


@click.command()
@config_option
@state_option
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@json_option
def command(config: Path, state: Path, log_level: str, as_json: bool) -> None:
    """Run the station in the foreground. Logs are JSON lines on stderr; --json concerns what is wrong
    with the configuration."""
    gc.disable()  # a start makes classes and drops next to nothing: looking for garbage is a tenth of it
    from agent.cli.settings_file import station_or_exit
    from agent.ledger import LedgerError
    from agent.ports import DeviceUnavailable
    from agent.settings.secrets import SecretUnavailable
    from agent.station import in_force
    from agent.station.build import DriverRefused
    from agent.station.control import ControlUnavailable
    from agent.station.logs import make_log
    from agent.station.station import Paths, Station
    from agent.trust.keys import KeyRefused

    loaded = station_or_exit(config, as_json)
    log = make_log(log_level)
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        in_force.keep(config, state)
    except OSError as error:
        raise fail(
            f"STA-014: {state}: {error.strerror}; expected a folder this user may write;"
            " give another one with --state, or run as the service's user"
        ) from None

    async def main() -> int:
        asyncio.get_running_loop().call_later(STARTED_S, _collect_from_now)
        return await Station(loaded.settings, loaded.tariff, Paths(state), log).run()

    try:
        code = asyncio.run(main())
    except DriverRefused as error:
        raise fail(f"{error}\nNothing was started.", BAD_CONFIG) from None
    except (
        ControlUnavailable,
        DeviceUnavailable,
        KeyRefused,
        LedgerError,
        SecretUnavailable,
    ) as error:
        text = str(error)
        log("start_failed", level="error", id=text.partition(":")[0], why=text)
        raise click.exceptions.Exit(FAILED) from None
    raise click.exceptions.Exit(code)


def _collect_from_now() -> None:
    """What the start left behind goes. What it made is not looked at again: later collections are short,
    and hold up no answer to a terminal."""
    gc.collect()
    gc.freeze()
    gc.enable()
