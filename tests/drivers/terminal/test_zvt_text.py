"""Texts in the terminal's character set: nothing becomes a "?", and what is said stays said."""

import re
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.driver_ui import Display, screens
from agent.driver_ui.words import WORDS
from agent.tariff import EnergyPrice, PriceBasis, Rounding, Tariff
from agent.values import Money
from drivers.terminal.zvt.profile_schema import SETTINGS
from drivers.terminal.zvt.text import FALLBACK, displayable, fit, width

CHARSETS = ("cp437", "latin-1", "utf-8")


@pytest.mark.parametrize(
    ("text", "cp437", "latin_1"),
    [
        ("0,59 €/kWh", "0,59 EUR/kWh", "0,59 EUR/kWh"),
        ("Grüße, ÄÖÜ", "Grüße, ÄÖÜ", "Grüße, ÄÖÜ"),
        ("u\u0308ber", "über", "über"),
        ("„Łódź” — čaj…", '"Lódz" - caj...', '"Lódz" - caj...'),
        ("Kaffee\tund\nTee", "Kaffee und Tee", "Kaffee und Tee"),
        ("50,00\u00a0EUR", "50,00 EUR", "50,00 EUR"),
        ("日本 ok", " ok", " ok"),
        ("ﬁn ½ ¾", "fin ½ 3/4", "fin ½ ¾"),
        ("Ø 3 × 16 A", "OE 3 x 16 A", "Ø 3 × 16 A"),
        ("5 ≤ 6 ≠ 7", "5 ≤ 6 <> 7", "5 <= 6 <> 7"),
        ("Smørrebrød", "Smoerrebroed", "Smørrebrød"),
        ("a\u200bb\u202ec\ud800d\x7fe", "abcd e", "abcd e"),
        ("Ob's geht?", "Ob's geht?", "Ob's geht?"),
    ],
)
def test_what_a_display_can_show(text: str, cp437: str, latin_1: str) -> None:
    assert displayable(text) == displayable(text, "cp437") == cp437
    assert displayable(text, "latin-1") == latin_1


def test_utf_8_keeps_what_is_a_sign() -> None:
    assert displayable("€ „Łódź” Ø", "utf-8") == "€ „Łódź” Ø"


@pytest.mark.parametrize("charset", CHARSETS)
def test_every_character_there_is(charset: str) -> None:
    """The whole basic plane, surrogates and all: always encodable, and no question mark from nowhere."""
    for number in range(0x1_0000):
        character = chr(number)
        shown = displayable(character, charset)
        shown.encode(charset)
        asked = "?" in unicodedata.normalize("NFKD", character)
        assert asked or "?" not in shown, hex(number)
        assert not any(unicodedata.category(c).startswith("C") for c in shown), hex(number)
        assert displayable(shown, charset) == shown, "once is enough"


@given(text=st.text(max_size=80), charset=st.sampled_from(CHARSETS))
def test_any_text(text: str, charset: str) -> None:
    shown = displayable(text, charset)
    shown.encode(charset)
    assert displayable(shown, charset) == shown


def test_the_table_is_written_in_what_every_set_has() -> None:
    for sign, written in FALLBACK.items():
        assert len(sign) == 1 and not sign.isascii()
        assert written.isascii() and written.isprintable() and "?" not in written, sign
        assert any(displayable(sign, charset) == written for charset in CHARSETS), sign


@pytest.mark.parametrize("charset", CHARSETS)
@pytest.mark.parametrize("language", WORDS)
def test_our_own_words_arrive_as_they_are(language: str, charset: str) -> None:
    for key, words in WORDS[language].items():
        for text in words:
            assert displayable(text, charset) == text, key


def test_prices_name_their_currency_in_every_set() -> None:
    tariff = Tariff(
        "t",
        "EUR",
        PriceBasis.INCLUDING_VAT,
        Decimal("19"),
        Rounding.HALF_UP,
        energy=(EnergyPrice(Decimal("0.49")),),
    )
    for language in WORDS:
        shown = screens.idle(Display(24, 8, language), tariff, Money(5000, "EUR"))
        for charset in CHARSETS:
            assert fit(shown, 24, charset) == list(shown)
            assert "EUR" in " ".join(shown)


# --- widths ---------------------------------------------------------------------------------------


def test_the_width_is_that_of_what_is_written() -> None:
    assert width(displayable("0,59 €/kWh")) == 12
    assert width(displayable("0,59 €/kWh", "utf-8")) == 10
    assert width(displayable("日本 ok", "utf-8")) == 7
    assert width("e\u0301") == 1


@pytest.mark.parametrize(
    ("line", "fitted"),
    [
        ("0,59 € je kWh, 1 € maximal", ["0,59 EUR je kWh, 1", "EUR maximal"]),
        ("0,59 € je kWh, 12 € max", ["0,59 EUR je kWh, 12", "EUR max"]),
        ("Laden", ["Laden"]),
        ("", [""]),
        ("a" * 45, ["a" * 20, "a" * 20, "a" * 5]),
        ("Ladesäulenbetreiber€€", ["LadesäulenbetreiberE", "UREUR"]),
    ],
)
def test_what_grows_too_wide_goes_on_below(line: str, fitted: list[str]) -> None:
    assert fit([line], 20) == fitted
    assert fit(["oben", line], 20) == ["oben", *fitted]


@given(
    lines=st.lists(st.text(max_size=60), max_size=4),
    columns=st.integers(2, 64),
    charset=st.sampled_from(CHARSETS),
)
def test_no_line_is_wider_than_the_display(lines: list[str], columns: int, charset: str) -> None:
    fitted = fit(lines, columns, charset)
    assert all(width(line) <= columns for line in fitted)

    def said(texts: list[str]) -> str:
        return re.sub(" ", "", "".join(texts))

    assert said(fitted) == said([displayable(line, charset) for line in lines]), "nothing is cut"


def test_profiles_know_the_same_sets() -> None:
    for charset in CHARSETS:
        assert not isinstance(SETTINGS["charset"].check(charset), str)
