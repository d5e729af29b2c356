"""The byte line on real descriptors: ptys, sockets, and what pyserial makes of them."""

import asyncio
import errno
import os
import pty
import socket
import termios
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
import serial.rfc2217

from agent.ports import LineSpec
from drivers import line as module
from drivers.line import WRITE_BYTES_MAX, LineLost, open_line

TIMEOUT_S = 10.0


class Pty:
    """A master, and the path of its slave. The slave is kept open, as simulators do."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self.slave)

    def read(self, size: int) -> bytes:
        got, limit = b"", time.monotonic() + TIMEOUT_S
        while len(got) < size and time.monotonic() < limit:
            try:
                got += os.read(self.master, 65_536)
            except BlockingIOError:
                time.sleep(0.001)
        return got

    def hang_up(self) -> None:
        for name in ("slave", "master"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)


@pytest.fixture
def tty_pair() -> Iterator[Pty]:
    pair = Pty()
    yield pair
    pair.hang_up()


def refused(port: str, **spec: Any) -> str:
    async def main() -> str:
        with pytest.raises(LineLost) as error:
            await open_line(LineSpec(port, **spec))
        return str(error.value)

    return asyncio.run(main())


async def within(awaitable: Any) -> Any:
    async with asyncio.timeout(TIMEOUT_S):
        return await awaitable


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- opening --------------------------------------------------------------------------------------


def test_a_missing_port(tmp_path: Path) -> None:
    text = refused(str(tmp_path / "ttyNone"), baud=115200)
    assert text.startswith(f"{tmp_path}/ttyNone (115200 8N1): no such device")
    assert "/dev/serial/by-id" in text


def test_a_busy_port(tty_pair: Pty) -> None:
    async def main() -> None:
        first = await open_line(LineSpec(tty_pair.path))
        with pytest.raises(LineLost, match="held by another process; end it"):
            await open_line(LineSpec(tty_pair.path))
        await first.close()
        again = await open_line(LineSpec(tty_pair.path))
        await again.close()

    asyncio.run(main())


def test_a_port_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """root may open everything, so the kernel's answer is given by hand."""

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert "no permission; the service's user must be in the group" in refused("/dev/ttyS0")


def test_a_file_that_is_no_port(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    assert "no serial line; correct the name" in refused(str(file))


def test_a_setting_that_the_port_refuses(monkeypatch: pytest.MonkeyPatch, tty_pair: Pty) -> None:
    """termios.error is no OSError."""

    def refuse(*_: object) -> None:
        raise termios.error(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(termios, "tcsetattr", refuse)
    assert refused(tty_pair.path).endswith(" (9600 8N1): Invalid argument")


@pytest.mark.parametrize("framing", ["", "8N", "8N3", "9N1", "8X1", "8n1", "8N15", "N81"])
def test_framing_that_is_none(framing: str, tty_pair: Pty) -> None:
    assert f"framing {framing!r}; expected such as 8N1" in refused(tty_pair.path, framing=framing)


@pytest.mark.parametrize("framing", ["8N1", "8N2"])
@pytest.mark.parametrize("baud", [9600, 19200, 38400, 57600, 115200])
def test_rate_and_stop_bits_are_those_of_the_port(baud: int, framing: str, tty_pair: Pty) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path, baud, framing))
        iflag, _, cflag, _, ispeed, ospeed, _ = termios.tcgetattr(tty_pair.slave)
        assert ispeed == ospeed == getattr(termios, f"B{baud}")
        assert bool(cflag & termios.CSTOPB) == (framing == "8N2")
        assert cflag & termios.CSIZE == termios.CS8
        assert not cflag & (termios.PARENB | termios.CRTSCTS)
        assert not iflag & (termios.IXON | termios.IXOFF), "no handshake"
        await line.close()

    asyncio.run(main())


@pytest.mark.parametrize("framing", ["8N1", "8N2", "8E1", "7E1"])
def test_a_pty_opens_again_whatever_the_framing(framing: str, tty_pair: Pty) -> None:
    """The kernel drops the parity of a pty, and then a second open would fail."""

    async def main() -> None:
        for _ in range(3):
            line = await open_line(LineSpec(tty_pair.path, 9600, framing))
            await line.close()

    asyncio.run(main())


@pytest.mark.parametrize("url", ["nothing://there", "rfc2217://127.0.0.1:1"])
def test_urls_that_lead_nowhere(url: str) -> None:
    assert refused(url).startswith(f"{url} (9600 8N1): ")


def test_a_cancelled_open_leaks_no_port(monkeypatch: pytest.MonkeyPatch, tty_pair: Pty) -> None:
    opening, go_on = threading.Event(), threading.Event()
    whole = module._open
    ports: list[Any] = []  # kept, or its garbage collection would close it

    def slow(spec: LineSpec) -> Any:
        opening.set()
        assert go_on.wait(TIMEOUT_S)
        ports.append(whole(spec))
        return ports[0]

    async def main() -> None:
        monkeypatch.setattr(module, "_open", slow)
        task = asyncio.ensure_future(open_line(LineSpec(tty_pair.path)))
        assert await asyncio.to_thread(opening.wait, TIMEOUT_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        monkeypatch.setattr(module, "_open", whole)
        limit = time.monotonic() + TIMEOUT_S
        while time.monotonic() < limit:
            try:
                line = await open_line(LineSpec(tty_pair.path))
            except LineLost:
                await asyncio.sleep(0.01)  # the thread is about to close it
                continue
            await line.close()
            return
        raise AssertionError("the port stayed locked")

    asyncio.run(main())


def test_a_cancelled_open_that_fails_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def slow(_: LineSpec) -> Any:
        assert go_on.wait(TIMEOUT_S)
        raise LineLost("no such device")

    async def main() -> None:
        monkeypatch.setattr(module, "_open", slow)
        task = asyncio.ensure_future(open_line(LineSpec("/dev/nothing")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(main())


# --- bytes ----------------------------------------------------------------------------------------


def test_bytes_both_ways(tty_pair: Pty) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))
        line.write(b"\x10\x02\x00\xff\n\r\x03\x04")
        assert tty_pair.read(8) == b"\x10\x02\x00\xff\n\r\x03\x04"
        reading = asyncio.ensure_future(line.read())
        await asyncio.sleep(0)
        os.write(tty_pair.master, b"\x11\x13\x7f\x1a")
        assert await within(reading) == b"\x11\x13\x7f\x1a"
        await line.close()

    asyncio.run(main())


def test_what_waited_is_thrown_away(tty_pair: Pty) -> None:
    async def main() -> None:
        os.write(tty_pair.master, b"from before")
        line = await open_line(LineSpec(tty_pair.path))
        assert line.discard() == b""
        os.write(tty_pair.master, b"stale")
        assert line.discard() == b"stale"
        assert line.discard() == b""
        os.write(tty_pair.master, b"fresh")
        assert await within(line.read()) == b"fresh"
        await line.close()

    asyncio.run(main())


def test_an_idle_line_is_no_lost_one(tty_pair: Pty) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))
        for _ in range(3):
            assert line.discard() == b""
        line.write(b"")
        line.write(b"x")
        await line.close()

    asyncio.run(main())


def test_a_cancelled_read_loses_nothing(tty_pair: Pty) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))
        reading = asyncio.ensure_future(line.read())
        await asyncio.sleep(0)
        os.write(tty_pair.master, b"data")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert await within(line.read()) == b"data"
        await line.close()

    asyncio.run(main())


def test_a_big_write_to_a_slow_reader_arrives_whole(tty_pair: Pty) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))
        sent = bytes(range(256)) * 500
        line.write(sent)
        got = b""
        while len(got) < len(sent):
            got += await asyncio.to_thread(tty_pair.read, 1)
        assert got == sent
        line.write(b"more")
        assert await asyncio.to_thread(tty_pair.read, 4) == b"more"
        await line.close()

    asyncio.run(main())


def test_writes_nobody_reads_are_bounded(tty_pair: Pty) -> None:
    """A full buffer neither blocks the loop nor fills the memory: the line is lost."""

    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))
        chunk, written = b"x" * 8192, 0
        start = time.monotonic()
        with pytest.raises(LineLost, match="the other end takes no bytes"):
            while True:
                line.write(chunk)
                written += len(chunk)
        assert written <= WRITE_BYTES_MAX + 64 * 1024, "the kernel's buffer comes on top"
        assert time.monotonic() - start < TIMEOUT_S
        with pytest.raises(LineLost):
            await line.read()
        await line.close()

    asyncio.run(main())


def test_bytes_nobody_takes_are_bounded(monkeypatch: pytest.MonkeyPatch, tty_pair: Pty) -> None:
    monkeypatch.setattr(module, "READ_BYTES_MAX", 10)

    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))
        for number in range(4):
            os.write(tty_pair.master, b"%d" % number * 4)
            await asyncio.sleep(0.01)
        assert line.discard() == b"0000111122"
        await line.close()

    asyncio.run(main())


# --- loss -----------------------------------------------------------------------------------------


def test_a_hang_up(tty_pair: Pty) -> None:
    async def main() -> None:
        before = open_files()
        line = await open_line(LineSpec(tty_pair.path))
        reading = asyncio.ensure_future(line.read())
        await asyncio.sleep(0)
        path = tty_pair.path
        tty_pair.hang_up()
        with pytest.raises(LineLost, match=f"^{path}: hung up.*unplugged"):
            await within(reading)
        for verb in (lambda: line.write(b"x"), lambda: line.write(b"")):
            with pytest.raises(LineLost, match="hung up"):
                verb()
        assert line.discard() == b""
        with pytest.raises(LineLost):
            await line.read()
        await line.close()
        await line.close()
        assert open_files() == before - 2, "both ends of the pty"

    asyncio.run(main())


def test_a_hang_up_is_seen_before_the_next_write(tty_pair: Pty) -> None:
    """Without waiting for the loop: what is thrown away is read, and the end with it."""

    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))
        tty_pair.hang_up()
        line.discard()
        with pytest.raises(LineLost, match="hung up"):
            line.write(b"money")
        await line.close()

    asyncio.run(main())


def test_a_hang_up_in_a_write(tty_pair: Pty) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))
        tty_pair.hang_up()
        with pytest.raises(LineLost, match="hung up"):
            line.write(b"x")
        await line.close()

    asyncio.run(main())


def test_bytes_that_came_before_a_hang_up_are_read_first(tty_pair: Pty) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))
        os.write(tty_pair.master, b"last words")
        while not line._inbox._bytes:  # type: ignore[attr-defined]  # arrived, and not read yet
            await asyncio.sleep(0)
        tty_pair.hang_up()
        await asyncio.sleep(0.01)
        assert await line.read() == b"last words"
        with pytest.raises(LineLost):
            await within(line.read())
        await line.close()

    asyncio.run(main())


def test_an_adapter_that_is_pulled(monkeypatch: pytest.MonkeyPatch, tty_pair: Pty) -> None:
    """A USB adapter gives an error instead of an end."""

    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))

        def broken(*_: object) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "read", broken)
        assert line.discard() == b""
        monkeypatch.undo()
        with pytest.raises(LineLost, match=r"hung up .Input/output error.; unplugged"):
            await line.read()
        await line.close()

    asyncio.run(main())


def test_close_wakes_who_waits(tty_pair: Pty) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))
        reading = asyncio.ensure_future(line.read())
        await asyncio.sleep(0)
        await line.close()
        with pytest.raises(LineLost, match="closed"):
            await within(reading)
        with pytest.raises(LineLost, match="closed"):
            line.write(b"x")

    asyncio.run(main())


def test_a_lost_line_stays_locked_until_it_is_closed(tty_pair: Pty) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(tty_pair.path))
        line._gone("taken for lost")  # type: ignore[attr-defined]
        with pytest.raises(LineLost, match="held by another"):
            await open_line(LineSpec(tty_pair.path))
        await line.close()
        again = await open_line(LineSpec(tty_pair.path))
        await again.close()

    asyncio.run(main())


# --- network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["tcp", "socket"])
def test_a_tcp_address(scheme: str) -> None:
    async def main() -> None:
        peers: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        server = await asyncio.start_server(lambda r, w: peers.put_nowait((r, w)), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        line = await open_line(LineSpec(f"{scheme}://127.0.0.1:{port}"))
        reader, writer = await within(peers.get())
        line.write(b"question")
        assert await within(reader.readexactly(8)) == b"question"
        writer.write(b"answer")
        assert await within(line.read()) == b"answer"
        assert line.discard() == b""
        writer.close()
        with pytest.raises(LineLost, match="hung up"):
            await within(line.read())
        await line.close()
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_a_tcp_line_sends_at_once_and_finds_a_dead_peer() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    opened = module._open_tcp(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    try:
        options = [
            opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
            opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        ]
        assert options == [1, 1, module.KEEP_IDLE_S]
    finally:
        opened.close()
        listener.close()


def test_a_tcp_peer_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full lets nobody in, as a terminal without power."""
    monkeypatch.setattr(module, "CONNECT_S", 0.1)
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = listener.getsockname()
    fillers = [socket.socket() for _ in range(2)]
    try:
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        time.sleep(0.05)
        text = refused(f"tcp://127.0.0.1:{address[1]}")
        assert text.endswith("no answer within 0.1 s; check cable, address and power")
    finally:
        for filler in (*fillers, listener):
            filler.close()


@pytest.mark.parametrize(
    "url", ["tcp://", "tcp://127.0.0.1", "tcp://:20007", "tcp://127.0.0.1:x", "tcp://h:70000"]
)
def test_a_tcp_address_that_is_none(url: str) -> None:
    assert refused(url) == f"{url}: expected an address such as tcp://192.168.1.20:20007"


@pytest.mark.parametrize(
    ("address", "whole"),
    [
        ("tcp://192.168.1.20", "tcp://192.168.1.20:20007"),
        ("socket://pt.local", "socket://pt.local:20007"),
        ("tcp://[fe80::1]", "tcp://[fe80::1]:20007"),
        ("tcp://192.168.1.20:22000", "tcp://192.168.1.20:22000"),
        ("tcp://[fe80::1]:22000", "tcp://[fe80::1]:22000"),
        ("tcp://", "tcp://"),
        ("/dev/ttyS0", "/dev/ttyS0"),
        ("rfc2217://host", "rfc2217://host"),
    ],
)
def test_a_port_number_where_there_is_none(address: str, whole: str) -> None:
    assert module.with_port(address, 20007) == whole


def test_a_tcp_port_that_nobody_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = refused(f"tcp://127.0.0.1:{port}")
    assert text.startswith(f"tcp://127.0.0.1:{port}: nothing listens there; check address and port")


class Rfc2217Server(threading.Thread):
    """pyserial's own server helper in front of loop://, whose bytes come back."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connection: socket.socket | None = None
        self.device = serial.serial_for_url("loop://", timeout=0)
        self.start()

    def run(self) -> None:
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(0.01)
        manager = serial.rfc2217.PortManager(self.device, self)
        while True:
            try:
                data = self.connection.recv(1024)
            except TimeoutError:
                data = None
            except OSError:
                return
            if data == b"":
                return
            if data:
                self.device.write(b"".join(manager.filter(data)))
            back = self.device.read(self.device.in_waiting or 1)
            if back:
                self.write(b"".join(manager.escape(back)))

    def write(self, data: bytes) -> None:
        assert self.connection is not None
        self.connection.sendall(data)

    def stop(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.listener.close()
        self.join(TIMEOUT_S)
        self.device.close()


@pytest.fixture
def rfc2217() -> Iterator[Rfc2217Server]:
    server = Rfc2217Server()
    yield server
    server.stop()


# pyserial 3.5 starts its thread with methods that Python has given up.
old_pyserial = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")


@old_pyserial
def test_an_rfc2217_url(rfc2217: Rfc2217Server) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(f"rfc2217://127.0.0.1:{rfc2217.port}", 9600, "8N2"))
        line.write(b"\x10\x02\xff\xff\x00")
        got = b""
        while len(got) < 5:
            got += await within(line.read())
        assert got == b"\x10\x02\xff\xff\x00", "telnet's own byte is doubled on the way"
        assert line.discard() == b""
        await line.close()
        with pytest.raises(LineLost, match="closed"):
            line.write(b"x")

    asyncio.run(main())


@old_pyserial
def test_an_rfc2217_server_that_goes_away(rfc2217: Rfc2217Server) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(f"rfc2217://127.0.0.1:{rfc2217.port}"))
        assert rfc2217.connection is not None
        rfc2217.connection.shutdown(socket.SHUT_RDWR)
        with pytest.raises(LineLost, match="hung up"):
            await within(line.read())
        with pytest.raises(LineLost, match="hung up"):
            line.write(b"x")
        await line.close()

    asyncio.run(main())


@old_pyserial
def test_writes_to_rfc2217_are_bounded(
    rfc2217: Rfc2217Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(f"rfc2217://127.0.0.1:{rfc2217.port}"))
        stuck = threading.Event()
        monkeypatch.setattr(line._port, "write", lambda _: stuck.wait(TIMEOUT_S))  # type: ignore[attr-defined]
        with pytest.raises(LineLost, match="takes no bytes"):
            for _ in range(WRITE_BYTES_MAX // 1024 + 2):
                line.write(b"x" * 1024)
        stuck.set()
        await line.close()

    asyncio.run(main())


@old_pyserial
def test_an_rfc2217_write_that_fails(
    rfc2217: Rfc2217Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        line = await open_line(LineSpec(f"rfc2217://127.0.0.1:{rfc2217.port}"))

        def fail(_: bytes) -> None:
            raise serial.SerialException("connection failed")

        monkeypatch.setattr(line._port, "write", fail)  # type: ignore[attr-defined]
        line.write(b"x")
        with pytest.raises(LineLost, match="connection failed"):
            await within(line.read())
        await line.close()

    asyncio.run(main())
