"""voltill withdraw: the outside hand that takes the release back when the agent died."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import (
    BAD_CONFIG,
    FAILED,
    OK,
    config_option,
    fail,
    json_option,
    print_json,
    state_option,
)
from agent.ports import DeviceUnavailable

if TYPE_CHECKING:
    from agent.settings.models import Settings

WITHDRAW_BOUND_S = 20.0  # a bus at 9600 baud, its quarantine, and three tries


@click.command()
@config_option
@state_option
@click.option(
    "--unless-handed-over",
    is_flag=True,
    help="As ExecStopPost: when the service ended well and hands over by replay, leave the release"
    " where the controller itself withdraws it in time.",
)
@json_option
def command(config: Path, state: Path, unless_handed_over: bool, as_json: bool) -> None:
    """Take every release back. Run by systemd when the service has died (a dead agent must not mean
    free energy); safe to run by hand while the service is stopped. Needs no secret, and where the
    configuration was broken meanwhile it takes the one the service last started with."""
    from agent.station import build
    from agent.station.logs import make_log

    settings = _settings(config, state)
    ended_well = os.environ.get("SERVICE_RESULT") == "success"
    hand_over = unless_handed_over and ended_well and settings.payment.on_sigterm == "hand_over"
    work = build.withdraw_all(settings, make_log("info"), WITHDRAW_BOUND_S, hand_over)
    try:
        failed, left = asyncio.run(work)
    except build.DriverRefused as error:
        raise fail(str(error), BAD_CONFIG) from None
    except DeviceUnavailable as error:  # a driver that is not installed
        raise fail(str(error)) from None
    done = [p.id for p in settings.evses if p.id not in failed and p.id not in left]
    _tell({"withdrawn": done, "failed": failed, "handed_over": left}, as_json)
    raise click.exceptions.Exit(FAILED if failed else OK)


def _settings(config: Path, state: Path) -> Settings:
    from agent.settings.load import load_settings
    from agent.settings.problems import SettingsRefused
    from agent.station.in_force import last_good

    try:
        return load_settings(config)
    except SettingsRefused as refused:
        kept = last_good(state)
        if kept is None:
            raise fail(str(refused), BAD_CONFIG) from None
        click.echo(f"{refused}\nusing the configuration the service last started with", err=True)
        return kept


def _tell(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for evse, why in found["failed"].items():
        click.echo(f"{evse}: {why}; check that energy is off", err=True)
    for evse in found["handed_over"]:
        click.echo(f"{evse}: handed over to the next start")
    for evse in found["withdrawn"]:
        click.echo(f"{evse}: withdrawn")
