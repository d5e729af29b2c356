"""The same application protocol over TCP (PA00P016 ch. 3): APDUs only, no blocks and no ACK bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hil.terminal.faults import Faults
from hil.terminal.framing import MAX_APDU_BYTES, apdu_size
from hil.terminal.link import Link, LinkBroken, Written

READ_CHUNK = 4096


class TcpLink:
    """The terminal listens; the newest connection is the ECR's."""

    def __init__(self, port: int, deliver: Callable[[Link, bytes], None], faults: Faults) -> None:
        self._port = port
        self._deliver = deliver
        self._faults = faults
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._flow = asyncio.Event()
        self._flow.set()
        self._generation = 0

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
        pending = bytearray()
        try:
            while len(pending) <= MAX_APDU_BYTES:
                data = await reader.read(READ_CHUNK)
                generation = self._generation
                await self._flow.wait()
                if not data:
                    break
                if generation != self._generation:
                    pending.clear()
                    continue
                pending += data
                while (size := apdu_size(bytes(pending))) and len(pending) >= size:
                    self._take(bytes(pending[:size]))
                    del pending[:size]
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            if self._writer is writer:
                self._writer = None
            writer.close()

    def _take(self, apdu: bytes) -> None:
        if self._faults.take("silent") or self._faults.take("no_answer"):
            return
        self._deliver(self, apdu)

    async def send(self, apdu: bytes, written: Written | None = None) -> None:
        if self._writer is None:
            raise LinkBroken("the ECR has closed the connection")
        if written is not None:
            self.hold()
        try:
            self._writer.write(apdu)
            await self._writer.drain()
        except ConnectionError as error:
            raise LinkBroken(str(error)) from error
        if written is not None:
            await written()
            self.go_on()

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
