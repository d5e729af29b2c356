"""Every screen in every language fits every display, in characters a terminal has."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.driver_ui import LANGUAGES, Display, screens
from agent.driver_ui.words import MEDIUM_COLUMNS, SHORT_COLUMNS, WORDS
from agent.ports import Reason
from agent.tariff import EnergyPrice, FixedPrice, PriceBasis, Rounding, Tariff, TimePrice
from agent.values import Money

# The longest a value gets in the field: a HUF hold, a week, an international number.
LONGEST = {
    "price": "0.4900 EUR",
    "amount": "50.00 EUR",
    "percent": "19",
    "energy": "99999.999 kWh",
    "time": "167:59:59",
    "seconds": "3600",
    "last4": "1234",
    "code": "7F3K9QX2AB",
    "name": "E1234567",
    "phone": "+49 30 1234567",
}
# Shown as paragraphs or receipt rows, which go on to the next line.
FLOWING = {"hold_notice"}


def eur(minor: int) -> Money:
    return Money(minor, "EUR")


def tariff(
    energy: str = "0.49",
    minute: str = "0.05",
    idle: str = "0.10",
    fixed: str = "0.35",
    basis: PriceBasis = PriceBasis.INCLUDING_VAT,
    currency: str = "EUR",
) -> Tariff:
    return Tariff(
        "t",
        currency,
        basis,
        Decimal("19"),
        Rounding.HALF_UP,
        (EnergyPrice(Decimal(energy)),),
        (TimePrice(Decimal(minute)),),
        (TimePrice(Decimal(idle)),),
        (FixedPrice(Decimal(fixed)),),
    )


SCREENS: dict[str, Callable[[Display, Money], tuple[str, ...]]] = {
    "idle": lambda d, m: screens.idle(d, tariff(), m),
    "idle_plug": lambda d, m: screens.idle(d, tariff(), m, plug_first=True),
    "idle_where": lambda d, m: screens.idle(d, tariff(), m, connector="E12"),
    "approved_where": lambda d, m: screens.approved(d, connector="E12", plug_again=True),
    "authorising_where": lambda d, m: screens.authorising(d, m, "E12"),
    "starting_where": lambda d, m: screens.starting(d, "E12"),
    "wait_check": lambda d, m: screens.refused_tap(d, "wait_check"),
    "hold_notice": screens.hold_notice,
    "authorising": screens.authorising,
    "approved": lambda d, m: screens.approved(d, 3600),
    "starting": lambda d, m: screens.starting(d),
    "charging": lambda d, m: screens.charging(
        d, energy_wh=99_999_999, duration_ms=604_799_999, cost=m, offline=True, limit_near=True
    ),
    "paused": lambda d, m: screens.charging(
        d, energy_wh=0, duration_ms=0, cost=m, paused=True, stop_by_tap=False
    ),
    "stopping": lambda d, m: screens.stopping(d),
    "done": lambda d, m: screens.done(
        d,
        total=m,
        energy_wh=99_999_999,
        duration_ms=604_799_999,
        released=m,
        card_last4="1234",
        receipt_code="7F3K9QX2AB",
        plugged=True,
    ),
    "not_started": lambda d, m: screens.not_started(d),
    "unclear": lambda d, m: screens.payment_unclear(d),
    "busy": lambda d, m: screens.refused_tap(d, "busy"),
    "occupied": lambda d, m: screens.refused_tap(d, "occupied"),
    "other_card": lambda d, m: screens.refused_tap(d, "other_card"),
    "fault": lambda d, m: screens.fault(d, code="MTR-003", pays=m, helpline="+49 30 1234567"),
    "estop": lambda d, m: screens.fault(d, code="EVS-002", estop=True),
    "out_of_order": lambda d, m: screens.out_of_order(d, code="TRM-001", helpline="+49 30 123"),
} | {
    f"declined_{reason}": (lambda d, m, reason=reason: screens.declined(d, reason))
    for reason in [*Reason, "something new"]
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogue_fits_and_is_encodable(language: str) -> None:
    for key, (short, medium) in WORDS[language].items():
        for text, limit in ((short, SHORT_COLUMNS), (medium, MEDIUM_COLUMNS)):
            written = text.format(**LONGEST)
            written.encode("cp437")
            if key not in FLOWING and not key.startswith("r_"):
                assert len(written) <= limit, (key, written)


def test_languages_have_the_same_texts_with_the_same_places() -> None:
    def places(text: str) -> set[str]:
        return {part.split("}")[0] for part in text.split("{")[1:]}

    for language in LANGUAGES:
        assert WORDS[language].keys() == WORDS["en"].keys()
        for key, words in WORDS[language].items():
            assert places(words.short) == places(WORDS["en"][key].short), (language, key)
            assert places(words.medium) == places(WORDS["en"][key].medium), (language, key)


@given(
    name=st.sampled_from(sorted(SCREENS)),
    width=st.integers(screens.MIN_WIDTH, screens.MAX_WIDTH),
    lines=st.integers(screens.MIN_LINES, screens.MAX_LINES),
    language=st.sampled_from(LANGUAGES),
    money=st.sampled_from(
        [eur(0), eur(5000), eur(999_999), Money(99_999_900, "HUF"), Money(12_345_678, "ISK")]
    ),
)
def test_every_screen_fits_every_display(
    name: str, width: int, lines: int, language: str, money: Money
) -> None:
    shown = SCREENS[name](Display(width, lines, language), money)
    assert 1 <= len(shown) <= lines
    for line in shown:
        assert line and line == line.rstrip()
        assert len(line) <= width
        line.encode("cp437")
        assert "{" not in line


def test_prices_stand_in_legal_order_above_the_start() -> None:
    shown = screens.idle(Display(20), tariff(), eur(5000))
    assert shown == (
        "0.49 EUR/kWh",
        "0.05 EUR/min",
        "Idle 0.10 EUR/min",
        "Fee 0.35 EUR",
        "incl. VAT 19%",
        "Hold 50.00 EUR",
        "Tap card to start",
    )


def test_a_small_display_drops_the_rest_before_any_price() -> None:
    shown = screens.idle(Display(20, lines=5), tariff(), eur(5000))
    assert shown == (
        "0.49 EUR/kWh",
        "0.05 EUR/min",
        "Idle 0.10 EUR/min",
        "Fee 0.35 EUR",
        "Tap card to start",
    )


def test_drivers_always_see_prices_with_tax() -> None:
    net = tariff(energy="0.40", basis=PriceBasis.EXCLUDING_VAT)
    assert screens.idle(Display(20), net, eur(5000))[0] == "0.476 EUR/kWh"
    assert screens.idle(Display(20, language="de"), net, eur(5000))[0] == "0,476 EUR/kWh"


def test_free_is_said_once() -> None:
    free = tariff("0", "0", "0", "0")
    assert screens.price_rows(Display(20), free) == ["Free of charge"]


def test_running_screen() -> None:
    shown = screens.charging(
        Display(24), energy_wh=22_212, duration_ms=2_712_999, cost=eur(1123), offline=True
    )
    assert shown == (
        "Charging",
        "22.212 kWh",
        "Time 45:12",
        "Cost 11.23 EUR",
        "Same card to stop",
        "Receipt comes later",
    )


def test_a_fault_says_what_is_paid() -> None:
    assert "No charge was made" in screens.fault(Display(24), code="MTR-003")
    assert "You pay 3.20 EUR" in screens.fault(Display(24), code="MTR-003", pays=eur(320))
    assert "No charge was made" in screens.fault(Display(24), code="MTR-003", pays=eur(0))


def test_every_reason_says_what_to_try() -> None:
    for reason in Reason:
        shown = screens.declined(Display(40), reason)
        assert len(shown) == 3, reason
        assert shown[-1] == "No charge was made"


def test_amount_and_currency_stay_together() -> None:
    for width in range(16, 50):
        for line in screens.hold_notice(Display(width), eur(5000)):
            assert ("50.00" in line) == ("EUR" in line), line


@pytest.mark.parametrize("bad", [{"width": 15}, {"width": 65}, {"lines": 3}, {"language": "fr"}])
def test_a_display_nobody_has_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Display(**bad)
