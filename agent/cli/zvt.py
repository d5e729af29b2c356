"""voltill zvt decode"""

from __future__ import annotations

import json
from typing import Any

import click

from agent.cli.common import FAILED, json_option, print_json


@click.group()
def command() -> None:
    """Decode ZVT messages."""


@command.command("decode")
@click.argument("hex_text", metavar="HEX")
@click.option("--after", metavar="CMD", help="The command this completion answers, such as 0501.")
@json_option
def decode(hex_text: str, after: str | None, as_json: bool) -> None:
    """Decode one APDU or serial frame given in hex. Card data is dropped, and said to be dropped."""
    from agent.station.drivers import load

    answer: dict[str, Any] = load("tool", "zvt_decode")(hex_text, after)
    if "error" in answer:
        click.echo(json.dumps(answer))
        raise click.exceptions.Exit(FAILED)
    if as_json:
        print_json(answer)
        return
    click.echo(f"{answer['command']}  {answer['name']}")
    for key, value in answer["fields"].items():
        shown = json.dumps(value) if isinstance(value, dict | list) else value
        click.echo(f"  {key:<18} {shown}")
    if answer["dropped"]:
        click.echo(f"  dropped            {', '.join(answer['dropped'])} (card data)")
