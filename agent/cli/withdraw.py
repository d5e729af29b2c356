"""voltill withdraw: the outside hand that takes the release back when the agent died."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from agent.cli.common import FAILED, OK, config_option

WITHDRAW_BOUND_S = 20.0  # a bus at 9600 baud, its quarantine, and three tries


@click.command()
@config_option
@click.option(
    "--unless-handed-over",
    is_flag=True,
    help="As ExecStopPost: leave the release when the service ended well and hands over by replay.",
)
def command(config: Path, unless_handed_over: bool) -> None:
    """Take every release back. Run by systemd when the service has died (a dead agent must not mean
    free energy); safe to run by hand while the service is stopped."""
    from agent.cli.settings_file import settings_or_exit
    from agent.station import build
    from agent.station.logs import make_log

    settings = settings_or_exit(config)
    ended_well = os.environ.get("SERVICE_RESULT") == "success"
    if unless_handed_over and ended_well and settings.payment.on_sigterm == "hand_over":
        return
    try:
        failed = asyncio.run(
            asyncio.wait_for(build.withdraw_all(settings, make_log("info")), WITHDRAW_BOUND_S)
        )
    except TimeoutError:
        click.echo("EVS-003: the bus did not answer in time; check that energy is off", err=True)
        raise click.exceptions.Exit(FAILED) from None
    for evse, why in failed.items():
        click.echo(f"{evse}: {why}", err=True)
    raise click.exceptions.Exit(FAILED if failed else OK)
