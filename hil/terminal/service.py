"""The one case in which a terminal speaks unasked: over TCP it may call the ECR, on a port of the ECR's
(20008 by default), and send one message there (PA00P016, service sockets)."""

from __future__ import annotations

import asyncio

from hil.terminal.framing import MAX_APDU_BYTES, apdu_size

CONNECT_S = 5.0
READ_BYTES = 4096


class NoService(OSError):
    """Nobody listens, or nobody answers."""


async def call(host: str, port: int, apdu: bytes, answer_s: float) -> bytes:
    """The ECR's answer to `apdu`. Raises NoService."""
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        raise NoService(f"nobody listens on {host}:{port} ({error or 'no answer'})") from error
    try:
        async with asyncio.timeout(answer_s):
            writer.write(apdu)
            return await _message(reader)
    except (OSError, TimeoutError) as error:
        raise NoService(f"no answer from {host}:{port}: {error or 'in time'}") from error
    finally:
        writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    got = bytearray()
    while len(got) <= MAX_APDU_BYTES:
        size = apdu_size(bytes(got))
        if size is not None and len(got) >= size:
            return bytes(got[:size])
        data = await reader.read(READ_BYTES)
        if not data:
            raise ConnectionResetError("the connection was closed")
        got += data
    raise ConnectionResetError("more than a message")
