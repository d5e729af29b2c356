"""The pipe against brokers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from support.mosquitto import Mosquitto

from agent.uplink.pipe import Limits, MqttPipe, PipeConfig, PipeDown, Will
from agent.uplink.trouble import Trouble

WAIT_S = 20


class Heard:
    """What a pipe told, and a way to wait for more."""

    def __init__(self) -> None:
        self.limits: Limits | None = None
        self.troubles: list[Trouble] = []
        self.acked_mids: list[tuple[int, str | None]] = []
        self.messages: list[tuple[str, bytes]] = []
        self._news = asyncio.Event()

    def up(self, limits: Limits) -> None:
        self.limits = limits
        self._news.set()

    def down(self, trouble: Trouble) -> None:
        self.troubles.append(trouble)
        self._news.set()

    def acked(self, mid: int, refused: str | None) -> None:
        self.acked_mids.append((mid, refused))
        self._news.set()

    def message(self, topic: str, payload: bytes) -> None:
        self.messages.append((topic, payload))
        self._news.set()

    async def until(self, what: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not what():
                self._news.clear()
                await self._news.wait()


def pipe_to(port: int, heard: Heard, **options: object) -> MqttPipe:
    given = {"host": "127.0.0.1", "port": port, "client_id": "s", "tls": False, **options}
    config = PipeConfig(**given)  # type: ignore[arg-type]
    return MqttPipe(config, heard, Will("will", b"gone"), ("a/+", "b"))


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def broker_that(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A raw TCP or TLS server in place of a broker."""

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


def test_a_broker_that_never_answers_connect_is_given_up() -> None:
    async def main() -> None:
        done = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            while await reader.read(1000):
                pass
            done.set()

        async with broker_that(silent) as port:
            heard = Heard()
            pipe = pipe_to(port, heard, connect_timeout_s=0.2)
            await pipe.open()
            await heard.until(lambda: heard.troubles)
            assert heard.troubles[0].code == "UPL-007"
            assert "did not answer CONNECT" in heard.troubles[0].text
            with pytest.raises(PipeDown):
                pipe.publish("t", b"x")
            pipe.close()
            await asyncio.wait_for(done.wait(), WAIT_S)

    asyncio.run(main())


def test_a_handshake_that_hangs_is_left_behind() -> None:
    async def main() -> None:
        async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            while await reader.read(1000):
                pass

        async with broker_that(silent) as port:
            heard = Heard()
            pipe = pipe_to(port, heard, tls=True, connect_timeout_s=0.2)
            await pipe.open()
            await heard.until(lambda: heard.troubles)
            assert heard.troubles[0].code == "UPL-001"
            pipe.close()

    asyncio.run(main())


def test_cancelling_an_attempt_leaves_no_socket_behind() -> None:
    """An unclosed socket would fail the test: warnings are errors."""

    async def main() -> None:
        arrived, ended = asyncio.Event(), asyncio.Event()

        async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            arrived.set()
            while await reader.read(1000):
                pass
            ended.set()

        async with broker_that(silent) as port:
            heard = Heard()
            pipe = pipe_to(port, heard, tls=True, connect_timeout_s=0.5)
            task = asyncio.create_task(pipe.open())
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            pipe.close()
            await asyncio.wait_for(ended.wait(), WAIT_S)
            assert heard.troubles == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"\x20\x03\x00\x87\x00", "UPL-004"),  # CONNACK not authorized
        (b"\x20\x03\x00\x89\x00", "UPL-005"),  # server busy
        (b"\xff\xff\xff\xff\xff", "UPL-007"),  # no MQTT at all
        (b"", "UPL-007"),  # closed at once
        # CONNACK, then SUBACK with one subscription not authorized.
        (b"\x20\x03\x00\x00\x00" + b"\x90\x05\x00\x01\x00\x01\x87", "UPL-004"),
    ],
)
def test_refusals_are_told_once_with_their_reason(answer: bytes, code: str) -> None:
    async def main() -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            writer.write(answer)
            if answer.startswith(b"\x20"):
                await reader.read(1000)

        async with broker_that(refuse) as port:
            heard = Heard()
            pipe = pipe_to(port, heard)
            await pipe.open()
            await heard.until(lambda: heard.troubles)
            pipe.close()
            assert [trouble.code for trouble in heard.troubles] == [code]
            assert heard.limits is None

    asyncio.run(main())


def test_the_brokers_limits_are_passed_on() -> None:
    async def main() -> None:
        async def small(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            # Receive Maximum 7, Maximum Packet Size 40000.
            properties = b"\x21\x00\x07" + b"\x27" + (40_000).to_bytes(4)
            body = b"\x00\x00" + bytes([len(properties)]) + properties
            writer.write(b"\x20" + bytes([len(body)]) + body)
            await reader.read(1000)
            writer.write(b"\x90\x05\x00\x01\x00\x01\x01")
            await reader.read(1000)

        async with broker_that(small) as port:
            heard = Heard()
            pipe = pipe_to(port, heard)
            await pipe.open()
            await heard.until(lambda: heard.limits)
            assert heard.limits == Limits(7, 40_000 - 1024)
            pipe.close()

    asyncio.run(main())


def test_packets_that_share_a_tls_record_are_all_read(tmp_path: Path) -> None:
    """After the first the descriptor is silent; the others wait decrypted inside the TLS layer."""
    authority = Mosquitto(tmp_path, tls=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "mosquitto/broker.pem", tmp_path / "mosquitto/broker-key.pem")

    async def main() -> None:
        async def burst(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            writer.write(b"\x20\x03\x00\x00\x00")
            await reader.read(1000)
            writer.write(b"\x90\x05\x00\x01\x00\x01\x01")
            writer.write(b"".join(b"\x30\x05\x00\x01b\x00" + bytes([n]) for n in range(6)))
            await reader.read(1000)

        async with broker_that(burst, server) as port:
            heard = Heard()
            pipe = pipe_to(port, heard, tls=True, ca=authority.ca)
            await pipe.open()
            await heard.until(lambda: len(heard.messages) == 6)
            assert [payload[0] for _, payload in heard.messages] == list(range(6))
            pipe.close()

    asyncio.run(main())


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_burst_of_large_messages_comes_through_both_ways(
    tmp_path: Path, tls: bool, protocol: str
) -> None:
    """Several packets in one TLS record, and packets larger than the socket takes at once."""
    with Mosquitto(tmp_path, tls=tls) as broker:

        async def main() -> None:
            heard = Heard()
            ca = broker.ca if tls else None
            pipe = pipe_to(broker.port, heard, tls=tls, ca=ca, protocol=protocol)
            await pipe.open()
            await heard.until(lambda: heard.limits)
            assert pipe._socket is not None
            assert pipe._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            sizes = [10, 90_000, 11, 12, 60_000] * 4
            mids = [
                pipe.publish(f"a/{number}", bytes([number]) * size)
                for number, size in enumerate(sizes)
            ]
            await heard.until(lambda: len(heard.messages) == len(sizes))
            await heard.until(lambda: len(heard.acked_mids) == len(sizes))
            assert [mid for mid, _ in heard.acked_mids] == mids
            assert [(int(t[2:]), len(p)) for t, p in heard.messages] == list(enumerate(sizes))
            pipe.close()
            pipe.close()
            with pytest.raises(PipeDown):
                pipe.publish("t", b"x")
            assert heard.troubles == []

        asyncio.run(main())
