"""Codes: each has a meaning, somebody who can do something, and words for the driver."""

from typing import Any

import pytest
from support.zvt_bench import Bench, h

from agent.driver_ui import LANGUAGES, Display, screens
from agent.driver_ui.words import WORDS, say
from agent.ports import Need, Reason, Refused
from drivers.terminal.zvt.codes import (
    CODES,
    HOST_CODES,
    READY,
    STATUS,
    TEMPORARY,
    USABLE_STATUS,
    Fix,
    explain,
    need,
    refusal,
    state,
    status_text,
)
from drivers.terminal.zvt.progress import PROGRESS, progress_key

# Written from PA00P015, chapter on error messages, by hand: what must be there, whatever the tables say.
ERRORS = """64 65 66 67 68 6A 6B 6C 6E 6F 71 72 73 77 78 79 7A 7B 7C 7D 7E 83 85 89 9A 9B 9C A0 A1 A3 A5
B1 B2 B4 B5 B7 B8 BF C1 C2 C3 C4 C5 C6 C8 CB CC DC E0 E2 E3 E4 EA EC ED F0 FC FD FF"""
# 05 01, beside 00.
STATES = "51 62 9C 9D B1 B2 BF C0 C1 C2 C4 CC DC DF E0 E1 E2 E3 E4 F0 F6"
# Seen at a German host, and in card complete's paper.
HOSTS = "02 05 13 21 33 3D 41 3A" + " 37 38 36 50 04 29 2B 56 59"
# 04 FF; 40 more is the same with "remove card".
ON_THE_WAY = """00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F 12 13 15 17 18 1B 1C 1D 68 C8 C9 CA CC D2 D3
E0 E1 F1 F2 F3 FF"""


def codes(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


EVERY = {*codes(ERRORS), *codes(HOSTS)}


def test_the_tables_are_complete() -> None:
    assert set(codes(ERRORS)) <= set(CODES)
    assert set(codes(HOSTS)) == set(HOST_CODES)
    assert set(codes(STATES)) <= {*CODES, *STATUS}
    assert set(codes(ON_THE_WAY)) == set(PROGRESS)
    assert not set(CODES) & set(HOST_CODES)


@pytest.mark.parametrize("code", range(0x100))
def test_every_code_says_who_can_do_what(code: int) -> None:
    """All 256, so also those that no document names."""
    found = refusal(code)
    assert found.id == f"zvt.{code:02x}"
    assert isinstance(found.fix, Fix) and isinstance(found.reason, Reason)
    assert found.text and found.text == explain(code)[1]
    assert ("unknown error" in found.text) == (code not in CODES and not 0x01 <= code <= 0x63)
    for language in LANGUAGES:
        for key in (found.key, f"try_{found.key}"):
            words = WORDS[language][key]
            assert words.short.strip() and words.medium.strip()
    told = state(code)
    assert (told is None) == (code == READY)
    if told is not None:
        assert told.text == status_text(code)
        assert {told.key, f"try_{told.key}"} <= WORDS["en"].keys()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [20, 24, 40])
def test_the_drivers_words_fit_four_lines(language: str, width: int) -> None:
    display = Display(width, 4, language)
    for code in range(0x100):
        found = refusal(code)
        shown = screens.declined(display, found.reason, found.key)
        said = [say(language, key, width) for key in (found.key, f"try_{found.key}", "no_charge")]
        assert list(shown) == said, "one line each, none left out"


def test_a_key_is_used_where_it_says_more_and_there_are_words() -> None:
    display = Display(24, 4, "en")
    reason = Reason.CARD_NOT_ACCEPTED
    assert screens.declined(display, reason, "card_expired")[0] == "Card has expired"
    plain = screens.declined(display, reason)
    assert plain[0] == "Card not accepted"
    for key in ("", "nexo_777", "remove_card"):  # without words for what to try
        assert screens.declined(display, reason, key) == plain


def test_nobody_reads_that_his_card_is_to_be_kept() -> None:
    for code in (0x04, 0x29, 0x2B):
        assert refusal(code).key == "card_not_accepted"


def test_who_can_do_something() -> None:
    """What a driver at the charger reads, and whether the station goes on, depends on it."""
    for code in (0x13, 0x33, 0x3D, 0x41, 0xEC, 0xFC):
        assert refusal(code).reason is Reason.PIN_REQUIRED, hex(code)
        assert refusal(code).fix is Fix.DRIVER
    assert explain(0x71)[0] is Reason.AMOUNT
    assert explain(0x05)[0] is Reason.DECLINED
    assert explain(0xB8)[0] is Reason.UNKNOWN_HOLD
    assert {explain(code)[0] for code in TEMPORARY} == {Reason.TRY_LATER}
    blocked = codes("6A 6F 85 B1 B2 BF C0 C1 C2 C4 C6 CB CC DF E2 E3 E4 F0 F6 3A 56 59")
    assert {code for code in range(0x100) if refusal(code).fix is Fix.BLOCKED} == set(blocked)
    # Trouble with one card or one amount never closes the station.
    for code in range(0x100):
        if refusal(code).reason in (
            Reason.DECLINED,
            Reason.CARD_REMOVED,
            Reason.CARD_NOT_ACCEPTED,
            Reason.PIN_REQUIRED,
        ):
            assert refusal(code).fix is Fix.DRIVER, hex(code)
        if refusal(code).reason is Reason.TRY_LATER:
            assert refusal(code).fix is Fix.LATER, hex(code)


@pytest.mark.parametrize(
    ("code", "key"), [("78", "card_expired"), ("05", "declined"), ("f0", "day_closing")]
)
def test_a_refused_hold_carries_its_words(run: Any, code: str, key: str) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0622"] = [h("800000"), h(f"061e01{code}")]
        outcome = await b.hold()
        assert isinstance(outcome, Refused)
        assert (outcome.code, outcome.key) == (code, key)
        assert outcome.reason is refusal(int(code, 16)).reason

    run(case)


def test_what_the_terminal_said_on_the_way_is_in_the_log(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0622"] = [
            *(h("800000"), h("04ff010a"), h("04ff0104"), h("04ff010e"), h("061e016c"))
        ]
        assert isinstance(await b.hold(), Refused)
        entry = next(e for e in reversed(b.log) if e["event"] == "zvt_command")
        assert entry["said"] == ["present_card", "please_wait"]

    run(case)


def test_codes_nobody_knows() -> None:
    assert explain(0x07) == (Reason.DECLINED, "declined by the host (07)")
    assert refusal(0x07).fix is Fix.DRIVER
    assert explain(0xAB) == (Reason.TRY_LATER, "unknown error ab")
    assert refusal(0xAB).key == "not_possible"
    assert explain(0x00)[0] is Reason.TRY_LATER
    assert status_text(0x00) == "ready"
    assert status_text(0x05) == "status 05", "a host's code says nothing as a status"


def test_what_a_status_asks_for() -> None:
    named = {
        0x51: Need.INITIALISATION,
        0x62: Need.CLOCK,
        0x9C: Need.MAINTENANCE,
        0xC2: Need.DIAGNOSIS,
        0xE0: Need.MAINTENANCE,
        0xE4: Need.ACTIVATION,
        0xF0: Need.END_OF_DAY,
        0xDF: Need.OPERATOR,
        0xE2: Need.OPERATOR,
        0x07: Need.OPERATOR,
    }
    assert {code: need(code) for code in named} == named
    for code in range(0x100):
        assert (need(code) is None) == (code in USABLE_STATUS)


def test_what_is_shown_on_the_way() -> None:
    assert progress_key(0x0A) == "present_card"
    assert progress_key(0x0E) == progress_key(0x17) == "please_wait"
    assert {progress_key(code) for code in range(0x40, 0x5E)} == {"remove_card"}
    for code in range(0x100):
        assert progress_key(code) in WORDS["en"], hex(code)
    assert progress_key(0x99) == "please_wait"
    for code in (0x1B, 0x1C):
        assert progress_key(code) != "approved", "energy waits for the stored hold"
