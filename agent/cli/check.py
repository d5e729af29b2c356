"""voltill check"""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import BAD_CONFIG, OK, WARNING, config_option, json_option, print_json


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@config_option
@json_option
def command(file: Path | None, config: Path, as_json: bool) -> None:
    """Check a configuration, the files it names, and meter model files of your own
    (/etc/voltill/meters). All errors at once; starts nothing."""
    from agent.settings.load import check
    from agent.settings.problems import Severity, errors, report
    from agent.station.drivers import known
    from agent.station.model_files import check_model_files

    path = file or config
    problems = check(path, known=known()) + check_model_files(path)
    if as_json:
        print_json({"ok": not errors(problems), "problems": [p.json() for p in problems]})
    elif problems:
        click.echo(report(problems), err=True)
    else:
        click.echo(f"{path}: all good")
    if errors(problems):
        raise click.exceptions.Exit(BAD_CONFIG)
    warned = any(p.severity is Severity.WARNING for p in problems)
    raise click.exceptions.Exit(WARNING if warned else OK)
