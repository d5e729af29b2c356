"""voltill keys new | show"""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import fail, json_option, print_json

path_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def command() -> None:
    """Make and show keys."""


@command.command("new")
@path_argument
@json_option
def new(file: Path, as_json: bool) -> None:
    """Make a record key (P-256) in FILE, readable by its owner only. Never overwrites."""
    from agent.trust.keys import KeyRefused, RecordKey

    key = RecordKey.generate()
    try:
        key.save(file)
    except (KeyRefused, OSError) as error:
        raise fail(str(error)) from None
    _show(key.public.pem(), key.kid, as_json, f"{file} written")


@command.command("show")
@path_argument
@json_option
def show(file: Path, as_json: bool) -> None:
    """The public half of the record key in FILE: give it to whoever verifies."""
    from agent.trust.keys import KeyRefused, RecordKey

    try:
        key = RecordKey.load(file)
    except KeyRefused as error:
        raise fail(str(error)) from None
    _show(key.public.pem(), key.kid, as_json, "")


def _show(pem: str, kid: str, as_json: bool, first: str) -> None:
    if as_json:
        print_json({"kid": kid, "public_key": pem})
        return
    if first:
        click.echo(first)
    click.echo(f"key id {kid}")
    click.echo(pem.rstrip())
