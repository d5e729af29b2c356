"""What the commands share: options, output, and the way to the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.ledger import Ledger, LedgerError
from agent.station.control import ControlRefused, ask, control_path

OK, WARNING, FAILED, USAGE, BAD_CONFIG = 0, 1, 2, 64, 78
T = TypeVar("T")

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/voltill/station.yaml"),
    show_default=True,
    help="Configuration file.",
)
state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/voltill"),
    show_default=True,
    help="Where the ledger is.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def fail(text: str, code: int = FAILED) -> click.exceptions.Exit:
    """Print an error and return the exception to raise."""
    click.echo(text, err=True)
    return click.exceptions.Exit(code)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def from_ledger(state: Path, do: str, offline: Callable[[Ledger], T], **request: Any) -> T:
    """Ask the running service, or, when none runs, open the ledger itself."""
    try:
        return ask(control_path(state), do, **request)  # type: ignore[no-any-return]
    except ConnectionError:
        pass
    except ControlRefused as error:
        raise fail(str(error)) from None
    except PermissionError:
        raise fail(not_allowed(state)) from None
    try:
        ledger = Ledger.open(state / "ledger.db", None, create=False)
    except LedgerError as error:
        raise fail(str(error)) from None
    try:
        return offline(ledger)
    finally:
        ledger.close()


def not_allowed(state: Path) -> str:
    return f"STA-011: {control_path(state)} belongs to the service's user; run this as that user"


def kwh(energy_wh: int) -> str:
    """Whole Wh as kWh with all digits: "12.345"."""
    return f"{energy_wh // 1000}.{energy_wh % 1000:03d}"


def table(rows: list[list[str]], right: frozenset[int] = frozenset()) -> str:
    """Columns as wide as their widest cell; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
