"""`python -m hil netproxy`: a TCP proxy on loopback between the agent and its broker, to cut at will.

Verbs: `cut` resets every connection and refuses new ones, `blackhole` carries nothing but keeps the
connections (what was sent waits, as with TCP over a dead link), `latency {ms}` delays each direction,
`restore` ends all of it, `state`.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import struct
from contextlib import suppress
from pathlib import Path

from hil.common.control import Answer, ControlError, ControlServer
from hil.common.proc import run_service

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 16 * 1024
# Chunks on their way with latency in one direction; a full pipe stops reading, as a window does.
MAX_CHUNKS_IN_FLIGHT = 256
MAX_LATENCY_MS = 60_000


class NetProxy:
    def __init__(self, listen: int, to: int, control: Path) -> None:
        self.port, self.to = listen, to
        self.control = ControlServer(
            control,
            {
                "state": self.state,
                "cut": self.cut,
                "blackhole": self.blackhole,
                "latency": self.latency,
                "restore": self.restore,
            },
        )
        self.accepted = 0
        self.bytes_up = self.bytes_down = 0
        self.latency_ms = 0
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()  # cleared: blackhole
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> NetProxy:
        await self._listen()
        try:
            await self.control.start()
        except BaseException:
            await self.cut()
            raise
        return self

    async def close(self) -> None:
        await self.control.close()
        await self.cut()

    async def failed(self) -> BaseException:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("never resolved")

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> Answer:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            _reset(writer)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return self.state()

    def blackhole(self) -> Answer:
        self._open.clear()
        return self.state()

    def latency(self, ms: int) -> Answer:
        if isinstance(ms, bool) or not isinstance(ms, int) or not 0 <= ms <= MAX_LATENCY_MS:
            raise ControlError(f"latency is {ms!r}; expected 0 to {MAX_LATENCY_MS} ms")
        self.latency_ms = ms
        return self.state()

    async def restore(self) -> Answer:
        self.latency_ms = 0
        self._open.set()
        if self._server is None:
            await self._listen()
        return self.state()

    def state(self) -> Answer:
        return {
            "port": self.port,
            "to": self.to,
            "up": self._server is not None and self._open.is_set(),
            "cut": self._server is None,
            "blackhole": not self._open.is_set(),
            "latency_ms": self.latency_ms,
            "connections": len(self._tasks),
            "accepted": self.accepted,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.accepted += 1
        upstream: asyncio.StreamWriter | None = None
        try:
            back, upstream = await asyncio.open_connection(LOOPBACK, self.to)
            self._writers.add(upstream)
            for each in (writer, upstream):
                each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pumps = {
                asyncio.ensure_future(self._pump(reader, upstream, up=True)),
                asyncio.ensure_future(self._pump(back, writer, up=False)),
            }
            try:
                # Either side's end ends both: MQTT has no half-open connections.
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # nobody upstream, or cut(): closing tells the client
        finally:
            self._tasks.discard(task)
            for end in (writer, upstream):
                if end is not None:
                    self._writers.discard(end)
                    end.close()
                    with suppress(OSError, asyncio.CancelledError):
                        await end.wait_closed()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        flight: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_CHUNKS_IN_FLIGHT)

        async def deliver() -> None:
            while True:
                due, chunk = await flight.get()
                if (wait_s := due - loop.time()) > 0:
                    await asyncio.sleep(wait_s)
                await self._open.wait()
                if not chunk:
                    return
                writer.write(chunk)
                await writer.drain()
                if up:
                    self.bytes_up += len(chunk)
                else:
                    self.bytes_down += len(chunk)

        async def collect() -> None:
            while True:
                await self._open.wait()
                chunk = await reader.read(CHUNK_BYTES)
                await flight.put((loop.time() + self.latency_ms / 1000, chunk))
                if not chunk:
                    return

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(deliver())
                group.create_task(collect())
        except* ConnectionError:
            pass  # the caller closes both sides


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN: linger on, no time."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m hil netproxy", description="A TCP proxy on loopback that can be cut."
    )
    parser.add_argument("--listen", type=int, required=True, help="port; 0 takes a free one")
    parser.add_argument("--to", type=int, required=True, help="port on loopback")
    parser.add_argument("--control", type=Path, required=True, help="control socket")
    args = parser.parse_args(argv)
    proxy = NetProxy(args.listen, args.to, args.control)
    return run_service(proxy.start, f"{LOOPBACK}:{args.listen} to {args.to}")
