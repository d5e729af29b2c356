"""voltill outbox list"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent.cli.common import from_ledger, json_option, print_json, state_option, table


@click.group()
def command() -> None:
    """Records the back end has not acknowledged."""


@command.command("list")
@state_option
@json_option
def list_(state: Path, as_json: bool) -> None:
    """What waits for the back end, and since when."""
    from agent.station import queries

    found: dict[str, Any] = from_ledger(state, "outbox", queries.outbox)
    if as_json:
        print_json(found)
        return
    click.echo(f"acknowledged through record {found['acked_through']}")
    if not found["unacked"]:
        click.echo("nothing waits")
        return
    click.echo(f"{found['unacked']} waiting, the oldest since {found['oldest']}")
    if found["parked"]:
        click.echo(f"{found['parked']} refused by the back end and parked")
    rows = [["RECORD", "TYPE", "SESSION"]]
    rows += [[str(r["seq"]), r["type"], r["session_id"] or "-"] for r in found["records"]]
    click.echo(table(rows, right=frozenset({0})))
