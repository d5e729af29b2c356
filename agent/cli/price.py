"""voltill price"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path

import click

from agent.cli.common import BAD_CONFIG, config_option, fail, json_option, print_json
from agent.values import Money

MS_PER_MINUTE = 60_000


def _exact(name: str, text: str, unit: int) -> int:
    """`text` times `unit` as a whole number."""
    try:
        value = Decimal(text) * unit
    except InvalidOperation:
        raise click.UsageError(f"--{name} is {text!r}; expected a number such as 22.212") from None
    if not value.is_finite() or value < 0 or value != value.to_integral_value():
        raise click.UsageError(f"--{name} is {text}; expected 0 or more, in steps of 1/{unit}")
    return int(value)


@click.command()
@click.option("--tariff", type=click.Path(path_type=Path), help="Tariff file, else the station's.")
@click.option("--kwh", default="0", help="Energy in kWh, to the Wh: 22.212")
@click.option("--minutes", default="0", help="Minutes of charging.")
@click.option("--idle-minutes", default="0", help="Minutes plugged in without charging.")
@config_option
@json_option
def command(
    tariff: Path | None, kwh: str, minutes: str, idle_minutes: str, config: Path, as_json: bool
) -> None:
    """What a charge costs, with every part and the rounding. Only the total is billed."""
    from agent.cli.settings_file import settings_or_exit
    from agent.settings.load import load_tariff
    from agent.settings.problems import SettingsRefused
    from agent.tariff import Usage, price

    usage = Usage(
        energy_wh=_exact("kwh", kwh, 1000),
        charging_ms=_exact("minutes", minutes, MS_PER_MINUTE),
        idle_ms=_exact("idle-minutes", idle_minutes, MS_PER_MINUTE),
    )
    try:
        rules = load_tariff(tariff or settings_or_exit(config).tariff.file)
    except SettingsRefused as refused:
        raise fail(str(refused), BAD_CONFIG) from None
    found = price(rules, usage)
    if as_json:
        print_json(found.json())
        return
    bill = found.bill
    for line in bill.lines:
        amount = Money(line.amount_minor, bill.currency).text()
        unit_price = f"{line.unit_price:f}"
        click.echo(f"{line.key:<8} {line.quantity_text:>14} x {unit_price:<9} {amount:>9}")
    click.echo(f"{'TOTAL':<8} {bill.currency:>26} {bill.total.text():>9}")
    vat = Money(bill.vat_minor, bill.currency).text()
    click.echo(f"including {bill.vat_percent:f} % VAT {vat:>22}  (rounded {bill.rounding})")
