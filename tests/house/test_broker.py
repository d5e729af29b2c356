"""The broker in each of its three ways, for real: QoS 1 goes through, a kill leaves it startable."""

import os
import threading
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hil.broker import Broker, BrokerError, find_broker
from hil.common.ports import free_port

REPLY_TIMEOUT_S = 10
# The clone's own cache: what the demo unpacked is not fetched again, and the other way round.
CACHE = Path(__file__).resolve().parents[2] / ".venv-broker"

pytestmark = pytest.mark.timeout(300)  # packages may be fetched


def found(way: str) -> Broker:
    try:
        return find_broker(CACHE, [way])
    except BrokerError as error:
        if way == "installed":
            pytest.skip("needs mosquitto: apt-get install mosquitto")
        if "failed" in str(error) or "apt-get" in str(error).partition("Tried:")[2]:
            pytest.skip(f"needs the package index for the broker's {way} way")
        raise


def exchange(port: int, protocol: MQTTProtocolVersion, payload: bytes) -> None:
    """Subscribe, publish, receive, each acknowledged."""
    subscribed, received, left = threading.Event(), threading.Event(), threading.Event()
    got: list[bytes] = []
    client = Client(CallbackAPIVersion.VERSION2, protocol=protocol)
    client.on_connect = lambda c, *_: c.subscribe("house/test", 1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _c, _u, message: (got.append(message.payload), received.set())
    client.on_disconnect = lambda *_: left.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert subscribed.wait(REPLY_TIMEOUT_S)
        client.publish("house/test", payload, 1)
        assert received.wait(REPLY_TIMEOUT_S)
        client.disconnect()
        assert left.wait(REPLY_TIMEOUT_S)
    finally:
        client.loop_stop()
    assert got == [payload]


@pytest.mark.parametrize("way", ["installed", "debian", "amqtt"])
def test_each_way_carries_messages_and_survives_a_kill(way: str, tmp_path: Path) -> None:
    broker = found(way)
    assert broker.version[0].isdigit()
    protocols = [MQTTProtocolVersion.MQTTv311] + [MQTTProtocolVersion.MQTTv5] * broker.mqtt5
    with broker.start(free_port(), tmp_path) as process:
        for protocol in protocols:
            exchange(process.port, protocol, b"first")
        process.kill()
        assert not process.running()
        process.restart()
        exchange(process.port, protocols[-1], b"second")
        pid = process.pid
    assert not process.running()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_which_way_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "mosquitto"
    fake.write_text("#!/bin/sh\necho 'mosquitto version 2.0.99'\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    broker = find_broker(tmp_path / "cache")
    assert str(broker) == "mosquitto 2.0.99 (installed here; MQTT 5 and 3.1.1)"
    assert not (tmp_path / "cache").exists()


def test_no_way_left_names_them_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("hil.broker.SBIN", str(tmp_path))
    monkeypatch.setattr("hil.broker.DEV_SCRIPT", tmp_path / "dev")
    with pytest.raises(BrokerError) as refused:
        find_broker(tmp_path / "cache")
    text = str(refused.value)
    assert "apt-get install -y mosquitto" in text
    for way in ("installed", "debian", "amqtt"):
        assert f"  {way}: " in text


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    broker = found("installed")
    with broker.start(free_port(), tmp_path / "one") as process:
        with pytest.raises(BrokerError, match=f"port {process.port} is taken"):
            broker.start(process.port, tmp_path / "two")
        assert process.running()


def test_a_broker_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    broker = found("installed")
    bad = Broker("mosquitto", "0", True, "", broker._command, lambda *_: "no_such_setting 1\n")
    with pytest.raises(BrokerError, match="no_such_setting"):
        bad.start(free_port(), tmp_path)
