"""The control socket: JSON lines over a Unix socket that only the service's user may open.

The command line reads and acts through it while the service runs, because the ledger has one owner."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

REQUEST_BYTES_MAX = 64 * 1024  # no request is longer than a few words
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # an export of every record a board can hold
CLIENTS_MAX = 16  # a person, a script and a console; more is a mistake
ASK_TIMEOUT_S = 30.0  # a meter on a quarantined bus takes its time

Handler = Callable[[Mapping[str, Any]], Awaitable[Any]]


class ControlRefused(Exception):
    """The service answered, but not with what was asked: `str()` says why."""


class ControlServer:
    """Serves `{"do": verb, ...}` with `{"ok": true, "result": ...}` or `{"ok": false, "error": ...}`."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path, self._handlers = path, handlers
        self._server: asyncio.Server | None = None
        self._clients = 0

    async def start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()  # left by a killed service; the ledger's lock tells a living one
        old = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, str(self._path), limit=REQUEST_BYTES_MAX
            )
        finally:
            os.umask(old)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._clients >= CLIENTS_MAX:
            writer.close()
            return
        self._clients += 1
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            return  # the client went away, or its line was longer than any request
        finally:
            self._clients -= 1
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except ValueError:
            return {"ok": False, "error": "STA-010: the request is not JSON"}
        if not isinstance(request, dict) or request.get("do") not in self._handlers:
            known = ", ".join(sorted(self._handlers))
            return {"ok": False, "error": f"STA-010: unknown request; expected one of {known}"}
        try:
            return {"ok": True, "result": await self._handlers[request["do"]](request)}
        except (ControlRefused, KeyError, ValueError, TypeError) as error:
            return {"ok": False, "error": str(error)}


def ask(path: Path, do: str, **request: Any) -> Any:
    """One question to the running service. Raises ConnectionError when none runs, ControlRefused
    when it refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(ASK_TIMEOUT_S)
        try:
            s.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise ConnectionError("the service is not running") from error
        s.sendall(json.dumps({"do": do} | request).encode() + b"\n")
        answer = bytearray()
        while not answer.endswith(b"\n"):
            piece = s.recv(65536)
            if not piece:
                raise ConnectionError("the service closed the connection")
            answer += piece
            if len(answer) > ANSWER_BYTES_MAX:
                raise ControlRefused("the answer is too long")
    reply = json.loads(answer)
    if not reply["ok"]:
        raise ControlRefused(reply["error"])
    return reply["result"]


def control_path(state: Path) -> Path:
    """Where the service listens: in systemd's runtime directory, else beside its state."""
    runtime = os.environ.get("RUNTIME_DIRECTORY")
    if runtime:
        return Path(runtime.split(":")[0]) / "control.sock"
    system = Path("/run/voltill")
    if state == Path("/var/lib/voltill") and system.is_dir():
        return system / "control.sock"
    return state / "control.sock"
