"""The same application protocol over TCP (PA00P016 ch. 3): APDUs only, no blocks and no ACK bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from hil.terminal.faults import Faults
from hil.terminal.framing import MAX_APDU_BYTES, apdu_size
from hil.terminal.link import Link, LinkBroken, Written
from hil.terminal.switches import Switches

READ_CHUNK = 4096
# Between two pieces of a message: the peer should get them one by one.
PIECE_S = 0.002


@dataclass(frozen=True, slots=True)
class Events:
    """What the link tells: a message, the end of the connection; and asks: is the terminal deaf, is a
    dialogue running?"""

    deliver: Callable[[Link, bytes], None]
    lost: Callable[[Link], None]
    is_deaf: Callable[[], bool]
    is_busy: Callable[[], bool]


class TcpLink:
    """The terminal listens; the newest connection is the ECR's."""

    def __init__(self, port: int, switches: Switches, faults: Faults, events: Events) -> None:
        self._port = port
        self._switches = switches
        self._faults = faults
        self._events = events
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._flow = asyncio.Event()
        self._flow.set()
        self._generation = 0
        self._sent_at = 0.0

    @property
    def port(self) -> int:
        """The port that is really listened on; differs from the one asked for when that was 0."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = writer
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._read_all(reader)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            if self._writer is writer:
                self._writer = None
                self._events.lost(self)
            writer.close()

    async def _read_all(self, reader: asyncio.StreamReader) -> None:
        pending = bytearray()
        while len(pending) <= MAX_APDU_BYTES:
            data = await self._read(reader)
            generation = self._generation
            await self._flow.wait()
            if not data:
                return
            if generation != self._generation:
                pending.clear()
                continue
            pending += data
            while (size := apdu_size(bytes(pending))) and len(pending) >= size:
                self._take(bytes(pending[:size]))
                del pending[:size]

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """Empty at the end of the connection, also when we end it because nothing is said outside of
        any dialogue."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        while True:
            idle_s = self._switches.tcp_idle_s
            limit = None if idle_s is None else max(begin, self._sent_at) + idle_s - loop.time()
            if limit is not None and limit <= 0:
                if not self._events.is_busy():
                    return b""
                begin = loop.time()
                continue
            try:
                async with asyncio.timeout(limit):
                    return await reader.read(READ_CHUNK)
            except TimeoutError:
                continue  # we may have spoken meanwhile

    def _take(self, apdu: bytes) -> None:
        if self._events.is_deaf() or self._faults.take("silent") or self._faults.take("no_answer"):
            return
        self._events.deliver(self, apdu)

    async def send(self, apdu: bytes, written: Written | None = None) -> None:
        if self._writer is None:
            raise LinkBroken("the ECR has closed the connection")
        if self._faults.take("reset"):
            self._abort(self._writer)
            raise LinkBroken("reset on request")
        if written is None:
            await self.send_raw(apdu)
            return
        self.hold()
        try:
            await self.send_raw(apdu)
            await written()
        finally:
            # Also when the connection broke meanwhile: the next one would never be looked at.
            self.go_on()

    async def send_raw(self, data: bytes) -> None:
        writer = self._writer
        if writer is None or self._events.is_deaf():
            return
        step = self._switches.tcp_chunk or len(data) or 1
        try:
            for start in range(0, len(data), step):
                if start:
                    await asyncio.sleep(PIECE_S)
                writer.write(data[start : start + step])
                await writer.drain()
        except ConnectionError as error:
            raise LinkBroken(str(error)) from error
        self._sent_at = asyncio.get_running_loop().time()

    def _abort(self, writer: asyncio.StreamWriter) -> None:
        # Linger 0: the peer sees a reset instead of an end.
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def hold(self) -> None:
        self._flow.clear()

    def go_on(self, *, discard: bool = False) -> None:
        if discard:
            self.reset()
            if self._writer is not None:
                self._writer.close()  # a broken link is a closed connection here
        self._flow.set()

    def reset(self) -> None:
        self._generation += 1

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
