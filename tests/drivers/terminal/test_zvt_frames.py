"""The serial link by itself, against frames that are known from outside."""

import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.terminal.zvt.frames import (
    APDU_BYTES_MAX,
    SENDS_MAX,
    T1_MS,
    T2_MS,
    Delivered,
    Link,
    LinkEvent,
    Received,
    SendFailed,
    crc,
    frame,
)

ACK, NAK = b"\x06", b"\x15"


def h(text: str) -> bytes:
    return bytes.fromhex(text)


OK, REFUSAL, COMPLETION, COMMAND = h("800000"), h("848300"), h("060f00"), h("06b000")
PROGRESS, RESULT = h("04ff010e"), h("040f022700")

# APDU and whole frame: public vectors, an acknowledged frame of a real terminal, and, from ED5B on, results
# of the algorithm that those agree on.
FRAMES = {
    "800000": "100280000010 03f51f",
    "849c00": "1002849c001003c341",
    "848300": "10028483001003918e",
    "060006123456ba0978": "1002060006123456ba0978100324c3",
    "060006123456de0978": "1002060006123456de097810032c28",
    "050103123456": "10020501031234561003e043",
    "0501051234560304": "1002050105123456030410033094",
    "06010a040000000110004909 78": "100206010a04000000011010004909781003f2ff",
    "06010704000000000190": "10020601070400000000019010037657",
    "06220c040000000025004909781940": "100206220c0400000000250049097819401003 0c6e",
    "06230387ffff": "100206230387ffff1003fbbd",
    "06c00f051910fc0206081f15 01d01f600107": "100206c00f05191010fc0206081f1501d01f6001071003d7f4",
    "06220c040000000026974909781940": "100206220c0400000000269749097819401003 1010",
    "06220c040000000117404909781940": "100206220c0400000001174049097819401003 1002",
    "065003123456": "10020650031234561003c4af",
    "06b000": "100206b000100343f3",
    "060f00": "1002060f001003c633",
    "061e04b887ffff": "1002061e04b887ffff1003b64b",
}


@pytest.mark.parametrize("apdu", FRAMES)
def test_known_frames(apdu: str) -> None:
    assert frame(h(apdu)) == h(FRAMES[apdu])
    assert Link().receive(h(FRAMES[apdu]), 0) == [Received(h(apdu))]


def test_the_checksum_is_kermit() -> None:
    """Its check value is defined over "123456789" alone; ours adds the ETX."""

    def kermit(data: bytes) -> bytes:
        turned = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
        value = binascii.crc_hqx(turned, 0)
        return int(f"{value:016b}"[::-1], 2).to_bytes(2, "little")

    assert kermit(b"123456789") == h("8921")
    assert crc(b"123456789") == kermit(b"123456789\x03")
    assert crc(b"12345678\x10") == kermit(b"12345678\x10\x03")


@given(st.binary(min_size=3, max_size=600))
def test_any_apdu_comes_through_byte_by_byte(apdu: bytes) -> None:
    link = Link()
    events = [event for byte in frame(apdu) for event in link.receive(bytes([byte]), 0)]
    assert events == [Received(apdu)]
    assert link.take_output() == ACK
    assert link.next_deadline() is None
    assert not link.receiving


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 2**32))
def test_garbage_neither_crashes_nor_hangs(chunks: list[bytes], gap: int) -> None:
    link, now = Link(), 0
    for chunk in chunks:
        link.receive(chunk, now)
        now += gap % 300
        link.on_time(now)
    link.on_time(now + T1_MS)
    link.take_output()
    assert link.next_deadline() is None
    link.begin(COMMAND, now + T1_MS)
    events = link.receive(frame(OK), now + 2 * T1_MS)
    assert events == [Delivered(), Received(OK)]


# --- receiving ------------------------------------------------------------------------------------


def bad(text: str) -> bytes:
    return frame(h(text))[:-1] + b"\x00"


@pytest.mark.parametrize(
    "data",
    [
        bad("800000"),
        h("1002 80 10 41 00 1003 f51f"),  # DLE before something that needs none
        frame(h("8000")),  # too short for an APDU
        h("1002 1003") + crc(b""),
        frame(bytes(APDU_BYTES_MAX + 1)),
    ],
    ids=["checksum", "escape", "two bytes", "empty", "endless"],
)
def test_a_bad_block_is_refused_once_and_after_silence(data: bytes) -> None:
    link = Link()
    assert link.receive(data, 0) == []
    assert link.take_output() == b""
    assert link.next_deadline() == T1_MS
    assert link.receive(b"more of it", 150) == []
    assert link.on_time(T1_MS) == []
    assert link.take_output() == b"", "it is not silent yet"
    link.on_time(150 + T1_MS)
    assert link.take_output() == NAK
    assert link.next_deadline() is None
    assert link.receive(frame(OK), 1_000) == [Received(OK)]


def test_a_gap_inside_a_block() -> None:
    data = frame(RESULT)
    link = Link()
    link.receive(data[:6], 0)
    link.on_time(T1_MS - 1)
    assert link.take_output() == b""
    assert link.receive(data[6:8], T1_MS - 1) == []
    link.on_time(2 * T1_MS - 1)
    assert link.take_output() == NAK
    assert link.receive(data, 1_000) == [Received(RESULT)]


def test_a_lone_dle_is_not_refused() -> None:
    link = Link()
    link.receive(b"\x10", 0)
    assert link.receiving
    link.on_time(T1_MS)
    assert link.take_output() == b""
    assert link.receive(b"\x10" + frame(OK), 500) == [Received(OK)]
    assert link.receive(b"\x10\x55" + frame(COMPLETION), 600) == [Received(COMPLETION)]


def test_checksum_bytes_are_never_scanned() -> None:
    """DLE, ETX, STX, ACK and NAK as checksum, and a block right behind."""
    seen = set()
    for number in range(70_000):
        apdu = h("0622") + number.to_bytes(3, "big")
        if set(crc(apdu)) <= {0x10, 0x02, 0x03, 0x06, 0x15} and crc(apdu) not in seen:
            seen.add(crc(apdu))
            assert Link().receive(frame(apdu) + frame(OK), 0) == [Received(apdu), Received(OK)]
    assert len(seen) >= 15


def test_an_apdu_whose_length_is_wrong_is_delivered() -> None:
    """The checksum is right, so asking for it again brings the same."""
    link = Link()
    assert link.receive(frame(h("061e0eb8")), 0) == [Received(h("061e0eb8"))]


def test_noise_between_blocks_is_ignored() -> None:
    link = Link()
    assert link.receive(h("00ff0615") + frame(OK) + h("0055"), 0) == [Received(OK)]
    assert link.take_output() == ACK


# --- repeats --------------------------------------------------------------------------------------


def test_a_repeat_is_acknowledged_and_told_once() -> None:
    link = Link()
    assert link.receive(frame(RESULT) * 2, 0) == [Received(RESULT)]
    assert link.take_output() == ACK * 2
    link.send(OK, 10)
    assert link.receive(frame(RESULT), 20) == [], "our answer is not there yet"
    assert link.receive(ACK, 30) == [Delivered()]
    assert link.receive(frame(RESULT), 40) == [Received(RESULT)], "and now it is: a new one"


def test_the_same_answer_to_a_new_command_is_a_new_one() -> None:
    link = Link()
    link.send(COMMAND, 0)
    assert link.receive(ACK + frame(OK), 1) == [Delivered(), Received(OK)]
    link.send(COMMAND, 2)
    assert link.receive(frame(OK), 3) == [Delivered(), Received(OK)], "the ACK was lost"


def test_a_refusal_told_twice_does_not_refuse_the_next_command() -> None:
    link = Link()
    link.begin(COMMAND, 0)
    assert link.receive(ACK + frame(REFUSAL), 1)[-1] == Received(REFUSAL)
    link.begin(h("062200"), 2)
    assert link.receive(frame(REFUSAL), 3) == []
    assert link.busy
    assert link.receive(ACK + frame(REFUSAL), 4) == [Delivered(), Received(REFUSAL)]


def test_what_follows_our_answer_says_that_it_arrived() -> None:
    link = Link()
    link.receive(frame(PROGRESS), 0)
    link.send(OK, 1)
    assert link.receive(frame(RESULT), 2) == [Delivered(), Received(RESULT)]
    assert not link.busy


def test_a_message_is_no_receipt_for_our_command() -> None:
    """Both sent at once: the command still needs its ACK."""
    link = Link()
    link.begin(COMMAND, 0)
    assert link.receive(frame(PROGRESS), 1) == [Received(PROGRESS)]
    assert link.pending == COMMAND


# --- sending --------------------------------------------------------------------------------------


def test_three_sends_and_no_more() -> None:
    link, now, sends = Link(), 0, 0
    link.begin(COMMAND, now)
    events: list[LinkEvent] = []
    while not events:
        sends += link.take_output().count(frame(COMMAND))
        due = link.next_deadline()
        assert due == now + T2_MS
        assert link.on_time(due - 1) == []
        now = due
        events = link.on_time(now)
    assert sends == SENDS_MAX == 3
    assert events == [SendFailed("no acknowledgement, 3 sends", COMMAND)]
    assert link.take_output() == b""
    assert link.next_deadline() is None
    assert not link.busy


def test_a_refused_block_is_repeated_after_silence() -> None:
    link, now = Link(), 0
    link.begin(COMMAND, now)
    for send in range(SENDS_MAX):
        assert link.take_output() == frame(COMMAND), send
        now += 10
        assert link.receive(NAK * 3, now) == [], "one refusal, however long"
        assert link.take_output() == b""
        now += T1_MS
        events = link.on_time(now)
    assert events == [SendFailed("refused (NAK), 3 sends", COMMAND)]


def test_a_disturbance_before_the_ack_sends_nothing_twice() -> None:
    link = Link()
    link.receive(frame(PROGRESS), 0)
    link.send(OK, 0)
    link.take_output()
    assert link.receive(NAK + ACK, 1) == [Delivered()]
    link.on_time(T2_MS)
    assert link.take_output() == b""


def test_a_refusal_late_in_t2_does_not_prolong_it() -> None:
    link = Link()
    link.begin(COMMAND, 0)
    link.receive(NAK, T2_MS - 50)
    assert link.next_deadline() == T2_MS


def test_t2_waits_for_the_end_of_a_block_that_is_arriving() -> None:
    """The ACK is behind it, or was lost and the block says as much. A send in the middle of it would be a
    second one for nothing."""
    link = Link()
    link.begin(COMMAND, 0)
    link.take_output()
    data = frame(OK)
    link.receive(data[:4], T2_MS - 10)
    assert link.on_time(T2_MS) == []
    assert link.take_output() == b""
    assert link.next_deadline() == T2_MS - 10 + T1_MS
    assert link.receive(data[4:], T2_MS + 5) == [Delivered(), Received(OK)]
    assert link.take_output() == ACK


def test_t2_does_not_wait_for_a_block_that_stops() -> None:
    link = Link()
    link.begin(COMMAND, 0)
    link.take_output()
    link.receive(frame(OK)[:4], T2_MS - 10)
    link.on_time(T2_MS)
    assert link.on_time(T2_MS - 10 + T1_MS) == []
    assert link.take_output() == NAK + frame(COMMAND)


def test_t2_does_not_wait_for_noise() -> None:
    for noise in (b"\x10", b"\x10\x02\x10\x99"):
        link = Link()
        link.begin(COMMAND, 0)
        link.take_output()
        link.receive(noise, T2_MS - 10)
        link.on_time(T2_MS)
        assert link.take_output() == frame(COMMAND), noise


def test_an_ack_in_many_pieces_of_noise() -> None:
    link = Link()
    link.begin(COMMAND, 0)
    assert link.receive(h("00ff10") + ACK, 1) == [Delivered()]


def test_one_block_at_a_time() -> None:
    link = Link()
    link.begin(COMMAND, 0)
    with pytest.raises(RuntimeError):
        link.send(OK, 1)
    link.withdraw()
    link.send(OK, 1)
    assert link.pending == OK


def test_a_command_from_idle_forgets_half_a_block() -> None:
    link = Link()
    link.receive(frame(PROGRESS)[:5], 0)
    link.begin(COMMAND, 10_000)
    link.on_time(10_000)
    assert link.take_output() == frame(COMMAND), "and no NAK for what is long gone"
    assert link.receive(ACK + frame(OK), 10_001) == [Delivered(), Received(OK)]


def test_reprs_tell_no_bytes() -> None:
    pan = h("4111111111111111")
    assert "4111" not in repr([Received(pan), SendFailed("x", pan)])
