"""ZVT over TCP without a socket: messages out of any segmentation, and what is no ZVT."""

import random

import pytest

from drivers.terminal.zvt.frames import Delivered, LinkEvent, Received, SendFailed
from drivers.terminal.zvt.tcp_link import StreamLink

COMMAND, OK = bytes.fromhex("060006123456be0978"), bytes.fromhex("800000")
RESULT = bytes.fromhex("040f10270004000000005000870231") + b"\x0b\x00\x09\x75"
LONG = bytes.fromhex("06d3ff") + (1121).to_bytes(2, "little") + bytes(range(250)) * 4 + bytes(121)
SHORT_EXTENDED = bytes.fromhex("06d3ff0200") + b"ab"
LONGEST = bytes.fromhex("06d3ffffff") + bytes(0xFFFF)


def heard(events: list[LinkEvent]) -> list[bytes]:
    return [event.apdu for event in events if isinstance(event, Received)]


def begun(link: StreamLink, now: int = 0) -> StreamLink:
    link.begin(COMMAND, now)
    assert link.take_output() == COMMAND
    assert link.on_time(now) == [Delivered()]
    return link


def test_a_command_goes_out_as_it_is_and_counts_when_it_was_written() -> None:
    link = StreamLink()
    link.begin(COMMAND, 5)
    assert (link.busy, link.pending) == (True, COMMAND)
    assert link.on_time(5) == [], "not written yet"
    assert link.next_deadline() is None
    assert link.take_output() == COMMAND
    assert link.next_deadline() == 5, "at once"
    assert link.on_time(5) == [Delivered()]
    assert (link.busy, link.pending, link.next_deadline()) == (False, None, None)
    assert link.take_output() == b""


def test_one_message_at_a_time() -> None:
    link = StreamLink()
    link.begin(COMMAND, 0)
    with pytest.raises(RuntimeError):
        link.send(OK, 0)
    link.withdraw()
    link.send(OK, 0)
    assert link.take_output() == COMMAND + OK, "what was handed over is on its way"


def test_an_answer_proves_the_write() -> None:
    link = StreamLink()
    link.begin(COMMAND, 0)
    link.take_output()
    assert link.receive(OK, 1) == [Delivered(), Received(OK)]
    assert link.on_time(1) == []


def test_every_segmentation_gives_the_same_messages() -> None:
    seed = 20007
    rng = random.Random(seed)
    messages = [OK, RESULT, LONG, SHORT_EXTENDED, bytes.fromhex("060f00"), LONGEST]
    stream = b"".join(messages)
    for _ in range(50):
        cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.choice((0, 1, 5, 40))))
        link, got = begun(StreamLink()), []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            got += heard(link.receive(stream[start:end], 0))
        assert got == messages, f"seed {seed}, cuts {cuts}"
        assert not link.receiving
    short = b"".join([OK, RESULT, SHORT_EXTENDED])
    link = begun(StreamLink())
    by_byte = [m for byte in short for m in heard(link.receive(bytes([byte]), 0))]
    assert by_byte == [OK, RESULT, SHORT_EXTENDED]


def test_half_a_message_is_out_of_step_until_the_next_command() -> None:
    link = begun(StreamLink())
    assert link.receive(RESULT[:9], 0) == []
    assert link.receiving
    begun(link)
    assert not link.receiving
    assert heard(link.receive(OK, 0)) == [OK]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("150369", "15 03 69: it is set to another protocol"),
        ("15", "15 03 69: it is set to another protocol"),
        ("1506", "something that begins with 15"),
        ("0000003e5645522020", "something that begins with 00"),
        ("1002800000", "something that begins with 10"),
        ("485454502f312e31", "something that begins with 48"),
    ],
)
def test_what_is_no_zvt_ends_the_link(said: str, why: str) -> None:
    link = begun(StreamLink())
    assert link.receive(bytes.fromhex(said), 0) == [SendFailed(why, b"")]
    assert (link.garbage, link.receiving) == (why, True)
    assert link.receive(OK, 0) == [], "nothing after it is believed"


def test_what_was_whole_before_the_garbage_still_counts() -> None:
    link = StreamLink()
    link.begin(COMMAND, 0)
    events = link.receive(OK + b"HTTP", 0)
    assert events == [Received(OK), SendFailed("something that begins with 48", COMMAND)]
    assert not link.busy


def test_unknown_commands_and_negative_answers_pass() -> None:
    said = ["0e0100", "0fa100", "849c00", "841e017d", "ff0000"]
    stream = b"".join(map(bytes.fromhex, said))
    assert [m.hex() for m in heard(begun(StreamLink()).receive(stream, 0))] == said


def test_a_stream_without_end_stays_within_one_message() -> None:
    link = begun(StreamLink())
    for _ in range(64):
        link.receive(LONGEST[:40_000] + LONGEST[40_000:], 0)
        link.receive(LONGEST[:7], 0)
        link.receive(LONGEST[7:], 0)
    assert len(link._buffer) == 0
    link.receive(LONGEST[:-1], 0)
    assert len(link._buffer) < len(LONGEST)
