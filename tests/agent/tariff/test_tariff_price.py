"""price() against an oracle that counts in whole numbers over one common denominator."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tariff import (
    Bill,
    EnergyPrice,
    FixedPrice,
    LineKey,
    PriceBasis,
    Rounding,
    Tariff,
    TariffInvalid,
    TimePrice,
    Usage,
    expected_price,
    price,
    session_price,
)
from agent.tariff.price import decimal_text, round_minor


def tariff(
    *,
    energy: str | None = "0.49",
    minute: str | None = None,
    idle: str | None = None,
    fixed: str | None = None,
    vat: str = "19",
    basis: PriceBasis = PriceBasis.INCLUDING_VAT,
    rounding: Rounding = Rounding.HALF_UP,
    currency: str = "EUR",
) -> Tariff:
    return Tariff(
        "t",
        currency,
        basis,
        Decimal(vat),
        rounding,
        energy=() if energy is None else (EnergyPrice(Decimal(energy)),),
        charging_time=() if minute is None else (TimePrice(Decimal(minute)),),
        idle_time=() if idle is None else (TimePrice(Decimal(idle)),),
        fixed=() if fixed is None else (FixedPrice(Decimal(fixed)),),
    )


money_text = st.decimals(
    min_value=0, max_value=Decimal("99.999999"), places=6, allow_nan=False, allow_infinity=False
).map(lambda d: f"{d:f}")
vat_text = st.integers(0, 100_000).map(lambda n: f"{Decimal(n).scaleb(-3):f}")
usages = st.builds(
    Usage,
    energy_wh=st.integers(0, 10_000_000),
    charging_ms=st.integers(0, 10**9),
    idle_ms=st.integers(0, 10**9),
)


def millionths(text: str) -> int:
    return int(Decimal(text).scaleb(6))


@given(
    energy=money_text,
    minute=money_text,
    idle=money_text,
    fixed=money_text,
    vat=vat_text,
    usage=usages,
    basis=st.sampled_from(PriceBasis),
)
def test_total_agrees_with_a_whole_number_oracle(
    energy: str, minute: str, idle: str, fixed: str, vat: str, usage: Usage, basis: PriceBasis
) -> None:
    found = price(
        tariff(energy=energy, minute=minute, idle=idle, fixed=fixed, vat=vat, basis=basis), usage
    )
    # Everything in 1 / (10^6 * 60000) of the major unit, before tax.
    units = 60 * usage.energy_wh * millionths(energy)
    units += usage.charging_ms * millionths(minute) + usage.idle_ms * millionths(idle)
    units += 60_000 * millionths(fixed)
    whole = 60_000 * 10**6
    v = int(Decimal(vat).scaleb(3))  # thousandths of a percent
    if basis is PriceBasis.INCLUDING_VAT:
        gross, net = (units, whole), (units * 100_000, whole * (100_000 + v))
    else:
        gross, net = (units * (100_000 + v), whole * 100_000), (units, whole)
    assert found.exact.incl == Fraction(*gross)
    assert found.exact.excl == Fraction(*net)
    cents, rest = divmod(100 * gross[0], gross[1])
    assert found.total_minor == cents + (2 * rest >= gross[1])
    assert found.bill.net_minor + found.bill.vat_minor == found.total_minor
    assert 0 <= found.bill.net_minor <= found.total_minor


@given(usage=usages, more=usages, energy=money_text, minute=money_text, idle=money_text)
def test_more_usage_never_costs_less(
    usage: Usage, more: Usage, energy: str, minute: str, idle: str
) -> None:
    t = tariff(energy=energy, minute=minute, idle=idle)
    larger = Usage(
        usage.energy_wh + more.energy_wh,
        usage.charging_ms + more.charging_ms,
        usage.idle_ms + more.idle_ms,
    )
    assert price(t, larger).total_minor >= price(t, usage).total_minor
    # Splitting a session never changes the exact sum of what was used.
    assert price(t, larger).exact == price(t, usage).exact + price(t, more).exact


def test_json_has_the_documented_shape() -> None:
    t = tariff(energy="0.50", fixed="0.5", vat="10", basis=PriceBasis.EXCLUDING_VAT)
    assert price(t, Usage(10_000)).json() == {
        "currency": "EUR",
        "exact": {
            "total": {"excl": "5.5", "incl": "6.05"},
            "energy": {"excl": "5", "incl": "5.5"},
            "time": {"excl": "0", "incl": "0"},
            "parking": {"excl": "0", "incl": "0"},
            "fixed": {"excl": "0.5", "incl": "0.55"},
            "reservation": {"excl": "0", "incl": "0"},
        },
        "rounded": {
            "total": {"excl": "5.50", "incl": "6.05"},
            "energy": {"excl": "5.00", "incl": "5.50"},
            "time": {"excl": "0.00", "incl": "0.00"},
            "parking": {"excl": "0.00", "incl": "0.00"},
            "fixed": {"excl": "0.50", "incl": "0.55"},
            "reservation": {"excl": "0.00", "incl": "0.00"},
        },
        "rounding": "half_up",
    }


@given(usage=usages, energy=money_text, minute=money_text, basis=st.sampled_from(PriceBasis))
def test_json_holds_no_float_and_the_billed_total(
    usage: Usage, energy: str, minute: str, basis: PriceBasis
) -> None:
    found = price(tariff(energy=energy, minute=minute, basis=basis), usage)
    text = json.dumps(found.json())

    def no_float(written: str) -> None:
        raise AssertionError(f"a float in the price: {written}")

    data = json.loads(text, parse_float=no_float)
    billed = Decimal(data["rounded"]["total"]["incl"])
    assert billed.scaleb(2) == found.total_minor
    assert abs(Decimal(data["exact"]["total"]["incl"]) - billed) <= Decimal("0.005")


@given(usage=usages, energy=money_text, fixed=money_text)
def test_a_session_pays_the_price_or_for_no_energy_nothing(
    usage: Usage, energy: str, fixed: str
) -> None:
    each = tariff(energy=energy, minute="0.05", idle="0.10", fixed=fixed)
    found = session_price(each, usage)
    assert found == price(each, usage) or not usage.energy_wh
    nothing = session_price(each, Usage(0, usage.charging_ms, usage.idle_ms))
    assert nothing.total_minor == nothing.net_minor == 0
    assert {line.amount_minor for line in nothing.bill.lines} == {0}
    assert nothing.json()["exact"]["total"] == {"excl": "0", "incl": "0"}  # type: ignore[index]
    # The times that were seen stay to be read.
    assert [line.quantity for line in nothing.bill.lines][1:3] == [usage.charging_ms, usage.idle_ms]
    assert session_price(each, Usage(1)).total_minor == price(each, Usage(1)).total_minor


def test_rounded_once_at_the_end_not_line_by_line() -> None:
    # Three lines of 0.004 each are 0.012: one cent, where rounding each line would give nothing.
    t = tariff(energy="0.004", minute="0.004", fixed="0.004")
    found = price(t, Usage(1000, charging_ms=60_000))
    assert [line.amount_minor for line in found.lines] == [0, 0, 0]
    assert found.total_minor == 1
    assert found.bill.rounding_minor == 1


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rounding.HALF_UP, [0, 1, 1, 2, 3]),
        (Rounding.HALF_EVEN, [0, 0, 1, 2, 2]),
        (Rounding.DOWN, [0, 0, 0, 1, 2]),
    ],
)
def test_rounding_rules(rule: Rounding, expected: list[int]) -> None:
    values = [Fraction(49, 100), Fraction(1, 2), Fraction(51, 100), Fraction(3, 2), Fraction(5, 2)]
    assert [round_minor(v, rule) for v in values] == expected


def test_net_of_a_gross_tariff_is_taken_out_of_the_billed_amount() -> None:
    # Exactly 1.195 gross: billed 1.20, whose 19 percent tax is 0.19. The exact net would round to 1.00.
    bill = price(tariff(energy="1.195"), Usage(1000)).bill
    assert (bill.total_minor, bill.net_minor, bill.vat_minor) == (120, 101, 19)


def test_currency_without_minor_digits() -> None:
    found = price(tariff(energy="65.5", currency="ISK", vat="24"), Usage(1501))
    assert found.total_minor == 98  # 98.3155
    assert found.json()["rounded"]["total"] == {"excl": "79", "incl": "98"}  # type: ignore[index]


def test_lines_show_prices_with_tax_and_billed_quantities() -> None:
    t = tariff(energy="0.40", minute="0.1", idle="0.05", fixed="1", basis=PriceBasis.EXCLUDING_VAT)
    lines = price(t, Usage(22_212, charging_ms=2_712_345, idle_ms=0)).lines
    assert [(line.key, line.quantity_text, str(line.unit_price.normalize())) for line in lines] == [
        (LineKey.ENERGY, "22.212 kWh", "0.476"),
        (LineKey.TIME, "45:12.345 min", "0.119"),
        (LineKey.PARKING, "0:00 min", "0.0595"),
        (LineKey.FIXED, "1", "1.19"),
    ]


@given(usage=usages, energy=money_text, fixed=money_text)
def test_bill_survives_json(usage: Usage, energy: str, fixed: str) -> None:
    bill = price(tariff(energy=energy, fixed=fixed), usage).bill
    assert Bill.from_json(json.loads(json.dumps(bill.to_json()))) == bill


def test_a_bill_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="do not make"):
        Bill("EUR", (), 1, 1, 3, Decimal(19), "half_up")


@given(numerator=st.integers(0, 10**18), twos=st.integers(0, 9), fives=st.integers(0, 9))
def test_finite_decimals_are_written_exactly(numerator: int, twos: int, fives: int) -> None:
    value = Fraction(numerator, 2**twos * 5**fives)
    text = decimal_text(value)
    assert Fraction(text) == value
    assert "e" not in text.lower()
    assert not (text.endswith("0") and "." in text)


def test_endless_decimals_are_cut_at_a_stated_digit() -> None:
    assert decimal_text(Fraction(1, 3)) == "0.333333333333"
    assert decimal_text(Fraction(2, 3)) == "0.666666666667"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"energy": "-0.1"}, "energy[0].price_kwh"),
        ({"energy": "0.1234567"}, "energy[0].price_kwh"),
        ({"energy": "1000001"}, "energy[0].price_kwh"),
        ({"minute": "NaN"}, "charging_time[0].price_minute"),
        ({"idle": "Infinity"}, "idle_time[0].price_minute"),
        ({"fixed": "-1"}, "fixed[0].price"),
        ({"vat": "101"}, "vat_percent"),
        ({"currency": "EUX"}, "currency"),
        ({"energy": None}, "energy"),
    ],
)
def test_a_tariff_that_cannot_be_evaluated_is_refused(
    change: dict[str, str | None], where: str
) -> None:
    with pytest.raises(TariffInvalid) as e:
        tariff(**change)  # type: ignore[arg-type]
    assert e.value.where == where


def test_a_second_element_is_refused_not_ignored() -> None:
    with pytest.raises(TariffInvalid, match="conditions"):
        Tariff(
            "t",
            "EUR",
            PriceBasis.INCLUDING_VAT,
            Decimal(19),
            Rounding.HALF_UP,
            energy=(EnergyPrice(Decimal("0.4")), EnergyPrice(Decimal("0.5"))),
        )


def test_usage_is_whole_and_not_negative() -> None:
    with pytest.raises(ValueError, match="never negative"):
        Usage(-1)
    with pytest.raises(TypeError, match="integer"):
        Usage(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="integer"):
        Usage(True)


# --- what is expected -------------------------------------------------------------------------------


@given(power_w=st.integers(1, 400_000), minutes=st.integers(1, 1440), energy=money_text)
def test_the_expected_price_is_never_less_than_the_charge_and_less_than_a_unit_more(
    power_w: int, minutes: int, energy: str
) -> None:
    each = tariff(energy=energy, minute="0.05", idle="9.00", fixed="0.35")
    wh = power_w * minutes // 60
    least = price(each, Usage(wh, minutes * 60_000)).total_minor
    found = expected_price(each, power_w, duration_ms=minutes * 60_000)
    assert found.currency == "EUR" and found.amount_minor % 100 == 0
    one_wh = price(each, Usage(wh + 1, minutes * 60_000)).total_minor
    assert least <= found.amount_minor < one_wh + 100


def test_energy_and_duration_mean_the_same_at_full_power() -> None:
    each = tariff(minute="0.05", fixed="0.35")
    assert expected_price(each, 22_000, energy_wh=22_000) == expected_price(
        each, 22_000, duration_ms=3_600_000
    )
    # 22 x 0.49 + 60 x 0.05 + 0.35 = 14.13
    assert expected_price(each, 22_000, energy_wh=22_000).amount_minor == 1500


def test_currencies_without_minor_units_are_rounded_to_a_unit_too() -> None:
    krona = tariff(energy="30.5", currency="ISK")
    assert expected_price(krona, 10_000, energy_wh=3_001).amount_minor == 92


@pytest.mark.parametrize(
    ("power_w", "given_"),
    [
        (0, {"energy_wh": 1}),
        (1, {}),
        (1, {"energy_wh": 0}),
        (1, {"energy_wh": 1, "duration_ms": 1}),
    ],
)
def test_nothing_is_expected_of_nothing(power_w: int, given_: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"expected|more than zero"):
        expected_price(tariff(), power_w, **given_)
