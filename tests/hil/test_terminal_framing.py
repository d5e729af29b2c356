"""Blocks of the terminal simulator, against frames of public captures and of the transport rules."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.terminal_ecr import frame

from hil.terminal.framing import Block, Deframer, Found, Sign, apdu_size, block

# APDU -> whole frame; where only the end is given the frame starts with the doubled APDU.
FRAMES = [
    ("800000", "100280000010 03f51f"),
    ("849c00", "1002849c00 1003c341"),
    ("848300", "1002848300 1003918e"),
    ("060006123456ba0978", "1002060006123456ba0978 100324c3"),
    ("060006123456de0978", "1002060006123456de0978 10032c28"),
    ("050103123456", "1002050103123456 1003e043"),
    ("0501051234560304", "10020501051234560304 10033094"),
    ("06010a0400000001100049 0978", "100206010a040000000110100049 0978 1003f2ff"),
    ("06010704000000000190", "100206010704000000000190 10037657"),
    ("06220c04000000002500490978 1940", "100206220c04000000002500490978 1940 10030c6e"),
    ("06230387ffff", "100206230387ffff 1003fbbd"),
    (
        "06c00f051910fc0206081f1501d01f600107",
        "100206c00f05191010fc0206081f1501d01f600107 1003d7f4",
    ),
    ("06220c04000000002697490978 1940", "100206220c04000000002697490978 1940 10031010"),
    ("06220c04000000011740490978 1940", "100206220c04000000011740490978 1940 10031002"),
    ("065003123456", "1002065003123456 1003c4af"),
    ("06b000", "100206b000 100343f3"),
    ("060f00", "1002060f00 1003c633"),
    ("061e04b887ffff", "1002061e04b887ffff 1003b64b"),
    ("06220c04000000107591490978 1940", "100206220c040000001010 7591490978 1940 10031003"),
    ("06220c04000000089981490978 1940", "100206220c04000000089981490978 1940 10030615"),
]


@pytest.mark.parametrize(("apdu", "framed"), FRAMES)
def test_known_frames_both_ways(apdu: str, framed: str) -> None:
    assert block(bytes.fromhex(apdu)) == bytes.fromhex(framed)
    assert Deframer().feed(bytes.fromhex(framed)) == [Block(bytes.fromhex(apdu))]
    assert frame(bytes.fromhex(apdu)) == bytes.fromhex(framed)  # the tests' own ECR agrees


@given(st.binary(max_size=600), st.randoms())
def test_any_apdu_in_any_slices(data: bytes, rng: random.Random) -> None:
    length = bytes([len(data)]) if len(data) < 0xFF else b"\xff" + len(data).to_bytes(2, "little")
    apdu = b"\x04\x0f" + length + data
    stream = b"\x06" + block(apdu) + b"\x15"
    found: list[Found] = []
    deframer = Deframer()
    while stream:
        size = rng.randrange(1, 9)
        found += deframer.feed(stream[:size])
        stream = stream[size:]
    assert found == [Sign.ACK, Block(apdu), Sign.NAK]
    assert not deframer.busy


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_flipped_bit_is_never_a_block(data: bytes, draw: st.DataObject) -> None:
    apdu = b"\x04\x0f" + bytes([len(data)]) + data
    framed = bytearray(block(apdu))
    at = draw.draw(st.integers(0, len(framed) * 8 - 1))
    framed[at // 8] ^= 1 << (at % 8)
    deframer = Deframer()
    found = deframer.feed(bytes(framed)) + deframer.silence()
    # A flip that makes DLE DLE out of DLE ETX or the like may leave noise; a block it must not be.
    assert not [thing for thing in found if isinstance(thing, Block) and thing.apdu != apdu]
    assert Block(apdu) not in found


def test_bad_blocks_are_refused_once_and_only_after_silence() -> None:
    deframer = Deframer()
    good = block(bytes.fromhex("800000"))
    assert deframer.feed(good[:-1] + b"\x00" + b"garbage" * 9) == []
    assert deframer.busy
    assert deframer.silence() == [Sign.BAD]
    assert deframer.silence() == []
    assert deframer.feed(good) == [Block(bytes.fromhex("800000"))]


def test_a_good_block_in_the_wake_of_a_bad_one_is_drained_with_it() -> None:
    """The NAK that is due would be taken for the good one's."""
    deframer = Deframer()
    good = block(bytes.fromhex("800000"))
    assert deframer.feed(good[:-1] + b"\x00" + good) == []
    assert deframer.silence() == [Sign.BAD]


def test_dle_before_something_else_spoils_the_block() -> None:
    deframer = Deframer()
    assert deframer.feed(bytes.fromhex("1002 0600 1041")) == []
    assert deframer.silence() == [Sign.BAD]


def test_length_that_lies_spoils_the_block() -> None:
    deframer = Deframer()
    assert deframer.feed(block(bytes.fromhex("80000105aa"))) == []
    assert deframer.silence() == [Sign.BAD]


def test_half_a_block_ends_with_silence_and_a_lone_dle_is_nothing() -> None:
    deframer = Deframer()
    deframer.feed(bytes.fromhex("100206"))
    assert deframer.silence() == [Sign.BAD]
    deframer.feed(b"\x10")
    assert deframer.busy
    assert deframer.silence() == []


def test_extended_length() -> None:
    assert apdu_size(bytes.fromhex("06d3ff6104")) == 5 + 0x461
    assert apdu_size(bytes.fromhex("06d3ff61")) is None
    assert apdu_size(b"\x06") is None
