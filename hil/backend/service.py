"""The back end as a process: paho on its own thread, the control socket on the loop."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hil.backend.database import Coverage
from hil.backend.intake import Intake, utc_now
from hil.backend.jose import payload_of
from hil.common.control import Answer, ControlError, ControlServer

STATE_EVERY_S = 30  # the retained state is renewed, so that a station can tell a stale one
CONNECT_S = 10.0
LEAVE_S = 2.0  # for the farewell; without it the broker's will says the same
RECONNECT_S = (1, 5)
MAX_INFLIGHT_ACKS = 20
MAX_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Link:
    """Where the broker is. `url`: mqtt://host:port or mqtts://host:port."""

    url: str
    protocol: str = "5"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_id: str = "voltill-bench-backend"

    def address(self) -> tuple[str, int, bool]:
        parts = urlsplit(self.url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError(
                f"--url is {self.url!r}; expected mqtt://host:port or mqtts://host:port"
            )
        tls = parts.scheme == "mqtts"
        return parts.hostname, parts.port or (8883 if tls else 1883), tls


class Backend:
    def __init__(self, link: Link, intake: Intake, control: Path) -> None:
        self.link, self.intake = link, intake
        self.control = ControlServer(
            control,
            {
                "state": self.state,
                "records": self.records,
                "rows": self.rows,
                "wait": self._wait,
                "hold_acks": self._hold_acks,
                "resume_acks": self._resume_acks,
                "ack": self._ack_now,
                "offline": self._offline,
                "online": self._online,
                "unbind_key": self._unbind_key,
            },
        )
        self.prefix = f"{intake.root}/v1/{intake.tenant}"
        self.held = False
        self.messages = self.acks_sent = 0
        self._waiting: dict[tuple[str, str], Coverage] = {}
        self._lock = threading.Lock()  # guards the database and everything the paho thread touches
        self._client: Client | None = None
        self._connected = False
        self._moved = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: asyncio.Future[BaseException] | None = None
        self._renewal: asyncio.Task[None] | None = None

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> Backend:
        self._loop = asyncio.get_running_loop()
        self._failure = self._loop.create_future()
        await self.control.start()
        try:
            await self._online(CONNECT_S)
        except BaseException:
            await self.close()
            raise
        self._renewal = asyncio.ensure_future(self._renew_state())
        return self

    async def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        await self._offline()
        await self.control.close()
        with self._lock:
            self.intake.database.close()

    async def failed(self) -> BaseException:
        assert self._failure is not None
        return await self._failure

    async def _renew_state(self) -> None:
        while True:
            await asyncio.sleep(STATE_EVERY_S)
            if self._connected and self._client is not None:
                self._publish_state(self._client, True)

    # --- MQTT (callbacks run on paho's thread) --------------------------------------------------

    def _make_client(self) -> Client:
        v5 = self.link.protocol == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.link.client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,  # a PUBACK goes out after the commit, never before
        )
        client.max_inflight_messages_set(MAX_INFLIGHT_ACKS)
        client.reconnect_delay_set(*RECONNECT_S)
        client.will_set(f"{self.prefix}/backend/state", _state(False), qos=1, retain=True)
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        if self.link.address()[2]:
            client.tls_set_context(self._tls())
        return client

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.link.ca) if self.link.ca else None)
        if self.link.certificate is not None:
            context.load_cert_chain(self.link.certificate, self.link.key)
        return context

    def _on_connect(
        self,
        client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if code.is_failure:
            return
        # Not state/#: that also matches our own backend/state.
        client.subscribe([(f"{self.prefix}/+/rec/#", 1), (f"{self.prefix}/+/state/+", 1)])

    def _on_subscribe(
        self,
        client: Client,
        _userdata: object,
        _mid: int,
        _codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        # Online from here on, not from CONNACK: what is published in between reaches nobody.
        self._publish_state(client, True)
        self._connected = True
        self._tell()

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        _code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._connected = False
        self._tell()

    def _on_message(self, client: Client, _userdata: object, message: MQTTMessage) -> None:
        try:
            with self._lock:
                self.messages += 1
                for chain in self._take(message):
                    self._waiting[chain.station, chain.chain] = chain
                if not self.held:
                    self._send_acks(client)
            client.ack(message.mid, message.qos)
        except Exception as error:  # noqa: BLE001  # paho's thread would die silently: end the process
            self._fail(error)
        self._tell()

    def _take(self, message: MQTTMessage) -> list[Coverage]:
        content_type = getattr(message.properties, "ContentType", None)  # MQTT 5 only
        return self.intake.take(message.topic, bytes(message.payload), content_type)

    def _send_acks(self, client: Client) -> None:
        for coverage in self._waiting.values():
            topic, text = self.intake.ack(coverage)
            client.publish(topic, text, qos=1)
            self.acks_sent += 1
        self._waiting.clear()

    def _publish_state(self, client: Client, online: bool) -> None:
        client.publish(f"{self.prefix}/backend/state", _state(online), qos=1, retain=True)

    def _fail(self, error: BaseException) -> None:
        def fail() -> None:
            if self._failure is not None and not self._failure.done():
                self._failure.set_result(error)

        if self._loop is not None:
            self._loop.call_soon_threadsafe(fail)

    def _tell(self) -> None:
        def tell() -> None:
            self._moved.set()
            self._moved = asyncio.Event()

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(tell)

    # --- verbs --------------------------------------------------------------------------------

    async def _until(self, done: Callable[[], Any], timeout_s: float) -> Any:
        async with asyncio.timeout(timeout_s):
            while not (result := done()):
                await self._moved.wait()
            return result

    async def _online(self, timeout_s: float = CONNECT_S) -> None:
        if self._client is not None:
            return
        host, port, _tls = self.link.address()
        client = self._client = self._make_client()
        try:
            await asyncio.to_thread(client.connect, host, port)
            client.loop_start()
            await self._until(lambda: self._connected, timeout_s)
        except (OSError, ValueError) as error:
            await self._offline(abrupt=True)
            why = "no answer" if isinstance(error, TimeoutError) else str(error)
            raise OSError(f"{self.link.url} cannot be reached: {why}") from None

    async def _offline(self, abrupt: bool = False) -> None:
        """Leave the broker, saying so; `abrupt` cuts the connection so that the broker tells (will)."""
        client, self._client = self._client, None
        if client is None:
            return
        if abrupt:
            # Not a DISCONNECT: the broker must find out by itself.
            client.reconnect_delay_set(3600, 3600)
            if isinstance(sock := client.socket(), socket.socket):
                sock.shutdown(socket.SHUT_RDWR)
        elif self._connected:
            state = client.publish(
                f"{self.prefix}/backend/state", _state(False), qos=1, retain=True
            )
            await asyncio.to_thread(_published, state)
            client.disconnect()
        await asyncio.to_thread(client.loop_stop)
        self._connected = False

    def _hold_acks(self) -> None:
        with self._lock:
            self.held = True

    def _resume_acks(self) -> Answer:
        with self._lock:
            self.held = False
            sent = len(self._waiting)
            if self._client is not None:
                self._send_acks(self._client)
        return {"sent": sent}

    def _ack_now(self, station: str) -> Answer:
        """Say again how far each chain of `station` is complete."""
        with self._lock:
            for chain in self.intake.database.chains():
                if chain.station == station:
                    self._waiting.setdefault((station, chain.chain), chain)
            sent = len(self._waiting)
            if self._client is not None and not self.held:
                self._send_acks(self._client)
        return {"sent": sent}

    def _unbind_key(self, station: str) -> None:
        """Accept another key from `station`: its board was replaced."""
        with self._lock:
            self.intake.database.unbind_key(station)
            self.intake.database.commit()

    def records(
        self, station: str | None = None, from_seq: int = 1, limit: int = MAX_ROWS
    ) -> Answer:
        with self._lock:
            rows = self.intake.database.records(station, from_seq, min(limit, MAX_ROWS))
        return {"records": [{**row, "payload": payload_of(row["jws"])} for row in rows]}

    def rows(self, table: str, limit: int = 100) -> Answer:
        with self._lock:
            return {"rows": self.intake.database.rows(table, min(limit, MAX_ROWS))}

    async def _wait(
        self,
        *,
        timeout_s: float,
        station: str | None = None,
        seq: int = 0,
        chain: str | None = None,
        online: bool | None = None,
        messages: int = 0,
    ) -> Answer:
        """Returns the state when a chain of `station` is complete through `seq`, the station's own
        state says `online`, and at least `messages` came in: whatever of it was asked."""

        def done() -> Answer | None:
            seen = self.state()
            chains = [
                c
                for c in seen["chains"]
                if (station is None or c["station"] == station)
                and (chain is None or c["chain"] == chain)
            ]
            if seq and not any(c["through_seq"] >= seq for c in chains):
                return None
            if online is not None and station is not None:
                told = seen["stations"].get(station, {}).get("online")
                if told is not online:
                    return None
            return seen if seen["messages"] >= messages else None

        try:
            answer: Answer = await self._until(done, timeout_s)
        except TimeoutError:
            raise ControlError(f"not within {timeout_s} s; the state is {self.state()}") from None
        return answer

    def state(self) -> Answer:
        with self._lock:
            database = self.intake.database
            chains = database.chains()
            return {
                "online": self._connected,
                "held": self.held,
                "messages": self.messages,
                "acks_sent": self.acks_sent,
                "acks_waiting": len(self._waiting),
                "stations": database.states(),
                "chains": [
                    {
                        "station": c.station,
                        "chain": c.chain,
                        "through_seq": c.through_seq,
                        "hash": c.hash,
                        "holes": c.holes,
                        "refused": c.refused,
                    }
                    for c in chains
                ],
                "alarms": database.rows("alarm", MAX_ROWS),
                "unreadable_keys": dict(self.intake.keyring.unreadable),
                "time": utc_now(),
            }


def _state(online: bool) -> str:
    return json.dumps({"online": online, "time": utc_now()} if online else {"online": False})


def _no_delay(_client: Client, _userdata: object, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _published(info: Any) -> None:
    info.wait_for_publish(LEAVE_S)
