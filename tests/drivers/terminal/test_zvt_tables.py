"""The tables of bitmaps, messages and tags."""

import pytest

from drivers.terminal.zvt.codec import build, decode, encode, tag
from drivers.terminal.zvt.messages import MESSAGES
from drivers.terminal.zvt.tables import BMPS, BY_NAME, TLV_CARD, TLV_TEXT


def test_bitmaps_and_messages_have_one_name_each() -> None:
    assert len(BY_NAME) == len(BMPS)
    assert all(len(name) == 4 and name == name.lower() for name in MESSAGES)
    for name, (show, pack) in TLV_TEXT.items():
        assert pack(show(b"Gr\x81\xe1e") if name != "1f17" else "Grüße", 0), name


# --- card data ------------------------------------------------------------------------------------

# Tags of PA00P015 (chapter on TLV) and of EMV (book 3, annex A) that are card data, by what is dropped.
CARD_TAGS = {
    "1f08": "track1", "1f09": "track2", "1f0a": "track3", "1f1a": "pan", "1f2a": "holder",
    "1f5e": "iban", "5a": "pan", "56": "track1", "57": "track2", "58": "track3", "5f24": "expiry",
    "5f20": "holder", "9f0b": "holder", "9f1f": "track1", "9f20": "track2", "9f6b": "track2",
}  # fmt: skip


@pytest.mark.parametrize("name", CARD_TAGS)
def test_card_data_in_tags_is_dropped(name: str) -> None:
    inner = tag("60", tag(name, hex_value="4111111111111111"))
    apdu = decode(encode(build("040f", {"result": 0}, (inner, tag("4c", hex_value="08")))))
    assert apdu.dropped == (CARD_TAGS[name],)
    assert apdu.find(name) == []
    assert apdu.tag_text("4c") == "08"


def test_all_card_data_that_there_is() -> None:
    assert {name: card.value for name, card in TLV_CARD.items()} == CARD_TAGS
    numbers = {b.number: b.card.value for b in BMPS.values() if b.card is not None}
    assert numbers == {
        0x0E: "expiry", 0x22: "pan", 0x23: "track2", 0x24: "track3", 0x2D: "track1", 0x3A: "cvv",
    }  # fmt: skip
