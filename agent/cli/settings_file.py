"""The configuration as commands load it: every problem on stderr, exit code 78."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import BAD_CONFIG, fail, print_json

if TYPE_CHECKING:
    from agent.settings.load import Loaded
    from agent.settings.models import Settings


def settings_or_exit(config: Path) -> Settings:
    """The settings, without looking at the files they name."""
    from agent.settings.load import load_settings
    from agent.settings.problems import SettingsRefused

    try:
        return load_settings(config)
    except SettingsRefused as refused:
        raise fail(str(refused), BAD_CONFIG) from None


def station_or_exit(config: Path, as_json: bool = False) -> Loaded:
    """Settings and tariff, everything checked as for a start; warnings go to stderr."""
    from agent.settings.load import load_station
    from agent.settings.problems import SettingsRefused, report
    from agent.station.drivers import known

    try:
        loaded = load_station(config, known=known())
    except SettingsRefused as refused:
        if as_json:
            print_json({"ok": False, "problems": [p.json() for p in refused.problems]})
        text = f"{refused}\nNothing was started. `voltill check --config {config}` checks again."
        raise fail(text, BAD_CONFIG) from None
    if loaded.warnings:
        click.echo(report(loaded.warnings), err=True)
    return loaded
