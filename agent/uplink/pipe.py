"""MQTT as a dumb pipe: paho on the event loop, without its thread, its queue or its reconnects.

One Pipe is one connection. Nothing waits inside it while it is down: publishing is refused, because what
paho keeps in memory is neither durable nor bounded. What was measured and found about paho 2:

* Without TCP_NODELAY each round trip of a request and its answer costs 40 to 90 ms.
* With TLS several packets may sit decrypted in the socket while the descriptor is silent: read on.
* A failed PUBACK counts as published for paho: the reason code must be looked at.
* `connect` blocks in DNS, TCP and TLS, so it runs in a thread; the callbacks it makes run there too.
* The reason for a lost connection is only in its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.uplink.drain import WINDOW
from agent.uplink.envelope import MAX_MESSAGE_BYTES
from agent.uplink.trouble import Trouble, of_connack, of_exception, of_loss

# The birth message and a close in progress may stand beside a full window.
INFLIGHT = WINDOW + 4
# What the broker may send us: acks and state are far smaller. Bounds memory (MQTT 5 only).
MAX_PACKET_IN = 256 * 1024
# Keep-alive and ping timeouts are looked after this often; more often costs wake-ups.
TICK_S = 5.0
# After a shutdown at most what the kernel had buffered is left to read before the end shows.
MAX_DRAINED_READS = 10_000
# What a packet adds around a payload: header, topic, properties.
PACKET_ROOM = 1024


@dataclass(frozen=True, slots=True)
class PipeConfig:
    """Where to connect and as whom. `protocol`: "5" or "3.1.1". `ca` None: the system's authorities.
    `certificate` and `key` both or neither."""

    host: str
    port: int
    client_id: str
    tls: bool
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    protocol: str = "5"
    keep_alive_s: int = 30
    connect_timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the connection is lost."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker takes: messages without PUBACK, bytes of one payload."""

    window: int
    max_bytes: int


class PipeEvents(Protocol):
    """Called on the event loop."""

    def up(self, limits: Limits) -> None:
        """Connected and subscribed."""

    def down(self, trouble: Trouble) -> None:
        """Once, and never after `close`."""

    def acked(self, mid: int, refused: str | None) -> None:
        """PUBACK for message `mid`; `refused` is the broker's reason when it did not take it."""

    def message(self, topic: str, payload: bytes) -> None: ...


class Pipe(Protocol):
    """What the uplink needs of a connection; the seam a simulator replaces."""

    async def open(self) -> None:
        """Connect and subscribe; `up` or `down` follows."""

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, content_type: str | None = None
    ) -> int:
        """QoS 1; the message id, `acked` follows. Raises PipeDown."""

    def close(self) -> None:
        """Leave. A pipe that is up says DISCONNECT, so its will is not published."""


class PipeDown(ConnectionError):
    """Nothing was sent: the connection is not up."""


class _Context(ssl.SSLContext):
    """Remembers the socket, so that it can be closed when the handshake fails: paho forgets it."""

    last: ssl.SSLSocket | None = None

    def wrap_socket(self, *args: Any, **named: Any) -> ssl.SSLSocket:
        self.last = super().wrap_socket(*args, **named)
        return self.last


def tls_context(config: PipeConfig) -> ssl.SSLContext:
    """Server certificate and name are always checked. Raises OSError (also ssl.SSLError)."""
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cafile=config.ca)
    if config.certificate is not None:
        # An encrypted key would make OpenSSL ask on the terminal: give it a wrong answer instead.
        context.load_cert_chain(config.certificate, config.key, password=lambda: b"")
    return context


class MqttPipe:
    """`subscriptions` are made (QoS 1) before `up` is told."""

    def __init__(
        self, config: PipeConfig, events: PipeEvents, will: Will, subscriptions: tuple[str, ...]
    ) -> None:
        self._config, self._events, self._subscriptions = config, events, subscriptions
        self._will = will
        self._loop = asyncio.get_running_loop()
        self._client: Client | None = None
        self._context: ssl.SSLContext | None = None
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._limits = Limits(WINDOW, MAX_MESSAGE_BYTES)
        self._live = self._told = self._closed = False
        self._last_log = ""

    # --- The Pipe protocol ------------------------------------------------------------------------

    async def open(self) -> None:
        connecting = self._loop.run_in_executor(None, self._connect)
        try:
            # DNS has no timeout of its own; the thread cannot be stopped, only left behind.
            async with asyncio.timeout(self._config.connect_timeout_s * 2):
                client = await asyncio.shield(connecting)
        except TimeoutError as error:
            connecting.add_done_callback(self._leave_behind)
            return self._down(of_exception(error, self._config.host, self._config.port))
        except asyncio.CancelledError:
            connecting.add_done_callback(self._leave_behind)
            raise
        except (OSError, ValueError) as error:
            self._close_failed_handshake()
            return self._down(of_exception(error, self._config.host, self._config.port))
        self._client = client
        sock = client.socket()
        if self._closed or not isinstance(sock, socket.socket):
            self._drop(client)
            return self._down(of_loss("closed while connecting"))
        self._socket = sock
        self._loop.add_reader(sock, self._read)
        if client.want_write():
            self._loop.add_writer(sock, self._write)
        self._deadline = self._loop.call_later(self._config.connect_timeout_s, self._no_answer)
        self._tick()
        return None

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, content_type: str | None = None
    ) -> int:
        if not self._live or self._client is None:
            raise PipeDown("the MQTT connection is not up")
        properties = None
        if self._config.protocol == "5":
            properties = _properties(PacketTypes.PUBLISH)
            properties.PayloadFormatIndicator = 1
            if content_type is not None:
                properties.ContentType = content_type
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise PipeDown(f"paho refused the message: {info.rc!r}")
        return info.mid

    def close(self) -> None:
        self._closed = True
        client, live = self._client, self._live
        self._live = False
        if client is None:
            return
        if live:
            client.disconnect()
            client.loop_write()  # what still fits into the socket, the DISCONNECT last
        self._drop(client)

    # --- Connecting, in a thread ------------------------------------------------------------------

    def _connect(self) -> Client:
        config = self._config
        client = self._make_client()
        if config.tls:
            self._context = tls_context(config)
            client.tls_set_context(self._context)
        if config.protocol == "5":
            properties = _properties(PacketTypes.CONNECT)
            properties.MaximumPacketSize = MAX_PACKET_IN
            client.connect(config.host, config.port, config.keep_alive_s, properties=properties)
        else:
            client.connect(config.host, config.port, config.keep_alive_s)
        return client

    def _make_client(self) -> Client:
        v5 = self._config.protocol == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._config.client_id,
            clean_session=None if v5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._config.connect_timeout_s
        client.max_inflight_messages_set(INFLIGHT)  # only takes effect before connecting
        client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        client.on_socket_open = lambda c, u, s: _no_delay(s)
        client.on_socket_close = lambda c, u, s: self._detach()
        client.on_socket_register_write = lambda c, u, s: self._want_write()
        client.on_socket_unregister_write = lambda c, u, s: self._no_write()
        client.on_connect = lambda c, u, f, reason, p: self._on_connack(reason, p)
        client.on_disconnect = lambda c, u, f, reason, p: self._on_disconnect(f, reason)
        client.on_subscribe = lambda c, u, mid, reasons, p: self._on_suback(reasons)
        client.on_publish = lambda c, u, mid, reason, p: self._events.acked(
            mid, str(reason) if reason.is_failure else None
        )
        client.on_message = lambda c, u, m: self._events.message(m.topic, bytes(m.payload))
        client.on_log = lambda c, u, level, text: self._on_log(level, text)
        return client

    def _leave_behind(self, connecting: asyncio.Future[Client]) -> None:
        """A connection that came after nobody wanted it any more."""
        if connecting.cancelled() or connecting.exception() is not None:
            self._close_failed_handshake()
        else:
            self._drop(connecting.result())

    def _close_failed_handshake(self) -> None:
        if isinstance(self._context, _Context) and self._context.last is not None:
            self._context.last.close()

    # --- paho's callbacks -------------------------------------------------------------------------

    def _on_connack(self, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._down(of_connack(str(reason)))
            return
        window = getattr(properties, "ReceiveMaximum", WINDOW)
        room = getattr(properties, "MaximumPacketSize", MAX_MESSAGE_BYTES + PACKET_ROOM)
        self._limits = Limits(min(window, WINDOW), min(room - PACKET_ROOM, MAX_MESSAGE_BYTES))
        assert self._client is not None
        self._client.subscribe([(topic, 1) for topic in self._subscriptions])

    def _on_suback(self, reasons: list[Any]) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            # Without acks nothing is ever delivered: no better than no connection.
            self._down(of_connack(f"subscription refused: {', '.join(refused)}"))
            return
        if self._deadline is not None:
            self._deadline.cancel()
        if not self._closed and not self._told:
            self._live = True
            self._events.up(self._limits)

    def _on_disconnect(self, flags: Any, reason: Any) -> None:
        told_by_broker = flags.is_disconnect_packet_from_server
        self._down(of_loss(str(reason) if told_by_broker else self._last_log or str(reason)))

    def _on_log(self, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._last_log = text

    # --- The socket on the loop -------------------------------------------------------------------

    def _read(self) -> None:
        sock, client = self._socket, self._client
        if sock is None or client is None:
            return
        client.loop_read()
        while self._socket is sock and isinstance(sock, ssl.SSLSocket) and sock.pending():
            client.loop_read()

    def _write(self) -> None:
        if self._client is not None:
            self._client.loop_write()

    def _want_write(self) -> None:
        if self._socket is not None:
            self._loop.add_writer(self._socket, self._write)

    def _no_write(self) -> None:
        if self._socket is not None:
            self._loop.remove_writer(self._socket)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        if self._client is not None:
            self._client.loop_misc()

    def _no_answer(self) -> None:
        self._down(of_loss("the broker did not answer CONNECT and SUBSCRIBE in time"))

    # --- The end ----------------------------------------------------------------------------------

    def _down(self, trouble: Trouble) -> None:
        self._live = False
        if not self._told and not self._closed:
            self._told = True
            # Later, so that nobody closes the client inside its own callback.
            self._loop.call_soon(self._tell_down, trouble)

    def _tell_down(self, trouble: Trouble) -> None:
        if not self._closed:
            self._events.down(trouble)

    def _detach(self) -> None:
        """paho is about to close the socket. During `_connect` this runs in its thread, before the
        loop knows of any socket."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
        for handle in (self._timer, self._deadline):
            if handle is not None:
                handle.cancel()

    def _drop(self, client: Client) -> None:
        """Close the socket without ceremony; the public way is to make its next read fail."""
        sock = client.socket()
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            for _ in range(MAX_DRAINED_READS):
                if client.socket() is None:
                    break
                client.loop_read()
        self._detach()


def _properties(packet: int) -> Any:
    return Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves this class untyped


def _no_delay(sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


OpenPipe = Callable[[PipeEvents, Will, tuple[str, ...]], Pipe]


def mqtt(config: PipeConfig) -> OpenPipe:
    """What the uplink calls for each connection."""
    return functools.partial(_mqtt, config)


def _mqtt(
    config: PipeConfig, events: PipeEvents, will: Will, subscriptions: tuple[str, ...]
) -> Pipe:
    return MqttPipe(config, events, will, subscriptions)
