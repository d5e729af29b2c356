"""The tables: codes, and texts for the display."""

import pytest

from agent.ports import Reason
from drivers.terminal.zvt.codes import CODES, HOST_CODES, STATUS, TEMPORARY, explain, status_text
from drivers.terminal.zvt.tables import BMPS, BY_NAME, MESSAGES, TLV_TEXT
from drivers.terminal.zvt.text import displayable

# PA00P015, chapter on error messages, and the codes of 05 01.
ERRORS = """64 65 66 67 68 6A 6B 6C 6E 6F 71 72 73 77 78 79 7A 7B 7C 7D 7E 83 85 89 9A 9B 9C A0 A1 A3 A5
B1 B2 B4 B5 B7 B8 BF C1 C2 C3 C4 C5 C6 C8 CB CC DC E0 E2 E3 E4 EA EC ED F0 FC FD FF"""
STATES = "00 51 62 9C 9D B1 B2 BF C0 C1 C2 C4 CC DC DF E0 E1 E2 E3 E4 F0 F6"
HOSTS = "02 05 13 21 33 3D 41 3A 37 38 36 50 04 29 2B 56 59"


@pytest.mark.parametrize("code", ERRORS.split())
def test_every_error_has_its_meaning(code: str) -> None:
    assert int(code, 16) in CODES
    assert "unknown" not in explain(int(code, 16))[1] or code in ("7A", "B8")


@pytest.mark.parametrize("code", STATES.split())
def test_every_state_has_its_text(code: str) -> None:
    assert not status_text(int(code, 16)).startswith("status")


@pytest.mark.parametrize("code", HOSTS.split())
def test_host_codes_that_were_met(code: str) -> None:
    assert int(code, 16) in HOST_CODES


def test_codes_nobody_knows() -> None:
    assert explain(0x07) == (Reason.DECLINED, "declined by the host (07)")
    assert explain(0xAB) == (Reason.TRY_LATER, "unknown error ab")
    assert explain(0x00)[0] is Reason.TRY_LATER
    assert status_text(0x05) == "status 05"


def test_who_can_do_something() -> None:
    """What a driver at the charger reads depends on it."""
    for code in (0x13, 0x33, 0x3D, 0x41, 0xEC, 0xFC):
        assert explain(code)[0] is Reason.PIN_REQUIRED, hex(code)
    assert explain(0x71)[0] is Reason.AMOUNT
    assert explain(0x05)[0] is Reason.DECLINED
    assert explain(0xB8)[0] is Reason.UNKNOWN_HOLD
    assert {explain(code)[0] for code in TEMPORARY} == {Reason.TRY_LATER}
    assert not set(CODES) & set(HOST_CODES)
    assert set(STATUS) == {0x00, 0x51, 0x62, 0x9D}


def test_bitmaps_and_messages_have_one_name_each() -> None:
    assert len(BY_NAME) == len(BMPS)
    assert all(len(name) == 4 and name == name.lower() for name in MESSAGES)
    for tag, (show, pack) in TLV_TEXT.items():
        assert pack(show(b"Gr\x81\xe1e") if tag != "1f17" else "Grüße", 0), tag


# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0,59 €/kWh", "0,59 EUR/kWh"),
        ("Grüße", "Grüße"),
        ("„Łódź” — čaj…", '"Lódz" - caj...'),
        ("Kaffee\tund\nTee", "Kaffee und Tee"),
        ("日本 ok", " ok"),
        ("ﬁn ½", "fin ½"),
    ],
)
def test_what_the_display_can_show(text: str, shown: str) -> None:
    seen = displayable(text)
    seen.encode("cp437")
    assert "?" not in seen
    assert seen == shown
