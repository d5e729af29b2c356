"""voltill schema"""

from __future__ import annotations

import click

from agent.cli.common import json_option, print_json


@click.command()
@click.option("--tariff", is_flag=True, help="The schema of tariff files instead.")
@json_option
def command(tariff: bool, as_json: bool) -> None:
    """Print the JSON Schema (draft 7) of station.yaml, for editors that complete and check."""
    from agent.settings.schema import json_schema, tariff_schema

    print_json(tariff_schema() if tariff else json_schema())
