"""Control socket of a simulator: JSON objects, one a line, over a Unix stream socket.

Request `{"do": "<verb>", ...arguments}`, answer `{"ok": true, ...}` or `{"ok": false, "error": "..."}`.
A connection may carry any number of requests, answered in order; several connections may be open at
once, so one client can wait for something while another causes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
# A verb takes the request's other keys as keyword arguments; it may be a plain or an async function.
Verb = Callable[..., Answer | Awaitable[Answer | None] | None]

# Longest request or answer line. A state with traces and ledgers stays far below; a line without
# end must not fill the memory.
MAX_LINE_BYTES = 4 * 1024 * 1024
# What a verb may take when the request does not name a `timeout_s` of its own.
REPLY_S = 10.0
# Added to the request's own `timeout_s`: the server's word that time is up must still arrive.
REPLY_MARGIN_S = 5.0


class ControlError(Exception):
    """A request that cannot be done; the text goes to the peer as `error`."""


class ControlServer:
    """Serves `verbs` under the socket `path`. `start()` replaces a socket that a dead process left
    behind and refuses one that somebody still answers on."""

    def __init__(self, path: Path, verbs: Mapping[str, Verb]) -> None:
        self.path = path
        self._verbs = dict(verbs)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        if self.path.is_socket():
            if _is_answered(self.path):
                raise ControlError(f"{self.path}: another simulator answers here")
            self.path.unlink()
        self._server = await asyncio.start_unix_server(
            self._serve, path=str(self.path), limit=MAX_LINE_BYTES
        )

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in tuple(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            while line := await reader.readline():
                answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the client went away, or sent a line longer than the limit
        except asyncio.CancelledError:
            # Only close() cancels us. Returning normally keeps asyncio's stream callback from
            # reporting the cancellation as an unhandled error.
            pass
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
        except ValueError as error:
            return _refusal(f"not JSON: {error}")
        if not isinstance(request, dict) or not isinstance(request.get("do"), str):
            return _refusal('expected an object with a text "do"')
        name = request.pop("do")
        verb = self._verbs.get(name)
        if verb is None:
            return _refusal(f"unknown verb {name!r}; known: {', '.join(sorted(self._verbs))}")
        try:
            inspect.signature(verb).bind(**request)
        except TypeError as error:
            return _refusal(f"{name}: {error}")
        try:
            result = verb(**request)
            if inspect.isawaitable(result):
                result = await result
        except ControlError as error:
            return _refusal(f"{name}: {error}")
        except (ValueError, TypeError, KeyError, OSError) as error:
            return _refusal(f"{name}: {type(error).__name__}: {error}")
        return {"ok": True, **(result or {})}


def ask(path: Path | str, *, reply_s: float | None = None, **request: Any) -> Answer:
    """Send one request (`do="state"`, ...) and return the answer without its `ok`.

    Blocking. Waits `reply_s` seconds, or the request's own `timeout_s` plus a margin, or REPLY_S.
    Raises ControlError when the simulator refuses, TimeoutError when it says nothing, OSError when
    nobody is there."""
    if reply_s is None:
        own = request.get("timeout_s")
        reply_s = REPLY_S if own is None else float(own) + REPLY_MARGIN_S
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(reply_s)
        client.connect(str(path))
        client.sendall(json.dumps(request).encode() + b"\n")
        with client.makefile("rb") as stream:
            line = stream.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise ConnectionError(f"{path}: closed without an answer to {request.get('do')!r}")
    answer: Answer = json.loads(line)
    if not answer.pop("ok", False):
        raise ControlError(answer.get("error", "refused without a reason"))
    return answer


async def ask_async(path: Path | str, *, reply_s: float | None = None, **request: Any) -> Answer:
    """`ask` without blocking the loop."""
    return await asyncio.to_thread(ask, path, reply_s=reply_s, **request)


def _refusal(text: str) -> Answer:
    return {"ok": False, "error": text}


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
    return True
