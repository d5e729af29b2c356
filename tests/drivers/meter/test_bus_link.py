"""What stands between the master and the device: an echoing adapter, the UART's pace, the kernel's RS-485
mode, Modbus TCP; and which exception is whose fault."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import pty
import struct
import tty
from collections.abc import Callable
from typing import Any

import pytest
from support.rtu_slave import FakeLine, Port, Registers, crc, driver_env
from support.virtual_loop import VirtualLoop

from agent.ports import DriverEnv, LineSpec
from drivers import line as line_module
from drivers.line import LineLost, open_line
from drivers.meter import rtu
from drivers.meter.master import LATENCY_SLACK_MS, Master
from drivers.meter.modbus import BadFrame, BusError, ExceptionReply, Function, Request, Timeout
from drivers.meter.rtu import Bus
from drivers.meter.tcp_link import TcpMaster, tcp_frame
from drivers.meter.timing import DeviceTiming, Wire
from drivers.meter.turns import Priority

SLOW = DeviceTiming(turnaround_ms=100, longest_reply_ms=700, min_gap_ms=0)
WIRE = Wire(9600)
START = 10_000_000
ASK = Request(1, Function.READ_INPUT, 0, 2)
COIL = Request(1, Function.WRITE_COIL, 5, values=(0,))
GOOD = crc(b"\x01\x04\x04\x00\x07\x00\x08")


def asked(request: Request = ASK, *, echo: bool = False, paced: bool = False) -> Master:
    """A master that has sent `request` at START."""
    master = Master(WIRE, echo=echo)
    master.line_opened(0, paced=paced)
    master.submit(request, SLOW, Priority.READ, START, repeatable=False)
    assert master.poll(START) == request.frame
    return master


def outcome(master: Master | TcpMaster) -> tuple[int, ...] | BusError:
    (done,) = master.finished()
    return done.outcome


# --- Echo ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(1, 8 + len(GOOD)))
def test_an_echo_is_taken_off_wherever_the_pieces_end(cut: int) -> None:
    master = asked(echo=True)
    heard = ASK.frame + GOOD
    master.receive(heard[:cut], START + 30_000)
    master.receive(heard[cut:], START + 40_000)
    assert outcome(master) == (7, 8)


def test_an_echo_is_compared_not_counted() -> None:
    """Eight bytes come back, one of them another: two talked at once."""
    master = asked(echo=True)
    master.receive(ASK.frame[:3] + b"\xff" + ASK.frame[4:] + GOOD, START + 30_000)
    error = outcome(master)
    assert isinstance(error, BadFrame)
    assert "two talked at once" in error.why
    assert master.state == "quarantine"


def test_the_echo_of_a_write_is_not_its_acknowledgement() -> None:
    master = asked(COIL, echo=True)
    master.receive(COIL.frame, START + 9_000)
    assert master.finished() == []
    master.receive(COIL.frame, START + 40_000)
    assert outcome(master) == (0,)
    master = asked(COIL, echo=True)
    master.receive(COIL.frame, START + 9_000)
    due = master.next_deadline()
    assert due is not None
    master.poll(due)
    assert isinstance(outcome(master), Timeout)


def test_an_adapter_without_the_promised_echo_is_an_error_and_no_value() -> None:
    master = asked(echo=True)
    master.receive(GOOD, START + 40_000)
    error = outcome(master)
    assert isinstance(error, BadFrame)
    assert "returns no echo" in error.why


# --- Pace ------------------------------------------------------------------------------------------


def test_a_reply_sooner_than_the_wire_allows_is_refused_on_a_uart() -> None:
    least_us = WIRE.us(len(ASK.frame)) + WIRE.us(len(GOOD))
    early, late = START + least_us * 9 // 10, START + least_us
    for paced, at, good in (
        (True, early, False),
        (True, late, True),
        (False, early, True),  # a pty or a socket
    ):
        master = asked(paced=paced)
        master.receive(GOOD, at)
        assert isinstance(outcome(master), tuple) is good, (paced, at)


def test_a_first_piece_that_came_too_soon_spoils_the_rest() -> None:
    master = asked(paced=True)
    master.receive(GOOD[:5], START + 3_000)
    master.receive(GOOD[5:], START + 40_000)
    assert isinstance(outcome(master), BadFrame)


def test_only_uarts_are_paced() -> None:
    assert line_module._major("/dev/null") not in line_module.UART_MAJORS
    assert line_module._major("rfc2217://host:1") is None

    async def main() -> None:
        near, far = pty.openpty()
        line = await open_line(LineSpec(os.ttyname(far)))
        assert not line.paced  # type: ignore[attr-defined]
        await line.close()
        os.close(near)
        os.close(far)

    asyncio.run(main())


# --- Quarantine --------------------------------------------------------------------------------------


def test_a_late_reply_may_be_handed_over_at_its_end() -> None:
    """Cancelled at once, so the silence counts from the request: its last byte at the declared time, and
    after that the reply's own time on the wire and the adapter's delay."""
    master = Master(WIRE)
    master.line_opened(0)
    ticket = master.submit(ASK, SLOW, Priority.READ, START)
    assert master.poll(START) is not None
    master.cancel(ticket, START)
    master.submit(ASK, SLOW, Priority.READ, START)
    seen = START + WIRE.us(8) + 700_000 + WIRE.us(len(GOOD)) + LATENCY_SLACK_MS * 1000
    assert master.poll(seen - 1) is None
    assert master.poll(seen) == ASK.frame


# --- Exceptions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "error_id"),
    [((1, 2, 3), "MTR-004"), ((4, 8, 99), "MTR-017"), ((5, 6), "MTR-018"), ((10, 11), "MTR-019")],
)
def test_exceptions_say_whose_fault_it_is(codes: tuple[int, ...], error_id: str) -> None:
    for code in codes:
        shown = rtu.unavailable(ExceptionReply(code), "meter m")
        assert shown.code == error_id
        assert f"exception {code} " in str(shown)


# --- Modbus TCP ----------------------------------------------------------------------------------------


def tcp_reply(number: int, *words: int, unit: int = 1, function: int = 4) -> bytes:
    data = struct.pack(f">{len(words)}H", *words)
    return struct.pack(">HHHBBB", number, 0, 3 + len(data), unit, function, len(data)) + data


def tcp_asked() -> TcpMaster:
    master = TcpMaster()
    master.line_opened(0)
    master.submit(ASK, SLOW, Priority.READ, START, repeatable=False)
    assert master.poll(START) == tcp_frame(1, ASK) == bytes.fromhex("000100000006010400000002")
    return master


def test_over_tcp_a_late_reply_is_told_by_its_number_and_nothing_waits_for_it() -> None:
    master = tcp_asked()
    due = master.next_deadline()
    assert due is not None
    assert master.poll(due) is None
    assert isinstance(outcome(master), Timeout)
    master.submit(ASK, SLOW, Priority.READ, due)
    assert master.poll(due) == tcp_frame(2, ASK), "no quarantine"
    master.receive(tcp_reply(1, 1, 1), due + 5_000)
    assert master.finished() == []
    master.receive(tcp_reply(2, 2, 2), due + 9_000)
    assert outcome(master) == (2, 2)
    assert master.counters.of(1).latest_late_ms == (due + 5_000 - START) // 1000
    assert master.counters.quarantines == 0


def test_over_tcp_replies_may_come_in_pieces_or_together() -> None:
    for cut in range(1, 13):
        master = tcp_asked()
        heard = tcp_reply(0, 9, 9) + tcp_reply(1, 7, 8) + tcp_reply(1, 9, 9)
        master.receive(heard[:cut], START + 1)
        master.receive(heard[cut:], START + 2)
        assert outcome(master) == (7, 8)


@pytest.mark.parametrize(
    "reply",
    [
        tcp_reply(1, 7, 8, unit=2),
        tcp_reply(1, 7, 8, function=3),
        tcp_reply(1, 7, 8, 9),
        tcp_reply(1, 7),
        b"\0\1\0\0\0\5\1\4\4\0\7",
    ],
)
def test_over_tcp_unit_function_and_count_must_match(reply: bytes) -> None:
    master = tcp_asked()
    master.receive(reply, START + 1)
    assert isinstance(outcome(master), BadFrame)
    assert master.state == "idle"


@pytest.mark.parametrize(
    "bytes_", [b"\0\1\0\1\0\6", b"\0\1\0\0\0\2", b"\0\1\0\0\0\xff", GOOD, ASK.frame]
)
def test_over_tcp_a_stream_without_headers_is_given_up(bytes_: bytes) -> None:
    """Among them the frames of RTU, from a port set to that."""
    with pytest.raises(BadFrame, match="no header of Modbus TCP"):
        tcp_asked().receive(bytes_, START + 1)


def test_over_tcp_a_frame_without_its_end_is_given_up() -> None:
    master = tcp_asked()
    master.receive(tcp_reply(1, 7, 8)[:-1], START + 1)
    due = master.next_deadline()
    assert due is not None
    with pytest.raises(BadFrame, match="never became whole"):
        master.poll(due)
    assert isinstance(outcome(master), Timeout)


def test_a_bus_opens_the_connection_anew_after_a_broken_stream() -> None:
    env, clock, _ = driver_env()
    port = Port(Registers(1))
    broken = [True]

    async def opener(spec: LineSpec) -> FakeLine:
        line = await port(spec)

        def answer(frame: bytes, _reply: bytes) -> list[tuple[float, bytes]]:
            number = int.from_bytes(frame[:2], "big")
            return [(0.0, b"HTTP/1.1 400" if broken.pop() else tcp_reply(number, 7, 8))]

        line.script = answer
        return line

    async def main() -> None:
        bus = Bus(LineSpec("modbus-tcp://meter"), env, opener)
        with pytest.raises(rtu.LineGone, match="no header"):
            await bus.read_input(1, 0, 2, timing=SLOW)
        broken.append(False)
        clock.ahead_ms += rtu.REOPEN_FIRST_MS
        assert await bus.read_input(1, 0, 2, timing=SLOW) == (7, 8)
        assert len(port.opened) == 2
        assert port.opened[0].closed
        await bus.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("port", "opened"),
    [
        ("modbus-tcp://192.0.2.7", "tcp://192.0.2.7:502"),
        ("modbus-tcp://meter:1502", "tcp://meter:1502"),
        ("tcp://192.0.2.7:4001", "tcp://192.0.2.7:4001"),
        ("/dev/ttyUSB0", "/dev/ttyUSB0"),
    ],
)
def test_which_port_speaks_what(monkeypatch: pytest.MonkeyPatch, port: str, opened: str) -> None:
    seen: list[str] = []

    async def fake(spec: LineSpec) -> Any:
        seen.append(spec.port)
        raise LineLost("not today")

    monkeypatch.setattr(line_module, "open_line", fake)
    with pytest.raises(LineLost):
        asyncio.run(rtu._open_line(LineSpec(port)))
    assert seen == [opened]
    is_tcp = isinstance(rtu.master_for(LineSpec(port)), TcpMaster)
    assert is_tcp is port.startswith("modbus-tcp")


# --- The loop's clock ------------------------------------------------------------------------------------


def test_a_timer_that_fires_a_little_early_does_not_spin() -> None:
    """The virtual loop fires timers up to a microsecond early, and would raise Spinning."""
    loop = VirtualLoop(start_s=86_400.1234567)

    async def main() -> int:
        env = DriverEnv(lambda: int(loop.time() * 1000), lambda *_words, **_values: None)
        port = Port(Registers(1, inputs={0: 5}))
        bus = Bus(LineSpec("/dev/bus"), env, port)
        for _ in range(200):
            assert await bus.read_input(1, 0, timing=SLOW) == (5,)
        await bus.close()
        return len(port.frames)

    assert loop.run_until_complete(main()) == 200
    loop.close()


# --- The kernel's RS-485 mode ----------------------------------------------------------------------------

ENABLED, ON_SEND, AFTER_SEND, RX_DURING_TX = 1, 2, 4, 16


class Driver:
    """A serial driver's answer to TIOCGRS485 and TIOCSRS485; every other call goes to the kernel."""

    def __init__(self, flags: int, *, obeys: bool = True) -> None:
        self.state = struct.pack("=8I", flags, 3, 4, 0, 0, 0, 0, 0)
        self.obeys = obeys
        self.calls: list[int] = []
        self._real: Callable[..., Any] = fcntl.ioctl

    def __call__(self, fd: int, request: int, *arguments: Any) -> Any:
        if request not in (0x542E, 0x542F):
            return self._real(fd, request, *arguments)
        self.calls.append(request)
        if request == 0x542F and self.obeys:
            self.state = arguments[0]
        return self.state


def opened_with(
    monkeypatch: pytest.MonkeyPatch, driver: Driver | None, **more: bool
) -> tuple[int, ...]:
    async def main() -> None:
        near, far = pty.openpty()
        tty.setraw(far)
        try:
            line = await open_line(LineSpec(os.ttyname(far), rs485=True, **more))
            await line.close()
        finally:
            os.close(near)
            os.close(far)

    if driver is not None:
        monkeypatch.setattr(fcntl, "ioctl", driver)
    asyncio.run(main())
    return () if driver is None else struct.unpack("=8I", driver.state)


def test_the_kernel_switches_the_transmitter(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(AFTER_SEND | RX_DURING_TX)
    flags, before, after, *_ = opened_with(monkeypatch, driver)
    assert flags == ENABLED | ON_SEND
    assert (before, after) == (3, 4), "delays are the device tree's"
    assert driver.calls == [0x542E, 0x542F, 0x542E]


def test_it_hears_itself_where_the_echo_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened_with(monkeypatch, Driver(0), echo=True)[0] == ENABLED | ON_SEND | RX_DURING_TX


def test_a_driver_that_does_not_obey_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LineLost, match=r"cannot switch this port's transmitter .*leaves it off"):
        opened_with(monkeypatch, Driver(0, obeys=False))


def test_a_port_without_the_mode_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own answer for a pty."""
    with pytest.raises(LineLost, match="cannot switch this port's transmitter") as caught:
        opened_with(monkeypatch, None)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno in (errno.ENOTTY, errno.EINVAL)
    with pytest.raises(LineLost, match="serial ports of this machine"):
        asyncio.run(open_line(LineSpec("tcp://127.0.0.1:1", rs485=True)))
