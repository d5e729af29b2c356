"""A back end for uplink tests: an independent MQTT client (paho in its own thread) and joserfc.

It keeps every message as it came, and acknowledges when told to, as told to."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives import serialization
from joserfc import jws
from joserfc.jwk import ECKey
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

GENESIS = "0" * 64
WAIT_S = 20.0


class Signer:
    """A back end's signing key."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", private=True)
        der = self.key.public_key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.kid = hashlib.sha256(der).hexdigest()

    def pem(self) -> bytes:
        return self.key.as_pem(private=False)

    def sign(self, payload: dict[str, Any]) -> str:
        header = {"alg": "ES256", "kid": self.kid, "typ": "voltill-ack+jws"}
        return jws.serialize_compact(header, json.dumps(payload).encode(), self.key)


class AckBackend:
    """`auto`: acknowledge each message as it comes. All waits are on a condition."""

    def __init__(
        self, url: str, station: str, *, root: str = "voltill", tenant: str = "abc"
    ) -> None:
        self.base = f"{root}/v1/{tenant}"
        self.station = station
        self.signer = Signer()
        self.auto = True
        self.lose: Callable[[int], bool] = lambda seq: False
        self.changed = threading.Condition()
        self.messages: list[tuple[str, bytes, str | None]] = []
        self.states: list[dict[str, Any]] = []
        self.records: dict[int, str] = {}
        self.arrivals: list[int] = []
        self.acks: list[str] = []
        self.chain = ""
        self._clock = 1_790_000_000
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port or 1883
        self._client: mqtt.Client | None = None
        self._ready = threading.Event()

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> AckBackend:
        client = self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id="",
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        client.on_connect = lambda c, *_: c.subscribe(
            [(f"{self.base}/+/rec/+", 1), (f"{self.base}/+/state/agent", 1)]
        )
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_disconnect = lambda *_: self._ready.clear()
        client.on_message = lambda c, u, message: self._take(message)
        client.reconnect_delay_set(1, 1)
        client.connect(*self._address)
        client.loop_start()
        assert self._ready.wait(WAIT_S), "the back end could not subscribe"
        return self

    def stop(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def __enter__(self) -> AckBackend:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- verbs --------------------------------------------------------------------------------

    def say_online(self, online: bool = True) -> None:
        assert self._ready.wait(WAIT_S), "the back end is not connected"
        self._publish(f"{self.base}/backend/state", json.dumps({"online": online}), retain=True)

    def ack(self, **change: Any) -> None:
        """Sign and send what is here; `change` overrides payload members, `signer` the key."""
        signer = change.pop("signer", self.signer)
        self._clock += 1
        through = 0
        while through + 1 in self.records:
            through += 1
        known = self.records.get(through)
        top = max(self.records, default=0)
        payload = {
            "station": self.station,
            "chain": self.chain,
            "through_seq": through,
            "hash": hashlib.sha256(known.encode()).hexdigest() if known else GENESIS,
            "holes": [seq for seq in range(through + 1, top) if seq not in self.records],
            "refused": [],
            "time": _iso(self._clock),
            **change,
        }
        self.acks.append(signer.sign(payload))
        self._publish(f"{self.base}/{self.station}/ack/records", self.acks[-1])

    def send_raw_ack(self, payload: bytes) -> None:
        self._publish(f"{self.base}/{self.station}/ack/records", payload)

    def wait(self, what: Callable[[], Any], why: str = "") -> Any:
        with self.changed:
            assert self.changed.wait_for(what, WAIT_S), why or "the back end waited in vain"
            return what()

    def _publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        assert self._client is not None
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if threading.current_thread() is threading.main_thread():
            info.wait_for_publish(WAIT_S)

    def _take(self, message: mqtt.MQTTMessage) -> None:
        payload = bytes(message.payload)
        with self.changed:
            if message.topic.endswith("/state/agent"):
                self.states.append(json.loads(payload))
            else:
                content = getattr(message.properties, "ContentType", None)
                self.messages.append((message.topic, payload, content))
                self._keep(payload)
            self.changed.notify_all()
        if self.auto and "/rec/" in message.topic:
            self.ack()

    def _keep(self, payload: bytes) -> None:
        body = json.loads(payload)
        for event in body if isinstance(body, list) else [body]:
            self.chain, _, seq = event["id"].rpartition("-")
            self.arrivals.append(int(seq))
            if not self.lose(int(seq)):
                self.records[int(seq)] = event["data"]


def _iso(utc_s: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
