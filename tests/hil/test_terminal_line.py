"""Faults of the line: what the terminal simulator does wrong on request, and how it takes wrong things
from the other side."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.terminal_ecr import (
    ACK,
    NAK,
    QUICK_T2_MS,
    Bench,
    LineSilent,
    frame,
    hexa,
    terminal,
)

STATUS = hexa("050100")
OK = hexa("800000")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with terminal(tmp_path) as bench:
        bench.ecr.register("36")
        yield bench


def finish_status(bench: Bench) -> None:
    assert bench.ecr.receive()[:2] == hexa("060f")
    bench.ecr.send(OK)


# --- What the terminal does with what it gets -----------------------------------------------------


def test_a_wrong_block_is_refused_once_after_silence(bench: Bench) -> None:
    spoiled = bytearray(frame(STATUS))
    spoiled[-1] ^= 1
    bench.ecr.write(bytes(spoiled) + b"\xaa\xbb" * 20)
    assert bench.ecr.byte() == NAK[0]
    assert bench.ecr.quiet(0.3)
    assert bench.ecr.command("050100").kinds == ["060f"]


def test_a_gap_above_t1_spoils_a_block_and_one_below_does_not(bench: Bench) -> None:
    framed = frame(STATUS)
    bench.ecr.write(framed[:5])
    with pytest.raises(LineSilent):
        bench.ecr.byte(0.08)
    bench.ecr.write(framed[5:])
    assert bench.ecr.byte() == ACK[0]
    assert bench.ecr.receive() == OK
    finish_status(bench)
    bench.ecr.write(framed[:5])
    assert bench.ecr.byte() == NAK[0]  # after T1
    bench.ecr.write(framed[5:])  # the rest alone is noise
    assert bench.ecr.command("050100").kinds == ["060f"]


def test_noise_before_a_block_is_passed_over(bench: Bench) -> None:
    bench.ecr.write(b"\x00\xff\x02\x03\x10" + b"\x55")
    assert bench.ecr.command("050100").kinds == ["060f"]


def test_a_repeated_command_is_acknowledged_and_not_done_twice(bench: Bench) -> None:
    bench.tap_and_read()
    reserve = hexa("06220c04000000005000490978 1942".replace(" ", ""))
    bench.ecr.write(frame(reserve))
    assert bench.ecr.byte() == ACK[0]
    # The ACK got lost for us: the same block again, before the answer to it was acknowledged.
    assert bench.ecr.raw_block()[0] == OK
    bench.ecr.write(frame(reserve))
    assert bench.ecr.byte() == ACK[0]
    assert bench.ecr.receive(QUICK_T2_MS / 1000 * 2) == OK  # repeated after T2
    assert bench.ecr.receive()[:2] == hexa("040f")
    bench.ecr.send(OK)
    assert bench.ecr.receive()[:2] == hexa("060f")
    bench.ecr.send(OK)
    assert bench.kinds() == ["hold"]


def test_an_answer_repeated_after_a_lost_ack_is_not_taken_for_the_next_one(bench: Bench) -> None:
    bench.tap_and_read()
    bench.ecr.send(hexa("06220c04000000005000490978 1942".replace(" ", "")))
    assert bench.ecr.receive() == OK
    assert bench.ecr.receive()[:2] == hexa("040f")
    bench.ask("fault", name="no_ack")
    bench.ecr.write(frame(OK))  # taken, but its ACK is lost
    assert bench.ecr.raw_block()[0][:2] == hexa("060f")
    bench.ecr.write(frame(OK))  # the same answer again, not the one to 06 0F
    assert bench.ecr.byte() == ACK[0]
    assert bench.ecr.receive(QUICK_T2_MS / 1000 * 2)[:2] == hexa("060f")
    bench.ecr.send(OK)
    assert bench.ecr.command("050100").kinds == ["060f"]
    assert bench.kinds() == ["hold"]


def test_a_block_is_sent_three_times_and_no_more(bench: Bench) -> None:
    bench.ecr.send(STATUS)
    for _ in range(3):
        assert bench.ecr.raw_block() == (OK, True)
        bench.ecr.write(NAK)
    assert bench.ecr.quiet(QUICK_T2_MS / 1000 * 2)
    bench.ecr.send(STATUS)
    for _ in range(3):
        assert bench.ecr.raw_block() == (OK, True)  # now by T2
    assert bench.ecr.quiet(QUICK_T2_MS / 1000 * 2)
    # The same command after both gave up is a new one.
    assert bench.ecr.command("050100").kinds == ["060f"]


def test_an_ecr_that_goes_on_sending_is_told_of(bench: Bench) -> None:
    bench.ask("fault", name="ignored", count=4)
    for sends in range(1, 5):
        bench.ecr.write(frame(STATUS))
        assert bench.ecr.quiet(0.05)
        told = {"block_sent_more_than_three_times": 1} if sends > 3 else {}
        assert bench.state()["complaints"] == told
    for _ in range(5):
        assert bench.ecr.command("050100").kinds == ["060f"]
    # The first of these was the fifth send of one block; the others are new commands.
    assert bench.state()["complaints"] == {"block_sent_more_than_three_times": 2}


# --- What it does wrong on request ----------------------------------------------------------------


def test_bad_crc(bench: Bench) -> None:
    bench.ask("fault", name="bad_crc", count=2)
    bench.ecr.send(STATUS)
    for good in (False, False, True):
        assert bench.ecr.raw_block() == (OK, good)
        bench.ecr.write(ACK if good else NAK)
    finish_status(bench)
    assert bench.state()["faults"] == {}


def test_refused_blocks(bench: Bench) -> None:
    bench.ask("fault", name="nak", count=2)
    for _ in range(2):
        bench.ecr.write(frame(STATUS))
        assert bench.ecr.byte() == NAK[0]
    assert bench.ecr.command("050100").kinds == ["060f"]


def test_lost_ack_ignored_block_and_missing_answer(bench: Bench) -> None:
    bench.ask("fault", name="no_ack")
    bench.ecr.write(frame(STATUS))
    assert bench.ecr.receive() == OK  # executed all the same
    finish_status(bench)
    bench.ask("fault", name="ignored")
    bench.ecr.write(frame(STATUS))
    assert bench.ecr.quiet(0.2)
    bench.ask("fault", name="no_answer")
    bench.ecr.send(STATUS)
    assert bench.ecr.quiet(0.2)
    assert bench.ecr.command("050100").kinds == ["060f"]
    assert bench.state()["commands"]["0501"] == 2


@pytest.mark.parametrize("name", ["duplicate", "noise", "lone_dle", "gap_below"])
def test_faults_that_a_good_peer_survives_without_a_nak(bench: Bench, name: str) -> None:
    bench.ask("fault", name=name)
    bench.ecr.send(STATUS)
    assert bench.ecr.receive() == OK
    if name == "duplicate":
        assert bench.ecr.receive() == OK
    finish_status(bench)


@pytest.mark.parametrize("name", ["gap", "byte_loss"])
def test_faults_that_need_a_repeat(bench: Bench, name: str) -> None:
    bench.ask("fault", name=name)
    bench.ecr.send(STATUS)
    first = bytes(bench.ecr.byte() for _ in range(4))
    if name == "gap":
        assert bench.ecr.quiet(0.25)  # longer than T1
    rest = len(frame(OK)) - 4 - (name == "byte_loss")
    first += bytes(bench.ecr.byte() for _ in range(rest))
    assert (first == frame(OK)) == (name == "gap")
    bench.ecr.write(NAK)
    assert bench.ecr.receive() == OK
    finish_status(bench)


def test_silence_for_a_while(bench: Bench) -> None:
    bench.ask("fault", name="silent", count=3)
    for _ in range(3):
        bench.ecr.write(frame(STATUS))
        assert bench.ecr.quiet(0.1)
    assert bench.ecr.command("050100").kinds == ["060f"]


def start_read(bench: Bench) -> None:
    bench.ecr.send(hexa("06c00105"))
    assert bench.ecr.receive() == OK
    bench.until("reading_card", True)


def test_collision_on_abort(bench: Bench) -> None:
    """Both speak at once: no ACK for either; the terminal sends three times and gives up, and the
    Abort that comes then finds it idle."""
    bench.ask("fault", name="collision", card="visa")
    start_read(bench)
    abort = frame(hexa("06b000"))
    bench.ecr.write(abort)
    for _ in range(3):
        apdu, good = bench.ecr.raw_block()
        assert (apdu[:2], good) == (hexa("040f"), True)
        bench.ecr.write(abort)
    assert bench.ecr.quiet(QUICK_T2_MS / 1000 * 2)
    bench.until("reading_card", False)
    assert bench.ecr.command("06b000").answer == "800000"


def test_collision_where_the_register_gives_way(bench: Bench) -> None:
    bench.ask("fault", name="collision", card="visa")
    start_read(bench)
    bench.ecr.write(frame(hexa("06b000")))
    assert bench.ecr.receive()[:2] == hexa("040f")  # acknowledged instead of insisting
    bench.ecr.send(OK)
    assert bench.ecr.command("06b000").answer == "800000"
    assert bench.ecr.reserve().result().code == 0  # the card it sent counts


def test_a_polite_terminal_keeps_the_abort_for_afterwards(bench: Bench) -> None:
    bench.ask("set", collision="polite")
    start_read(bench)
    bench.ask("tap", card="visa")
    assert bench.ecr.raw_block()[0][:2] == hexa("040f")
    bench.ecr.write(frame(hexa("06b000")))
    assert bench.ecr.byte() == ACK[0]


# --- Speed ----------------------------------------------------------------------------------------


def test_paced_line_takes_its_time(tmp_path: Path) -> None:
    with terminal(tmp_path, pace=True, baud=9600) as bench:
        begin = time.monotonic()
        bench.ecr.register("36")
        blocks = ("060006123456360978", "800000", "060f0a19102952523535490978", "800000")
        characters = sum(len(frame(hexa(apdu))) + len(ACK) for apdu in blocks)
        assert time.monotonic() - begin > characters * 11 / 9600 * 0.95


# --- TCP ------------------------------------------------------------------------------------------


def test_the_same_dialogues_over_tcp(tmp_path: Path) -> None:
    with terminal(tmp_path, tcp_port=0) as bench:
        port = bench.simulator.tcp_port
        with socket.create_connection(("127.0.0.1", port), 3) as ecr:
            for part in (b"\x06\x00\x06\x12", hexa("345636"), hexa("0978")):
                ecr.sendall(part)  # any segmentation
            want = hexa("800000") + hexa("060f0a19102952523535490978")
            got = b""
            while len(got) < len(want):
                got += ecr.recv(100)
            assert got == want
            ecr.sendall(OK)
            ecr.sendall(STATUS)
            assert ecr.recv(3) == OK
        assert bench.state()["registered"] is True
