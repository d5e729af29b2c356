"""The cuttable proxy: what a client sees of each kind of cut."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.simulator import Simulator

from hil.common.control import ControlError

LOOPBACK = "127.0.0.1"


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A server that sends everything back, until its listener is closed."""
    listener = socket.create_server((LOOPBACK, 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4096):
                    connection.sendall(data)
            except ConnectionError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def proxy(echo_port: int, tmp_path: Path) -> Iterator[Simulator]:
    options = ["--listen", "0", "--to", str(echo_port)]
    with Simulator("netproxy", tmp_path, *options) as simulator:
        yield simulator


def connect(proxy: Simulator) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.ask("state")["port"]), timeout=5)


def echoed(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    seen = b""
    while len(seen) < len(data):
        chunk = client.recv(65536)
        assert chunk, f"closed after {len(seen)} of {len(data)} bytes"
        seen += chunk
    return seen


def test_bytes_go_through_unchanged(proxy: Simulator) -> None:
    data = bytes(range(256)) * 200
    with connect(proxy) as client:
        assert echoed(client, data) == data
    assert proxy.ask("state")["bytes_up"] == len(data)


def test_cut_resets_and_refuses_until_restored(proxy: Simulator) -> None:
    with connect(proxy) as client:
        assert echoed(client, b"before") == b"before"
        proxy.ask("cut")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.ask("restore")
    with connect(proxy) as client:
        assert echoed(client, b"after") == b"after"


def test_blackhole_keeps_the_connection_and_carries_nothing(proxy: Simulator) -> None:
    with connect(proxy) as client:
        assert echoed(client, b"before") == b"before"
        proxy.ask("blackhole")
        client.sendall(b"waits")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(5)
        proxy.ask("restore")
        assert client.recv(5) == b"waits"


def test_latency_delays_both_ways(proxy: Simulator) -> None:
    with connect(proxy) as client:
        assert proxy.ask("latency", ms=100)["latency_ms"] == 100
        began = time.monotonic()
        assert echoed(client, b"slow") == b"slow"
        assert time.monotonic() - began >= 0.2


def test_a_wrong_latency_is_refused(proxy: Simulator) -> None:
    with pytest.raises(ControlError, match="expected 0 to"):
        proxy.ask("latency", ms=-1)


def test_a_close_goes_through(proxy: Simulator) -> None:
    with connect(proxy) as client:
        assert echoed(client, b"x") == b"x"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert proxy.stop() == 0
