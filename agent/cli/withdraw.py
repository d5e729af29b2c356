"""voltill withdraw: the outside hand that takes the release back when the agent died."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from agent.cli.common import (
    BAD_CONFIG,
    FAILED,
    OK,
    config_option,
    fail,
    json_option,
    print_json,
)
from agent.ports import DeviceUnavailable

WITHDRAW_BOUND_S = 20.0  # a bus at 9600 baud, its quarantine, and three tries


@click.command()
@config_option
@click.option(
    "--unless-handed-over",
    is_flag=True,
    help="As ExecStopPost: leave the release when the service ended well and hands over by replay.",
)
@json_option
def command(config: Path, unless_handed_over: bool, as_json: bool) -> None:
    """Take every release back. Run by systemd when the service has died (a dead agent must not mean
    free energy); safe to run by hand while the service is stopped. Needs no secret."""
    from agent.cli.settings_file import settings_or_exit
    from agent.station import build
    from agent.station.logs import make_log

    settings = settings_or_exit(config)
    ended_well = os.environ.get("SERVICE_RESULT") == "success"
    if unless_handed_over and ended_well and settings.payment.on_sigterm == "hand_over":
        _tell({"withdrawn": [], "failed": {}, "handed_over": True}, as_json)
        return
    work = build.withdraw_all(settings, make_log("info"), WITHDRAW_BOUND_S)
    try:
        failed = asyncio.run(work)
    except build.DriverRefused as error:
        raise fail(str(error), BAD_CONFIG) from None
    except DeviceUnavailable as error:  # a driver that is not installed
        raise fail(str(error)) from None
    done = [point.id for point in settings.evses if point.id not in failed]
    _tell({"withdrawn": done, "failed": failed, "handed_over": False}, as_json)
    raise click.exceptions.Exit(FAILED if failed else OK)


def _tell(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for evse, why in found["failed"].items():
        click.echo(f"{evse}: {why}; check that energy is off", err=True)
    for evse in found["withdrawn"]:
        click.echo(f"{evse}: withdrawn")
