"""The tables of bitmaps, messages and tags."""

import pytest

from drivers.terminal.zvt.codec import build, decode, encode, tag
from drivers.terminal.zvt.messages import MESSAGES
from drivers.terminal.zvt.tables import BMPS, BY_NAME, TLV_CARD, TLV_CONTAINERS, TLV_TEXT, Form


def test_bitmaps_and_messages_have_one_name_each() -> None:
    assert len(BY_NAME) == len(BMPS)
    assert all(len(name) == 4 and name == name.lower() for name in MESSAGES)
    for name, (show, pack) in TLV_TEXT.items():
        assert pack(show(b"Gr\x81\xe1e") if name != "1f17" else "Grüße", 0), name


# Every bitmap of PA00P015 (chapter on bitmaps), by the bytes it has or how their number is told.
DOCUMENT = {
    "1": "01 02 03 05 19 27 72 73 74 75 8a 8c a0 d0 d2 d3 e0 e9 ea f0 f9 fa fb fc fd",
    "2": "0d 0e 17 3a 49 87",
    "3": "0b 0c 37 3d 88 aa",
    "4": "29 70 71",
    "5": "ba",
    "6": "04",
    "8": "3b eb",
    "15": "2a",
    "LL": "22 23 2d 4c 8b a7 d1 e1 e2 e3 e4 e5 e6 e7 e8 f1 f2 f3 f4 f5 f6 f7 f8",
    "LLL": "24 2e 3c 60 92 9a af",
    "TLV": "06",
}
LISTED = [(form, number) for form, numbers in DOCUMENT.items() for number in numbers.split()]
# Tags of PA00P015 (chapter on TLV) that hold tags.
HOLDERS = "23 24 25 26 2d 2f 34 60 61 62 e1 e4 e6 e9"


@pytest.mark.parametrize(("form", "number"), LISTED)
def test_every_bitmap_of_the_document_has_its_length(form: str, number: str) -> None:
    bmp = BMPS[int(number, 16)]
    assert form == (str(bmp.size) if bmp.form is Form.FIXED else bmp.form.name)
    size = bmp.size if bmp.form is Form.FIXED else 2
    value = b"\x00" * size  # as a container: one tag without a value
    head = {Form.LL: b"\xf0\xf2", Form.LLL: b"\xf0\xf0\xf2", Form.TLV: b"\x02"}.get(bmp.form, b"")
    body = bytes([bmp.number]) + head + value + b"\x87\x02\x31"
    apdu = decode(b"\x04\x0f" + bytes([len(body)]) + body)
    assert apdu.text("receipt") == "0231", "what follows is read at its place"
    assert apdu.rest == b""


@pytest.mark.parametrize("name", HOLDERS.split())
def test_tags_that_hold_tags_are_looked_into(name: str) -> None:
    inner = tag(name, tag("07", raw=b"x"), tag("df01", raw=b"nobody knows it"), tag("07", raw=b"y"))
    apdu = decode(encode(build("040f", {"result": 0}, (tag("60", inner),))))
    assert apdu.values("07") == [b"x", b"y"]
    assert name in TLV_CONTAINERS, "where it holds no tags, that is an error"


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
