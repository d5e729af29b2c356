from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.values import Money
from agent.values.money import CURRENCIES, currency_of_numeric

currencies = st.sampled_from(sorted(CURRENCIES))
amounts = st.integers(-(10**12) + 1, 10**12 - 1)


@pytest.mark.parametrize("wrong", [1.0, 0.0, "5", None, Decimal(5), True, False])
def test_money_is_made_of_an_integer_only(wrong: object) -> None:
    with pytest.raises(TypeError, match="integer"):
        Money(wrong, "EUR")  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize("wrong", ["", "eur", "XXX", "978", "EURO"])
def test_an_unknown_currency_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="currency"):
        Money(1, wrong)
    with pytest.raises(ValueError, match="currency"):
        Money.parse("1.00", wrong)


def test_no_sum_difference_or_comparison_mixes_currencies() -> None:
    euro, franc = Money(500, "EUR"), Money(700, "CHF")
    for mix in (
        lambda: euro + franc,
        lambda: euro - franc,
        lambda: euro < franc,
        lambda: euro <= franc,
        lambda: euro > franc,
        lambda: euro >= franc,
    ):
        with pytest.raises(ValueError, match="different currencies"):
            mix()
    assert euro != Money(500, "CHF")


def test_money_never_becomes_a_float() -> None:
    for spoil in (lambda: Money(1, "EUR") * 0.5, lambda: Money(1, "EUR") / 2):  # type: ignore[operator]
        with pytest.raises(TypeError):
            spoil()
    with pytest.raises(TypeError):
        float(Money(1, "EUR"))  # type: ignore[arg-type]  # the point of the test


def test_money_is_a_value() -> None:
    assert Money(5, "EUR") == Money(5, "EUR")
    assert len({Money(5, "EUR"), Money(5, "EUR"), Money(5, "CHF")}) == 2
    with pytest.raises(AttributeError):
        Money(5, "EUR").amount_minor = 6  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (5000, "EUR", "50.00"),
        (5, "EUR", "0.05"),
        (0, "EUR", "0.00"),
        (-1205, "EUR", "-12.05"),
        (10, "NOK", "0.10"),
        (500, "ISK", "500"),
        (0, "ISK", "0"),
        (99_999_999_999, "CHF", "999999999.99"),
    ],
)
def test_text_has_the_digits_of_the_currency(amount_minor: int, currency: str, text: str) -> None:
    money = Money(amount_minor, currency)
    assert money.text() == text
    assert str(money) == f"{text} {currency}"
    assert Money.parse(text, currency) == money


@given(amounts, currencies)
def test_parse_reads_what_text_writes(amount_minor: int, currency: str) -> None:
    money = Money(amount_minor, currency)
    assert Money.parse(money.text(), currency) == money


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("50.001", "EUR"),
        ("0.005", "EUR"),
        ("1.5", "ISK"),
        (
            "50.0000000000000000000000000000000001",
            "EUR",
        ),  # more digits than Decimal's context keeps
        ("1e3", "EUR"),
        ("1_000", "EUR"),
        ("NaN", "EUR"),
        ("Infinity", "EUR"),
        ("-Infinity", "EUR"),
        ("", "EUR"),
        (" 5", "EUR"),
        ("5\n", "EUR"),
        ("5,00", "EUR"),
        (".50", "EUR"),
        ("5.", "EUR"),
        ("+5", "EUR"),
        ("٥.٠٠", "EUR"),
        ("0x10", "EUR"),
        ("1234567890123", "EUR"),
    ],
)
def test_inexact_or_odd_text_is_refused(text: str, currency: str) -> None:
    with pytest.raises(ValueError, match=r"is no amount|more digits"):
        Money.parse(text, currency)


def test_trailing_zeros_are_not_more_digits() -> None:
    assert Money.parse("50.000", "EUR") == Money(5000, "EUR")
    assert Money.parse("50", "EUR") == Money(5000, "EUR")
    assert Money.parse("500.0", "ISK") == Money(500, "ISK")


@given(st.text(max_size=12))
def test_parse_raises_nothing_but_value_error(text: str) -> None:
    try:
        money = Money.parse(text, "EUR")
    except ValueError:
        return
    assert Decimal(text) * 100 == money.amount_minor


@given(amounts, amounts, currencies)
def test_sums_are_exact_and_ordered_as_their_amounts(a: int, b: int, currency: str) -> None:
    x, y = Money(a, currency), Money(b, currency)
    assert (x + y) - y == x
    assert (x < y, x <= y, x > y, x >= y) == (a < b, a <= b, a > b, a >= b)
    assert bool(x) is (a != 0)


def test_numeric_codes_are_unique_and_lead_back() -> None:
    for name, (numeric, _) in CURRENCIES.items():
        assert currency_of_numeric(numeric) == name
        assert Money(1, name).numeric_currency == numeric
    assert currency_of_numeric("000") is None
