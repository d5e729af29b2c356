"""voltill verify FILE|DIR|ZIP, or the station's own ledger"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import config_option, fail, from_ledger, json_option, print_json, state_option

if TYPE_CHECKING:
    from agent.trust.chain import Report


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True), required=False)
@click.option(
    "--trust",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public key (PEM) that the records must be signed with.",
)
@config_option
@state_option
@json_option
def command(
    path: Path | None, trust: tuple[Path, ...], config: Path, state: Path, as_json: bool
) -> None:
    """Verify signatures, numbers and hash chain of records.

    PATH is a file, folder or ZIP with records; without it the station's own ledger is verified.
    Without --trust the keys come from the data itself: that proves they were not changed since, not
    who signed them, and the exit code is 1."""
    from agent.trust.files import InputRefused, verify_path
    from agent.trust.keys import KeyRefused

    try:
        report = verify_path(path, trust) if path is not None else _own(state, config, trust)
    except (InputRefused, KeyRefused) as error:
        raise fail(str(error)) from None
    if as_json:
        print_json(report.json())
    else:
        _print(report.json())
    raise click.exceptions.Exit(report.exit_code)


def _own(state: Path, config: Path, trust: tuple[Path, ...]) -> Report:
    from agent.cli.settings_file import settings_or_exit
    from agent.station import queries
    from agent.station.key_source import record_key
    from agent.trust import known_keys
    from agent.trust.chain import verify_records
    from agent.trust.keys import KeySet

    texts = from_ledger(state, "records", queries.records)
    # What the station may no longer keep is no gap.
    partial = bool(from_ledger(state, "outbox", queries.outbox).get("forgotten"))
    if trust:
        return verify_records(texts, KeySet.load(trust), anchored=True, partial=partial)
    # Every key this station has signed with: it may have been changed, and its device may be away.
    keys = known_keys.load(state / known_keys.NAME)
    keys = keys or (record_key(settings_or_exit(config)).public(),)
    return verify_records(texts, KeySet(keys), anchored=False, partial=partial)


def _print(report: dict[str, Any]) -> None:
    for problem in report["problems"]:
        where = "" if problem["seq"] is None else f"record {problem['seq']}: "
        click.echo(f"{where}{problem['text']} [{problem['code']}]")
    for span in report["chains"]:
        click.echo(f"chain {span['chain']}: records {span['first_seq']} to {span['last_seq']}")
    verdict = "all good" if report["ok"] else f"{len(report['problems'])} problems"
    click.echo(f"{report['records']} records, {verdict}, keys {report['trust'].replace('_', '-')}")
    if report["ok"] and report["trust"] == "self_asserted":
        click.echo("Pass --trust with the station's published public key to prove who signed them.")
