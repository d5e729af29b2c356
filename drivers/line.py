"""A byte line for asyncio: a path, a pty or rfc2217:// through pyserial, or TCP (tcp://HOST:PORT, and
socket://HOST:PORT as pyserial writes it).

pyserial opens and sets serial ports; the bytes are read and written here, on the descriptor, because its own
`write_timeout=0` spins on a full buffer and `None` blocks the loop. rfc2217:// has no descriptor and gets a
reader thread. TCP is opened here, too: pyserial sets neither TCP_NODELAY nor keepalive."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import select
import socket
import stat
import struct
import termios
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import serial

from agent.ports import LineSpec

READ_BYTES = 4096
# Far more than the longest frame of any protocol here; a peer that takes nothing for so long is gone.
WRITE_BYTES_MAX = 256 * 1024
# Bytes nobody reads: a babbling device must not fill the memory. The newest are dropped.
READ_BYTES_MAX = 1024 * 1024
PTY_MAJORS = range(136, 144)  # Linux: Documentation/admin-guide/devices.txt
# ttyS, ttyUSB, ttyAMA, ttymxc: no byte comes sooner than the baud rate allows; elsewhere it is a mere number.
UART_MAJORS = frozenset({4, 188, 204, 207})
# Linux: include/uapi/asm-generic/ioctls.h and include/uapi/linux/serial.h, struct serial_rs485.
TIOCGRS485, TIOCSRS485 = 0x542E, 0x542F
RS485_STRUCT = struct.Struct("=8I")
RS485_ENABLED, RS485_RTS_ON_SEND, RS485_RTS_AFTER_SEND, RS485_RX_DURING_TX = 1, 2, 4, 16
THREAD_POLL_S = 0.2
# A device on the charger's own network answers in milliseconds, or is off.
CONNECT_S = 5.0
# A device that lost its power sends no FIN: found out after 10 s + 3 x 5 s, well within a minute's silence.
KEEP_IDLE_S, KEEP_EVERY_S, KEEP_TRIES = 10, 5, 3
_FRAMING = re.compile(r"([5-8])([NEOMS])([12])")
_TCP_SCHEMES = ("tcp", "socket")


class LineLost(OSError):
    """The line cannot be opened, or is gone. The text says which line, what was seen, what to do."""


class Line(Protocol):
    """`write` buffers and returns at once; `read` waits for at least one byte. Both raise LineLost."""

    def write(self, data: bytes) -> None: ...

    async def read(self) -> bytes: ...

    def discard(self) -> bytes:
        """Throw away, and return, what has arrived and was not read."""

    async def close(self) -> None:
        """Give the port back, also after a loss; until then it stays locked. May be called again."""


async def open_line(spec: LineSpec) -> Line:
    """Open a line and throw away what was waiting in it. Raises LineLost."""
    opening = asyncio.ensure_future(asyncio.to_thread(_open, spec))
    try:
        port = await asyncio.shield(opening)
    except asyncio.CancelledError:
        # The thread goes on; a port that nobody holds would stay locked.
        opening.add_done_callback(_close_unwanted)
        raise
    if _descriptor(port) is None:
        return _ThreadLine(spec.port, port)
    line = _DescriptorLine(spec.port, port)
    line.paced = _major(spec.port) in UART_MAJORS
    return line


def _close_unwanted(opening: asyncio.Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _close(opening.result())


def _close(port: Any) -> None:
    """Blocks: pyserial's network ports wait a moment, and a tty waits for its last bytes to leave."""
    with contextlib.suppress(OSError, termios.error):
        port.close()


def _major(path: str) -> int | None:
    """Which kind of character device it is; None for what is none."""
    try:
        status = os.stat(path)  # noqa: PTH116  # a URL is no path
    except (OSError, ValueError):
        return None
    return os.major(status.st_rdev) if stat.S_ISCHR(status.st_mode) else None


def is_tcp(port: str) -> bool:
    """Whether a `port:` means TCP."""
    return port.partition("://")[0] in _TCP_SCHEMES and "://" in port


def with_port(address: str, port: int) -> str:
    """A TCP address without a port number gets this one; any other stays as it is."""
    host = address.partition("://")[2]
    bare = is_tcp(address) and host and not re.search(r":[^\]]*$", host)
    return f"{address}:{port}" if bare else address


def _open(spec: LineSpec) -> Any:
    if spec.rs485 and "://" in spec.port:
        raise LineLost(f"{spec.port}: the kernel's RS-485 mode is for serial ports of this machine")
    if is_tcp(spec.port):
        return _open_tcp(spec.port)
    framing = _FRAMING.fullmatch(spec.framing)
    if framing is None:
        raise LineLost(f"{spec.port}: framing {spec.framing!r}; expected such as 8N1")
    bits, parity, stop = int(framing[1]), framing[2], int(framing[3])
    if _major(spec.port) in PTY_MAJORS:
        # The kernel drops parity and seven bits on a pty, and a second open then fails with EINVAL.
        bits, parity = 8, "N"
    try:
        port = serial.serial_for_url(
            spec.port,
            baudrate=spec.baud,
            bytesize=bits,
            parity=parity,
            stopbits=stop,
            timeout=0,
            do_not_open=True,
        )
        if "://" not in spec.port:
            port.exclusive = True
        port.open()
        with contextlib.suppress(OSError, termios.error, AttributeError):
            port.reset_input_buffer()
    except (OSError, termios.error, ValueError) as error:  # termios.error is no OSError
        raise LineLost(_explain(spec, error)) from error
    if spec.rs485:
        try:
            _switch_by_kernel(port.fileno(), spec.echo)
        except OSError as error:
            _close(port)
            raise LineLost(
                f"{spec.port}: the kernel cannot switch this port's transmitter ({error}); leave its RS-485"
                " mode out where the adapter switches by itself"
            ) from error
    return port


def _switch_by_kernel(fd: int, echo: bool) -> None:
    """The driver knows when the last bit has left. Delays stay as the device tree gives them. A driver may
    take the call and do nothing, so it is asked again."""
    flags, *others = RS485_STRUCT.unpack(fcntl.ioctl(fd, TIOCGRS485, bytes(RS485_STRUCT.size)))
    flags |= RS485_ENABLED | RS485_RTS_ON_SEND
    flags &= ~(RS485_RTS_AFTER_SEND | RS485_RX_DURING_TX)
    if echo:
        flags |= RS485_RX_DURING_TX
    fcntl.ioctl(fd, TIOCSRS485, RS485_STRUCT.pack(flags, *others))
    seen = RS485_STRUCT.unpack(fcntl.ioctl(fd, TIOCGRS485, bytes(RS485_STRUCT.size)))[0]
    if not seen & RS485_ENABLED:
        raise OSError(errno.ENOTSUP, "the driver leaves it off")


def _open_tcp(url: str) -> socket.socket:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise LineLost(f"{url}: expected an address such as tcp://192.168.1.20:20007")
    try:
        opened = socket.create_connection((host, port), CONNECT_S)
    except OSError as error:  # also what a name that cannot be resolved ends with
        raise LineLost(f"{url}: {_explain_tcp(error)}") from error
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_IDLE_S)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_EVERY_S)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_TRIES)
    return opened


def _explain_tcp(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there; check address and port, and that the device is set to TCP"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:g} s; check cable, address and power"
    return f"{error.strerror or error}; check the address"


def _explain(spec: LineSpec, error: Exception) -> str:
    where = f"{spec.port} ({spec.baud} {spec.framing})"
    code = getattr(error, "errno", None)
    text = str(error.args[-1] if isinstance(error, termios.error) else error)
    if code == errno.ENOENT or "No such file" in text:
        return f"{where}: no such device; check the cable and the name (ls -l /dev/serial/by-id)"
    if code == errno.EACCES or "Permission denied" in text:
        return f"{where}: no permission; the service's user must be in the group of the device"
    if "exclusively lock" in text or code in (errno.EBUSY, errno.EAGAIN):
        return f"{where}: held by another process; end it (fuser {spec.port} names it)"
    if code == errno.ENOTTY or "Inappropriate ioctl" in text:
        return f"{where}: no serial line; correct the name"
    return f"{where}: {text}"


def _descriptor(port: Any) -> int | None:
    try:
        return int(port.fileno())
    except (AttributeError, OSError, ValueError):
        return None


def _hung_up(fd: int) -> bool:
    """A pulled adapter and a closed pty master both report it; an idle line does not."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    ended = select.POLLHUP | select.POLLERR | select.POLLNVAL
    return any(events & ended for _, events in poll.poll(0))


class _Inbox:
    """Bytes that arrived, and whoever waits for them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._bytes = bytearray()
        self._changed = asyncio.Event()
        self.lost: str | None = None

    def arrived(self, data: bytes) -> None:
        self._bytes += data[: READ_BYTES_MAX - len(self._bytes)]
        self._changed.set()

    def gone(self, why: str) -> None:
        if self.lost is None:
            self.lost = why
        self._changed.set()

    def check(self) -> None:
        if self.lost is not None:
            raise LineLost(f"{self.name}: {self.lost}")

    def take(self) -> bytes:
        data = bytes(self._bytes)
        self._bytes.clear()
        return data

    async def read(self) -> bytes:
        while not self._bytes:
            self.check()
            self._changed.clear()
            await self._changed.wait()
        return self.take()


class _DescriptorLine:
    """`paced`: see UART_MAJORS. `listener`, if set, gets at once what else would wait for `read`."""

    paced = False
    listener: Callable[[bytes], None] | None = None
    _is_full = False

    def __init__(self, name: str, port: Any) -> None:
        self._port, self._inbox, self._out = port, _Inbox(name), bytearray()
        self._loop = asyncio.get_running_loop()
        self._fd = int(port.fileno())
        self._is_socket = stat.S_ISSOCK(os.fstat(self._fd).st_mode)
        os.set_blocking(self._fd, False)
        self._loop.add_reader(self._fd, self._readable)

    def write(self, data: bytes) -> None:
        self._inbox.check()
        if len(self._out) + len(data) > WRITE_BYTES_MAX:
            self._gone("the other end takes no bytes")
            self._inbox.check()
        self._out += data
        self._writable()
        self._inbox.check()

    async def read(self) -> bytes:
        return await self._inbox.read()

    def discard(self) -> bytes:
        data = self._inbox.take()
        # The loop hears of a hang-up anyway.
        return data + self._arrived(checked=False) if self._fd >= 0 else data

    async def close(self) -> None:
        self._gone("closed")
        await asyncio.to_thread(_close, self._port)

    def _readable(self) -> None:
        data = self._arrived(checked=True)
        if not data:
            return
        if self.listener is not None:
            self.listener(data)
        else:
            self._inbox.arrived(data)

    def _arrived(self, *, checked: bool) -> bytes:
        """What has come. `checked`: where nothing has, look whether the other end is there at all."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            self._gone(f"hung up ({error.strerror}); unplugged?")
            return b""
        if not data and checked and (self._is_socket or _hung_up(self._fd)):
            # Without either, a tty that pyserial opened (VMIN 0) only says that nothing is there.
            self._gone("hung up; unplugged?")
        return data

    def _writable(self) -> None:
        try:
            while self._out:
                del self._out[: os.write(self._fd, self._out)]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._writable)
            self._is_full = True
            return
        except OSError as error:
            self._gone(f"hung up ({error.strerror}); unplugged?")
            return
        if self._is_full:
            self._loop.remove_writer(self._fd)
            self._is_full = False

    def _gone(self, why: str) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._fd = -1
            self._out.clear()
        self._inbox.gone(why)


class _ThreadLine:
    """For rfc2217://, which keeps its socket to itself: a thread waits for bytes, another writes."""

    def __init__(self, name: str, port: Any) -> None:
        self._port, self._inbox, self._closing = port, _Inbox(name), False
        self._loop = asyncio.get_running_loop()
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self._waiting_bytes = 0
        port.timeout = THREAD_POLL_S
        self._reader = asyncio.ensure_future(asyncio.to_thread(self._pump))
        self._writer = asyncio.ensure_future(self._drain())

    def write(self, data: bytes) -> None:
        self._inbox.check()
        if self._waiting_bytes + len(data) > WRITE_BYTES_MAX:
            self._inbox.gone("the other end takes no bytes")
            self._inbox.check()
        self._waiting_bytes += len(data)
        self._out.put_nowait(data)

    async def read(self) -> bytes:
        return await self._inbox.read()

    def discard(self) -> bytes:
        return self._inbox.take()

    async def close(self) -> None:
        self._closing = True
        self._writer.cancel()
        await asyncio.gather(self._reader, self._writer, return_exceptions=True)
        await asyncio.to_thread(_close, self._port)
        self._inbox.gone("closed")

    def _pump(self) -> None:
        while not self._closing:
            try:
                data = self._port.read(1)
                if data:
                    data += self._port.read(self._port.in_waiting)
            except (OSError, TypeError) as error:
                self._loop.call_soon_threadsafe(self._inbox.gone, f"hung up ({error})")
                return
            if data:
                self._loop.call_soon_threadsafe(self._inbox.arrived, data)

    async def _drain(self) -> None:
        while True:
            data = await self._out.get()
            try:
                await asyncio.to_thread(self._port.write, data)
            except OSError as error:
                self._inbox.gone(f"hung up ({error})")
                return
            self._waiting_bytes -= len(data)
