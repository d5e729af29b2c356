"""The simulated back end behind a real mosquitto, with records signed by joserfc."""

from __future__ import annotations

import hashlib
import json
import queue
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support.mosquitto import HOST, Mosquitto
from support.simulator import Simulator
from support.station_records import GENESIS, RecordChain, payload_of

ROOT, TENANT = "voltill", "abc"
PREFIX = f"{ROOT}/v1/{TENANT}"
WAIT_S = 10


class Peer:
    """A station's MQTT side, bare: publishes what it is told, queues what comes."""

    def __init__(self, port: int, station: str, v5: bool = True) -> None:
        protocol = MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311
        self.v5, self.station = v5, station
        self.acks: queue.Queue[str] = queue.Queue()
        self.states: queue.Queue[dict[str, Any]] = queue.Queue()
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self.client.on_message = self._message
        ready: queue.Queue[bool] = queue.Queue()
        self.client.on_subscribe = lambda *_: ready.put(True)
        topics = [(f"{PREFIX}/{station}/ack/records", 1), (f"{PREFIX}/backend/state", 1)]
        self.client.on_connect = lambda *_: self.client.subscribe(topics)
        self.client.connect_async(HOST, port)  # connect() before loop_start() leaks a socket pair
        self.client.loop_start()
        ready.get(timeout=WAIT_S)

    def _message(self, _client: object, _userdata: object, message: Any) -> None:
        if message.topic.endswith("ack/records"):
            self.acks.put(message.payload.decode())
        else:
            self.states.put(json.loads(message.payload))

    def send(self, name: str, body: object, content: str | None = None) -> None:
        properties = None
        if self.v5:
            properties = Properties(PacketTypes.PUBLISH)
            batch = "-batch" if isinstance(body, list) else ""
            properties.ContentType = content or f"application/cloudevents{batch}+json"
        topic = f"{PREFIX}/{self.station}/{name}"
        info = self.client.publish(topic, json.dumps(body), qos=1, properties=properties)
        info.wait_for_publish(WAIT_S)

    def ack(self, pem: Path) -> dict[str, Any]:
        """The next ack, verified by joserfc with the back end's published key."""
        text = self.acks.get(timeout=WAIT_S)
        opened = jws.deserialize_compact(text, ECKey.import_key(pem.read_bytes()))
        assert opened.headers()["typ"] == "voltill-ack+jws"
        return json.loads(opened.payload)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        del self.client  # it and its callbacks hold each other, and with them paho's socket pair


class Bench:
    def __init__(self, folder: Path, broker: Mosquitto, chain: RecordChain, v5: bool) -> None:
        self.folder, self.broker, self.chain = folder, broker, chain
        self.pem, self.db = folder / "backend.pem", folder / "backend.sqlite"
        trust = folder / "trust"
        trust.mkdir()
        chain.write_public(trust / "station.pem")
        options = ["--url", broker.url, "--root", ROOT, "--tenant", TENANT, "--db", str(self.db)]
        options += ["--key", str(folder / "key.pem"), "--public-key-out", str(self.pem)]
        options += ["--trust-dir", str(trust), "--protocol", "5" if v5 else "3.1.1"]
        self.backend = Simulator("backend", folder, *options)
        self.backend.start()
        self.peer = Peer(broker.port, chain.station, v5)

    def ack(self) -> dict[str, Any]:
        return self.peer.ack(self.pem)

    def rows(self, table: str) -> list[sqlite3.Row]:
        with closing(sqlite3.connect(self.db)) as db:
            db.row_factory = sqlite3.Row
            return db.execute(f"SELECT * FROM {table}").fetchall()


@contextmanager
def bench_with(folder: Path, chain: RecordChain, v5: bool = True) -> Iterator[Bench]:
    with Mosquitto(folder) as broker:
        bench = Bench(folder, broker, chain, v5)
        try:
            yield bench
        finally:
            bench.peer.close()
            bench.backend.__exit__()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_with(tmp_path, RecordChain()) as made:
        yield made


@pytest.mark.parametrize("v5", [True, False], ids=["mqtt5", "mqtt311"])
def test_a_record_is_kept_byte_for_byte_and_acknowledged(tmp_path: Path, v5: bool) -> None:
    chain = RecordChain()
    with bench_with(tmp_path, chain, v5) as bench:
        text = chain.add("session")
        bench.peer.send("rec/session", chain.event(1, "session"))
        ack = bench.ack()
        assert {
            k: ack[k] for k in ("station", "chain", "through_seq", "hash", "holes", "refused")
        } == {
            "station": chain.station,
            "chain": chain.chain,
            "through_seq": 1,
            "hash": hashlib.sha256(text.encode()).hexdigest(),
            "holes": [],
            "refused": [],
        }
        assert ack["time"].endswith("Z")
        (row,) = bench.rows("record")
        assert (row["jws"], row["type"], row["seq"]) == (text, "session", 1)
        (shown,) = bench.backend.ask("records", station=chain.station)["records"]
        assert shown["payload"] == payload_of(text)


def test_holes_are_named_until_they_are_filled(bench: Bench) -> None:
    for _ in range(5):
        bench.chain.add()
    events = [bench.chain.event(n) for n in range(1, 6)]
    bench.peer.send("rec/batch", [events[0], events[4]])
    ack = bench.ack()
    assert (ack["through_seq"], ack["holes"]) == (1, [2, 3, 4])
    bench.peer.send("rec/settlement", events[2])
    assert bench.ack()["holes"] == [2, 4]
    bench.peer.send("rec/batch", [events[3], events[1]])
    ack = bench.ack()
    assert (ack["through_seq"], ack["holes"], ack["hash"]) == (5, [], bench.chain.hash(5))


def test_a_duplicate_is_acknowledged_again_and_kept_once(bench: Bench) -> None:
    bench.chain.add()
    for _ in range(2):
        bench.peer.send("rec/settlement", bench.chain.event(1))
        assert bench.ack()["through_seq"] == 1
    assert len(bench.rows("record")) == 1
    assert bench.rows("alarm") == []


def test_the_same_place_with_another_text_is_a_fork(bench: Bench) -> None:
    first = bench.chain.add()
    bench.peer.send("rec/settlement", bench.chain.event(1))
    bench.ack()
    other = bench.chain.make(1, outcome="captured")
    bench.peer.send("rec/settlement", bench.chain.event(1, data=other))
    ack = bench.ack()
    assert ack["refused"] == [{"seq": 1, "code": "fork"}]
    assert ack["hash"] == hashlib.sha256(first.encode()).hexdigest()
    assert [row["jws"] for row in bench.rows("record")] == [first]
    assert [row["jws"] for row in bench.rows("fork")] == [other]
    assert [row["code"] for row in bench.rows("alarm")] == ["fork"]


def test_what_does_not_verify_is_refused_by_name_and_not_kept(bench: Bench) -> None:
    chain = bench.chain
    good = chain.make(1)
    body, signature = good.rsplit(".", 1)
    flipped = ("B" if signature[5] != "B" else "C").join((signature[:5], signature[6:]))
    stranger = RecordChain()
    bad = {
        "bad_signature": f"{body}.{flipped}",
        "unknown_key": stranger.make(1),
        "malformed": chain.make(1, amount=1.5),
        "envelope": chain.make(1, station="DE*ABC*S2"),
    }
    for code, text in bad.items():
        bench.peer.send("rec/settlement", chain.event(1, data=text))
        if code != "malformed":  # with a float in it nothing is read, so nothing can be named
            assert bench.ack()["refused"] == [{"seq": 1, "code": code}], code
    bench.backend.ask("wait", messages=len(bad), timeout_s=WAIT_S)
    assert bench.rows("record") == []
    assert [row["code"] for row in bench.rows("refused")] == list(bad)
    bench.peer.send("rec/settlement", chain.event(1, data=good))
    assert bench.ack()["through_seq"] == 1


def test_a_record_that_does_not_link_stops_the_chain(bench: Bench) -> None:
    bench.chain.add()
    bench.chain.add(prev="f" * 64)
    bench.chain.add()
    bench.peer.send("rec/batch", [bench.chain.event(n) for n in (1, 2, 3)])
    ack = bench.ack()
    assert (ack["through_seq"], ack["hash"]) == (1, bench.chain.hash(1))
    assert ack["refused"] == [{"seq": 2, "code": "prev_mismatch"}]


def test_a_first_record_must_start_from_zeros(bench: Bench) -> None:
    bench.chain.add(prev="1" * 64)
    bench.peer.send("rec/settlement", bench.chain.event(1))
    ack = bench.ack()
    assert (ack["through_seq"], ack["hash"]) == (0, GENESIS)
    assert ack["refused"] == [{"seq": 1, "code": "prev_mismatch"}]


def test_a_key_that_belongs_to_another_station_is_refused(bench: Bench, tmp_path: Path) -> None:
    bench.chain.add()
    bench.peer.send("rec/settlement", bench.chain.event(1))
    bench.ack()
    late = RecordChain(
        chain="other"
    )  # its key arrives only now: trusted folders are looked at again
    late.write_public(tmp_path / "trust" / "late.pem")
    late.add()
    bench.peer.send("rec/settlement", late.event(1))
    assert bench.ack()["refused"] == [{"seq": 1, "code": "other_key"}]
    bench.backend.ask("unbind_key", station=late.station)
    bench.peer.send("rec/settlement", late.event(1))
    assert bench.ack()["through_seq"] == 1


@pytest.mark.parametrize(
    ("name", "body", "content"),
    [
        ("rec/session", {"specversion": "1.0"}, None),
        ("rec/session", [], None),
        ("rec/batch", {"specversion": "1.0"}, None),
        ("rec/session", "text", None),
        ("rec/batch", ["x" * 98_400], None),
        ("rec/batch", [], "application/json"),
        ("state/agent", {"online": "yes"}, None),
    ],
)
def test_rubbish_is_alarmed_and_harmless(
    bench: Bench, name: str, body: object, content: str
) -> None:
    bench.peer.send(name, body, content)
    state = bench.backend.ask("wait", messages=1, timeout_s=WAIT_S)
    assert [alarm["code"] for alarm in state["alarms"]] == ["message"]
    bench.chain.add()
    bench.peer.send("rec/settlement", bench.chain.event(1))
    assert bench.ack()["through_seq"] == 1


def test_acks_can_be_held_and_resumed(bench: Bench) -> None:
    bench.backend.ask("hold_acks")
    for _ in range(2):
        bench.chain.add()
    bench.peer.send("rec/settlement", bench.chain.event(1))
    bench.peer.send("rec/settlement", bench.chain.event(2))
    state = bench.backend.ask("wait", station=bench.chain.station, seq=2, timeout_s=WAIT_S)
    assert (state["acks_waiting"], state["acks_sent"]) == (1, 0)
    assert len(bench.rows("record")) == 2, "stored, although not acknowledged"
    assert bench.backend.ask("resume_acks") == {"sent": 1}
    assert bench.ack()["through_seq"] == 2


@pytest.mark.parametrize("abrupt", [False, True], ids=["goodbye", "will"])
def test_the_retained_state_says_when_it_is_away(bench: Bench, abrupt: bool) -> None:
    state = bench.peer.states.get(timeout=WAIT_S)
    assert state["online"] is True
    assert state["time"].endswith("Z")
    bench.backend.ask("offline", abrupt=abrupt)
    assert bench.peer.states.get(timeout=WAIT_S) == {"online": False}
    bench.chain.add()
    bench.peer.send("rec/settlement", bench.chain.event(1))  # nobody takes it
    bench.backend.ask("online")
    assert bench.peer.states.get(timeout=WAIT_S)["online"] is True
    bench.peer.send("rec/settlement", bench.chain.event(1))
    assert bench.ack()["through_seq"] == 1


def test_a_late_will_of_an_older_connection_is_ignored(bench: Bench) -> None:
    birth = {"online": True, "boot": "b1", "conn": 1, "version": "0", "outbox": 0}
    station = bench.chain.station
    for state, online in (
        (birth, True),
        ({**birth, "conn": 2}, True),
        ({"online": False, "boot": "b1", "conn": 1}, True),
        ({"online": False, "boot": "b1", "conn": 2}, False),
    ):
        before = bench.backend.ask("state")["messages"]
        bench.peer.send("state/agent", state)
        bench.backend.ask(
            "wait", station=station, online=online, messages=before + 1, timeout_s=WAIT_S
        )


def test_what_was_acknowledged_survives_sigkill(bench: Bench) -> None:
    bench.chain.add()
    bench.peer.send("rec/settlement", bench.chain.event(1))
    bench.ack()
    bench.backend.kill()
    assert len(bench.rows("record")) == 1
    bench.backend.start()
    bench.chain.add()
    bench.peer.send("rec/settlement", bench.chain.event(2))
    assert bench.ack()["through_seq"] == 2, "and it kept its key"


def test_it_comes_back_after_the_broker_was_restarted(bench: Bench) -> None:
    bench.chain.add()
    bench.broker.kill()
    bench.broker.start()
    peer = Peer(bench.broker.port, bench.chain.station)
    try:
        assert peer.states.get(timeout=WAIT_S)["online"] is True
        peer.send("rec/settlement", bench.chain.event(1))
        assert peer.ack(bench.pem)["through_seq"] == 1
    finally:
        peer.close()


def test_over_tls_with_a_client_certificate(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, tls=True, require_certificate=True) as broker:
        certificate, key = broker.client("backend")
        options = ["--url", broker.url, "--root", ROOT, "--tenant", TENANT]
        options += ["--db", str(tmp_path / "db"), "--key", str(tmp_path / "key")]
        with pytest.raises(RuntimeError, match="cannot start"):
            Simulator("backend", tmp_path, *options).start()
        options += ["--ca", str(broker.ca), "--certificate", str(certificate)]
        with Simulator("backend", tmp_path, *options, "--certificate-key", str(key)) as backend:
            assert backend.ask("state")["online"] is True
            assert backend.stop() == 0
