"""The slave's framing and function codes, against bytes from the specification and random cuts."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from hil.charger.faults import Fault, spoil
from hil.charger.rtu import (
    ModbusException,
    Request,
    RequestFramer,
    answer,
    crc16,
    frame,
    frame_silence_ns,
)

SILENCE = 4_000_000


class Memory:
    """A device with sixteen coils and sixteen words."""

    def __init__(self) -> None:
        self.bits = [n % 3 == 0 for n in range(16)]
        self.words = [n * 257 for n in range(16)]

    def read_bits(self, function: int, address: int, count: int) -> Sequence[bool]:
        return self._slice(self.bits, address, count)

    def read_words(self, function: int, address: int, count: int) -> Sequence[int]:
        return self._slice(self.words, address, count)

    def write_bits(self, address: int, values: Sequence[bool]) -> None:
        self.bits[address : address + len(values)] = values

    def write_words(self, address: int, values: Sequence[int]) -> None:
        self.words[address : address + len(values)] = values

    @staticmethod
    def _slice(table: list, address: int, count: int) -> list:
        if address + count > len(table):
            raise ModbusException(2)
        return table[address : address + count]


# Known good: the CRC example of "Modbus over serial line" V1.02 ch. 6.2.2, and a common first frame.
@pytest.mark.parametrize(
    ("body", "crc"), [("0207", "4112"), ("010300000001", "840a"), ("110300760003", "e681")]
)
def test_crc_of_known_frames(body: str, crc: str) -> None:
    assert crc16(bytes.fromhex(body)).hex() == crc


@pytest.mark.parametrize(
    ("pdu", "reply"),
    [
        ("0100000008", "010149"),
        ("02000f0001", "020101"),
        ("0300010002", "030401010202"),
        ("04000f0001", "04020f0f"),
        ("050002ff00", "050002ff00"),
        ("0600051234", "0600051234"),
        ("0f00000005011f", "0f00000005"),
        ("10000000020400010002", "1000000002"),
        ("0300000000", "8303"),  # no quantity
        ("030000007e", "8303"),  # 126 registers
        ("03000f0002", "8302"),  # beyond the table
        ("03ffff0002", "8302"),  # beyond the address space
        ("0500021234", "8503"),  # neither on nor off
        ("10000000020300010002", "9003"),  # byte count does not fit
        ("2b0e0100", "ab01"),  # function not there
    ],
)
def test_function_codes_and_exceptions(pdu: str, reply: str) -> None:
    assert answer(Memory(), bytes.fromhex(pdu)).hex() == reply


def test_writes_take_effect_bit_by_bit() -> None:
    memory = Memory()
    answer(memory, bytes.fromhex("0f0000000a02ff01"))
    assert memory.bits[:10] == [True] * 9 + [False]
    answer(memory, bytes.fromhex("050000" + "0000"))
    assert memory.bits[0] is False
    answer(memory, bytes.fromhex("1000030002040a0b0c0d"))
    assert memory.words[3:5] == [0x0A0B, 0x0C0D]


def requests() -> list[Request]:
    pdus = ["0400480002", "0300010002", "0f4e20000101ff", "1000120002040000" + "0000", "054e20ff00"]
    return [Request(1 + n % 2, bytes.fromhex(pdu)) for n, pdu in enumerate(pdus)]


def test_frames_cut_and_glued_at_random_come_out_whole() -> None:
    for seed in range(300):
        chance = random.Random(seed)
        framer = RequestFramer(SILENCE)
        line = b"".join(frame(r.unit, r.pdu) for r in requests())
        seen, at, now = [], 0, 0
        while at < len(line):
            step = chance.randint(1, 20)
            now += chance.randint(0, SILENCE - 1)  # a pause, never the end of a frame
            seen += framer.feed(line[at : at + step], now)
            at += step
        assert seen == requests(), f"seed {seed}"


def test_a_spoilt_frame_takes_everything_up_to_the_silence_with_it() -> None:
    framer = RequestFramer(SILENCE)
    good = frame(1, bytes.fromhex("0400480002"))
    bad = good[:-1] + bytes((good[-1] ^ 1,))
    assert framer.feed(bad + good, 0) == []
    assert framer.bad_frames == 1
    assert framer.feed(good, SILENCE - 1) == []  # still within the same burst
    later = 2 * SILENCE - 1
    assert framer.next_deadline_ns() == later
    assert [r.pdu[0] for r in framer.feed(good, later)] == [4]


def test_noise_before_a_frame_spoils_it_and_a_silence_heals() -> None:
    framer = RequestFramer(SILENCE)
    good = frame(1, bytes.fromhex("0400480002"))
    assert framer.feed(b"\x00" + good, 0) == []
    assert framer.tick(SILENCE) == []
    assert len(framer.feed(good, SILENCE + 1)) == 1


def test_a_request_of_unknown_length_ends_at_the_silence() -> None:
    framer = RequestFramer(SILENCE)
    assert framer.feed(frame(1, bytes.fromhex("2b0e0100")), 0) == []
    assert framer.tick(SILENCE - 1) == []
    assert framer.tick(SILENCE) == [Request(1, bytes.fromhex("2b0e0100"))]


def test_a_torn_frame_is_counted_and_forgotten() -> None:
    framer = RequestFramer(SILENCE)
    framer.feed(frame(1, bytes.fromhex("0400480002"))[:5], 0)
    assert framer.tick(SILENCE) == []
    assert framer.bad_frames == 1
    assert framer.next_deadline_ns() is None


def test_silence_is_three_and_a_half_characters_but_fixed_on_fast_lines() -> None:
    assert frame_silence_ns(9600) == 4_010_416
    assert frame_silence_ns(38400) == 1_750_000


def test_every_reply_fault_spoils_just_what_its_name_says() -> None:
    pdu = bytes.fromhex("04044482000d")
    good = frame(1, pdu)
    assert spoil(None, 1, pdu).data == good
    assert spoil(Fault("timeout", 1), 1, pdu).data == b""
    late = spoil(Fault("late", 1, ms=700), 1, pdu)
    assert (late.data, late.delay_ms) == (good, 700)
    assert spoil(Fault("crc", 1), 1, pdu).data[:-2] == good[:-2]
    assert spoil(Fault("crc", 1), 1, pdu).data != good
    assert spoil(Fault("exception", 1, code=6), 1, pdu).data == frame(1, bytes.fromhex("8406"))
    assert spoil(Fault("wrong_unit", 1), 1, pdu).data == frame(2, pdu)
    assert spoil(Fault("wrong_function", 1), 1, pdu).data == frame(1, b"\x03" + pdu[1:])
    assert spoil(Fault("wrong_count", 1), 1, pdu).data == frame(1, bytes.fromhex("04024482"))


@pytest.mark.parametrize(
    ("pdu", "hit"),
    [("0400480002", True), ("040000004c", True), ("0400000048", False), ("064e200001", False)],
)
def test_a_fault_can_be_narrowed_to_one_register(pdu: str, hit: bool) -> None:
    request = Request(1, bytes.fromhex(pdu))
    assert Fault("late", 1, address=0x48).matches(request) is hit
    assert Fault("late", 1, function=4).matches(request) is (pdu[:2] == "04")
