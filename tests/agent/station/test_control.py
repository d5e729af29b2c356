"""The control socket on the system's own loop: its rights, and clients that behave badly."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import LedgerError
from agent.station import control
from agent.station.control import (
    CLIENTS_MAX,
    REQUEST_BYTES_MAX,
    ControlRefused,
    ControlServer,
    ControlUnavailable,
    ask,
    control_path,
)


async def echo(request: Mapping[str, Any]) -> Any:
    return {"said": request["word"]}


async def fails(_: Mapping[str, Any]) -> Any:
    raise LedgerError("LED-007", "the disk failed")


async def much(_: Mapping[str, Any]) -> Any:
    return ["x" * 1000] * 5000


HANDLERS = {"echo": echo, "fails": fails, "much": much}


def serve(path: Path, body: Callable[[Path], Awaitable[None]]) -> None:
    async def main() -> None:
        server = ControlServer(path, HANDLERS)
        await server.start()
        try:
            await body(path)
        finally:
            await server.stop()
            await asyncio.sleep(0)

    asyncio.run(main())


async def raw(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 24)
    try:
        writer.write(data)
        return await reader.readline()
    finally:
        writer.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


def test_a_question_and_its_answer(path: Path) -> None:
    async def body(path: Path) -> None:
        assert await asyncio.to_thread(ask, path, "echo", word="grüße") == {"said": "grüße"}

    serve(path, body)
    assert not path.exists(), "nothing is left"


def test_only_its_own_user_may_open_it(path: Path) -> None:
    async def body(path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    serve(path, body)


def test_what_a_killed_service_left_is_taken_over(path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with pytest.raises(ConnectionError, match="not running"):
        ask(path, "echo")

    async def body(path: Path) -> None:
        assert await asyncio.to_thread(ask, path, "echo", word="x") == {"said": "x"}

    serve(path, body)


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"\xff\xfe\x00\n",
        b"[]\n",
        b"17\n",
        b'{"do": "nothing"}\n',
        b'{"do": ["echo"]}\n',
        b'{"do": "echo"}\n',
        b"[" * 60_000 + b"\n",
        b"\n",
        b"x" * (REQUEST_BYTES_MAX * 2) + b"\n",
    ],
    ids=["text", "bytes", "list", "number", "verb", "type", "lacks", "deep", "empty", "long"],
)
def test_garbage_is_refused_with_a_reason(path: Path, line: bytes) -> None:
    async def body(path: Path) -> None:
        answer = json.loads(await raw(path, line))
        assert answer["ok"] is False and answer["error"].startswith("STA-010")
        assert json.loads(await raw(path, b'{"do": "echo", "word": 1}\n'))["ok"] is True

    serve(path, body)


def test_a_failing_ledger_is_an_answer(path: Path) -> None:
    async def body(path: Path) -> None:
        with pytest.raises(ControlRefused, match="LED-007"):
            await asyncio.to_thread(ask, path, "fails")

    serve(path, body)


def test_too_many_clients(path: Path) -> None:
    async def body(path: Path) -> None:
        held = [await asyncio.open_unix_connection(str(path)) for _ in range(CLIENTS_MAX)]
        with pytest.raises(ControlRefused, match="STA-016"):
            await asyncio.to_thread(ask, path, "echo", word="x")
        held[0][1].close()
        await held[0][1].wait_closed()
        await asyncio.sleep(0.05)
        assert await asyncio.to_thread(ask, path, "echo", word="x") == {"said": "x"}
        for _, writer in held[1:]:
            writer.close()

    serve(path, body)


def test_a_client_that_says_or_reads_nothing_is_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CLIENT_IDLE_S", 0.1)

    async def main() -> None:
        server = ControlServer(path, HANDLERS)
        await server.start()
        silent, writer = await asyncio.open_unix_connection(str(path))
        assert await silent.readline() == b"", "dropped"
        writer.close()
        deaf = await asyncio.to_thread(_connect, path)
        deaf.sendall(b'{"do": "much"}\n' * 20)
        async with asyncio.timeout(5):
            while not server._clients:
                await asyncio.sleep(0.01)
            while server._clients:
                await asyncio.sleep(0.01)
        deaf.close()
        assert await asyncio.to_thread(ask, path, "echo", word="x") == {"said": "x"}
        await server.stop()
        await asyncio.sleep(0)

    asyncio.run(main())


def _connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return client


def test_a_large_answer_arrives_whole(path: Path) -> None:
    async def body(path: Path) -> None:
        assert len(await asyncio.to_thread(ask, path, "much")) == 5000

    serve(path, body)


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    async def body(_: Path) -> None: ...

    with pytest.raises(ControlUnavailable, match=r"STA-015.*expected a folder"):
        serve(tmp_path / ("x" * 120) / "control.sock", body)


def test_a_service_that_does_not_answer(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(ControlRefused, match=r"STA-017.*no answer in time"):
            ask(path, "echo", answer_s=0.1)


@pytest.mark.parametrize("sent", [b"", b'{"ok": tr'])
def test_a_service_that_breaks_off(path: Path, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def break_off() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(sent)

        thread = threading.Thread(target=break_off)
        thread.start()
        with pytest.raises(ControlRefused, match=r"STA-017.*closed the connection"):
            ask(path, "echo")
        thread.join()


def test_where_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert control_path(tmp_path) == tmp_path / "control.sock"
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/voltill:/run/other")
    assert control_path(tmp_path) == Path("/run/voltill/control.sock")
