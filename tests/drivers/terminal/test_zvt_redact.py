"""What is taken out of a message, and what stays: lengths, structure, amounts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.zvt_card_frames import apdu, bitmap, card_number, coded, told_digits
from support.zvt_card_frames import tlv as tlv_bytes

from drivers.terminal.zvt.codec import decode
from drivers.terminal.zvt.primitives import Malformed
from drivers.terminal.zvt.redact import redacted
from drivers.terminal.zvt.tables import BMPS, TLV_CARD, TLV_TEXT, Form

PAN = "4111111111111111"


def hidden(command: str, data: str, after: str | None = None) -> str:
    """The data of the redacted message, hexadecimal."""
    message = apdu(bytes.fromhex(command), bytes.fromhex(data))
    clean = redacted(message, after)
    assert len(clean) == len(message)
    assert clean[:3] == message[:3]
    return clean[3:].hex()


def tlv(tag: str, value: str) -> str:
    return f"{tag}{len(value) // 2:02x}{value}"


def box(tags: str) -> str:
    return tlv("06", tags)


@pytest.mark.parametrize(
    ("data", "clean"),
    [
        ("22f0f8" + PAN, "22f0f8" + "e" * 12 + "1111"),
        ("22f1f06725904499999999999f", "22f1f0" + "e" * 15 + "9999f"),
        ("22f0f8eeeeeeeeeeee8074", "22f0f8eeeeeeeeeeee8074"),
        ("22f0f0", "22f0f0"),
        ("23f0f4411111d2", "23f0f4eeeeeeee"),
        ("24f0f0f34111d2", "24f0f0f3eeeeee"),
        ("2df0f2425e", "2df0f2eeee"),
        ("0e2705", "0e9999"),
        ("3a0123", "3aeeee"),
        ("3d123456", "3deeeeee"),
        ("04000000005000490978870231", "04000000005000490978870231"),
        ("04411111111111", "04eeeeeeeeeeee"),
        ("2952523535" + "0b000975", "2952523535" + "0b000975"),
        ("3cf0f1f6" + b"Nr 4111 1111 1111 1111".hex()[:32], "3cf0f1f6" + b"Nr **** **** ***".hex()),
        (box(tlv("1f14", "a1b2c3")), box(tlv("1f14", "eeeeee"))),
        (box(tlv("4c", "08b3c880")), box(tlv("4c", "eeeeeeee"))),
        (box(tlv("60", tlv("5a", PAN))), box(tlv("60", tlv("5a", "e" * 12 + "1111")))),
        (box(tlv("1f50", PAN)), box(tlv("1f50", "e" * 16))),
        (box(tlv("43", "a0000003591010")), box(tlv("43", "a0000003591010"))),
        (box(tlv("1f0b", "000000010000")), box(tlv("1f0b", "000000010000"))),
        # What nobody knows, and what is cut off: numbers only.
        ("ff2700" + PAN, "ff" + "e" * 20),
        ("2700" + "ff" + PAN, "2700" + "ff" + "e" * 16),
        ("0b411111" + "1111111111", "0b" + "e" * 16),
        ("04000000005000" + "ff", "04" + "e" * 12 + "ff"),  # too much rather than too little
        ("04000000005000" + "2700" + "ff", "04000000005000" + "2700" + "ff"),
        ("22f0f9" + PAN, "22f0f" + "e" * 17),
        (box(tlv("ff40", "123456")), box(tlv("ff40", "eeeeee"))),
    ],
)
def test_fields(data: str, clean: str) -> None:
    assert hidden("040f", data) == clean


def test_totals_keep_their_amounts() -> None:
    sums = "".join(f"{n:02x}{n * 1000:012d}" for n in range(1, 8))
    data = "60f0f5f3" + "00010007" + sums
    assert hidden("040f", data) == data
    planted = data.replace(f"{2000:012d}", "411111111111")
    assert hidden("040f", planted) == data.replace(f"{2000:012d}", "e" * 12)


@pytest.mark.parametrize(
    ("command", "data", "after", "clean"),
    [
        ("0600", "123456de0978", None, "eeeeeede0978"),
        ("0650", "123456", None, "eeeeee"),
        ("0620", "1234560303", None, "eeeeee0303"),
        ("0501", "1234560302", None, "eeeeee0302"),
        ("06c0", "0f1910fc02", None, "0f1910fc02"),
        ("061e", "6f0978", None, "6f0978"),
        (
            "06d1",
            "00" + b"Karte 4111111111111111".hex(),
            None,
            "00" + (b"Karte " + b"*" * 16).hex(),
        ),
        ("06d8", "41111111111111", None, "e" * 14),
        ("060f", "f0f0f3" + b"1.2".hex() + "9c", "0501", "f0f0f3" + b"1.2".hex() + "9c"),
        ("060f", "f0" + "2952523535", "0501", "f0" + "2952523535"),
        ("060f", b"17FD1E3C 4111111111111".hex(), "0fa1", (b"17FD1E3C " + b"*" * 13).hex()),
        ("8000", "0d", None, "0d"),
        ("841e", "7d", None, "7d"),
        (
            "0813",
            box(tlv("e4", tlv("ff40", "123456"))),
            None,
            box(tlv("e4", tlv("ff40", "eeeeee"))),
        ),
    ],
)
def test_positional_parts(command: str, data: str, after: str | None, clean: str) -> None:
    assert hidden(command, data, after) == clean


def test_a_length_that_lies_hides_what_it_can() -> None:
    message = bytes.fromhex("040fff22f0f8" + PAN)
    assert redacted(message).hex() == "040fff22f0f" + "e" * 17


def _positions() -> list[str]:
    bitmaps = [f"bmp {n:02x}" for n, bmp in BMPS.items() if bmp.form is not Form.TLV]
    tags = [f"tag {t}" for t in (*TLV_CARD, *TLV_TEXT, "4c", "1f14", "1f45", "43", "1f50", "9f7f")]
    return [*bitmaps, *tags, "unknown bmp", "raw"]


@pytest.mark.parametrize("where", _positions())
def test_no_card_number_wherever_it_stands(where: str) -> None:
    """In each coding a terminal may have: packed, as text, in groups, as tracks."""
    rng = random.Random(where)
    for _ in range(40):
        pan = card_number(rng)
        value = coded(rng, pan)
        clean = redacted(_planted(where, value))
        assert not _shows(clean, pan), f"{where}, {pan}: {value.hex()} is {clean.hex()}"


def _planted(where: str, value: bytes) -> bytes:
    kind, _, name = where.partition(" ")
    if kind == "tag":
        return apdu(
            b"\x04\x0f", b"\x27\x00" + tlv_bytes(b"\x06", tlv_bytes(bytes.fromhex(name), value))
        )
    if kind == "bmp":
        return apdu(b"\x04\x0f", b"\x27\x00" + bitmap(int(name, 16), value))
    return (
        apdu(b"\x04\x0f", b"\xff" + value) if where == "unknown bmp" else apdu(b"\x06\xd8", value)
    )


def _shows(clean: bytes, pan: str) -> bool:
    """Packed digits that are all letters are left out: nobody can tell them from a word."""
    if told_digits(pan, clean.decode("latin-1")):
        return True
    piece = told_digits(pan, clean.hex())
    at = clean.hex().find(piece)
    return bool(piece) and not bytes.fromhex(clean.hex()[at // 2 * 2 :][:10]).isascii()


@given(st.binary(max_size=300), st.randoms(use_true_random=False))
def test_any_bytes_keep_their_length(data: bytes, rng: random.Random) -> None:
    command = rng.choice(["040f", "06d3", "06d1", "061e", "060f", "0600", "0813"])
    message = apdu(bytes.fromhex(command), data)
    after = rng.choice([None, "0501", "0fa1"])
    clean = redacted(message, after)
    assert len(clean) == len(message)
    assert redacted(clean, after) == clean
    try:
        before = decode(message, after)
    except Malformed:
        return
    # What could be read can be read afterwards, with the same fields.
    now = decode(clean, after)
    names = {item.number for item in before.items}
    assert names <= {item.number for item in now.items}
