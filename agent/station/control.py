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

from agent.ledger import LedgerError

REQUEST_BYTES_MAX = 64 * 1024  # no request is longer than a few words
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # an export of every record a board can hold
CLIENTS_MAX = 16  # a person, a script and a console; more is a mistake
ASK_TIMEOUT_S = 30.0  # a meter on a quarantined bus takes its time
CLIENT_IDLE_S = 60.0  # who neither asks nor reads for so long makes room for others

Handler = Callable[[Mapping[str, Any]], Awaitable[Any]]


class ControlRefused(Exception):
    """The service answered, but not with what was asked: `str()` says why."""


class ControlUnavailable(Exception):
    """The socket cannot be had; the text carries its id."""


class ControlServer:
    """Serves `{"do": verb, ...}` with `{"ok": true, "result": ...}` or `{"ok": false, "error": ...}`."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path, self._handlers = path, handlers
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """To be called by whoever holds the ledger: a socket that is there was left by a killed
        service. Raises ControlUnavailable."""
        old = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(
                self._serve, str(self._path), limit=REQUEST_BYTES_MAX
            )
        except OSError as error:
            raise ControlUnavailable(
                f"STA-015: control socket {self._path}: {error.strerror or error}; expected a folder "
                "this user may write, with a path of less than 100 characters"
            ) from None
        finally:
            os.umask(old)

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for client in self._clients:
            client.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            if len(self._clients) > CLIENTS_MAX:
                await _say(writer, _refusal("STA-016: too many clients; close one"))
                return
            while True:
                async with asyncio.timeout(CLIENT_IDLE_S):
                    line = await reader.readline()
                if not line:
                    return
                await _say(writer, await self._answer(line))
        except ValueError:
            with contextlib.suppress(OSError, TimeoutError):
                await _say(writer, _refusal("STA-010: the request is longer than any request"))
        except (OSError, TimeoutError):
            return  # the client went away, or does not read what it asked for
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return _refusal("STA-010: the request is not JSON")
        do = request.get("do") if isinstance(request, dict) else None
        handler = self._handlers.get(do) if isinstance(do, str) else None
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            return _refusal(f"STA-010: unknown request; expected one of {known}")
        try:
            return {"ok": True, "result": await handler(request)}
        except KeyError as error:
            return _refusal(f"STA-010: the request lacks {error}")
        except (ControlRefused, LedgerError) as error:
            return _refusal(str(error))
        except (ValueError, TypeError, OverflowError) as error:
            return _refusal(f"STA-010: the request has a value that cannot be used: {error}")


def _refusal(text: str) -> dict[str, Any]:
    return {"ok": False, "error": text}


async def _say(writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    async with asyncio.timeout(CLIENT_IDLE_S):
        await writer.drain()


def ask(path: Path, do: str, *, answer_s: float = ASK_TIMEOUT_S, **request: Any) -> Any:
    """One question to the running service, whose answer may take `answer_s`. Raises ConnectionError
    when none runs, ControlRefused when it refuses or does not answer, PermissionError when it is
    another user's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(answer_s)
        try:
            s.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            raise ConnectionError("the service is not running") from error
        try:
            # Who is turned away at the door is told so before it is read.
            with contextlib.suppress(BrokenPipeError):
                s.sendall(json.dumps({"do": do} | request).encode() + b"\n")
            answer = _read_line(s)
        except OSError as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else error
            raise ControlRefused(f"STA-017: the service broke off: {why}; see its log") from None
    reply = json.loads(answer)
    if not reply["ok"]:
        raise ControlRefused(reply["error"])
    return reply["result"]


def _read_line(s: socket.socket) -> bytes:
    answer = bytearray()
    while not answer.endswith(b"\n"):
        piece = s.recv(65536)
        if not piece:
            raise ConnectionError("it closed the connection")
        answer += piece
        if len(answer) > ANSWER_BYTES_MAX:
            raise ConnectionError(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
    return bytes(answer)


def control_path(state: Path) -> Path:
    """Where the service listens: in systemd's runtime directory, else beside its state."""
    runtime = os.environ.get("RUNTIME_DIRECTORY")
    if runtime:
        return Path(runtime.split(":")[0]) / "control.sock"
    system = Path("/run/voltill")
    if state == Path("/var/lib/voltill") and system.is_dir():
        return system / "control.sock"
    return state / "control.sock"
