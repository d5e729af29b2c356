"""Feig's change of configuration (08 13) and writing of files (08 14, with requests 04 0C)."""

from __future__ import annotations

import hashlib

from hil.terminal import codec
from hil.terminal.access import PASSWORD_BYTES
from hil.terminal.bank import ABORTED
from hil.terminal.dialogue import Talk
from hil.terminal.payment import PROTOCOL_ERROR
from hil.terminal.till import is_positive

REQUEST = 0x040C
FILE, FILE_ID, FILE_SIZE, OFFSET, PAYLOAD = 0x2D, 0x1D, 0x1F00, 0x1E, 0x1C
SETTINGS, SETTINGS_PASSWORD = 0xE4, 0xFF40
# Root file systems are some ten megabytes; a size beyond this is a mistake.
FILE_BYTES_MAX = 64 * 1024 * 1024


class Files:
    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._desk = talk.desk

    async def configure(self, data: bytes) -> None:
        """08 13: settings in E4. Their tags look constructed and hold raw data."""
        told = codec.objects(codec.tags(self._desk.fields(data)).get(SETTINGS, b""))
        if not told:
            await self._talk.negative(PROTOCOL_ERROR)
            return
        memory = self._desk.store.memory
        kept = {f"{tag:04x}": value.hex() for tag, value in told if tag != SETTINGS_PASSWORD}
        memory.configuration.update(kept)
        self._desk.store.save()
        await self._talk.positive()
        await self._talk.complete("configure")

    async def write(self, data: bytes) -> None:
        """08 14: the ECR names files with their sizes; the terminal asks for block after block."""
        talk = self._talk
        fields = self._desk.fields(data[PASSWORD_BYTES:])
        wanted = []
        for tag, entry in codec.objects(fields.get(codec.TLV, b"")):
            if tag == FILE:
                inner = dict(codec.objects(entry))
                size = int.from_bytes(inner.get(FILE_SIZE, b""), "big")
                wanted.append((inner.get(FILE_ID, b""), size))
        if not wanted or any(not name or not 0 < size <= FILE_BYTES_MAX for name, size in wanted):
            await talk.negative(PROTOCOL_ERROR)
            return
        await talk.positive()
        for name, size in wanted:
            code = await self._fetch(name, size)
            if code is not None:
                await talk.abort(code)
                return
        await talk.complete("write_file")

    async def _fetch(self, name: bytes, size: int) -> int | None:
        """One file, from its first byte to its last; the code of an Abort when that fails."""
        digest, offset = hashlib.sha256(), 0
        while offset < size:
            where = offset.to_bytes(4, "big")
            entry = codec.tlv(FILE, codec.tlv(FILE_ID, name), codec.tlv(OFFSET, where))
            answer = await self._talk.message(codec.apdu(REQUEST, codec.container(entry)))
            if not is_positive(answer):
                return ABORTED
            block = _block(answer, name, offset)
            if not block or offset + len(block) > size:
                return PROTOCOL_ERROR
            digest.update(block)
            offset += len(block)
        self._desk.store.memory.files[name.hex()] = {"size": size, "sha256": digest.hexdigest()}
        self._desk.store.save()
        return None


def _block(answer: bytes, name: bytes, offset: int) -> bytes:
    """The data in the ECR's answer; empty when it is not what was asked for."""
    try:
        inner = dict(codec.objects(codec.tags(codec.fields(codec.split(answer)[1])).get(FILE, b"")))
    except codec.Malformed:
        return b""
    where = int.from_bytes(inner.get(OFFSET, b""), "big")
    return inner.get(PAYLOAD, b"") if (inner.get(FILE_ID), where) == (name, offset) else b""
