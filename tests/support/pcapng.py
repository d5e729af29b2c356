"""A small reader of pcapng, written from its specification, for tests of what was written."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Packet:
    interface: str
    at_ms: int
    direction: int  # tag 35: 0 sent, 1 received
    flags: int
    dissector: str
    comment: str
    data: bytes


def blocks(raw: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(raw):
        kind, size = struct.unpack_from("<II", raw, at)
        assert size % 4 == 0
        assert struct.unpack_from("<I", raw, at + size - 4) == (size,), "its length stands twice"
        yield kind, raw[at + 8 : at + size - 4]
        at += size
    assert at == len(raw)


def options(raw: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while True:
        code, size = struct.unpack_from("<HH", raw, at)
        if code == 0:
            assert at + 4 == len(raw)
            return found
        found[code] = raw[at + 4 : at + 4 + size]
        at += 4 + (size + 3) // 4 * 4


def packets(file: Path) -> list[Packet]:
    """Every packet; the head of the file is checked on the way."""
    (kind, head), *others = blocks(file.read_bytes())
    assert (kind, head[:16].hex()) == (0x0A0D0D0A, "4d3c2b1a01000000" + "ff" * 8)
    names: list[str] = []
    found: list[Packet] = []
    for kind, body in others:
        if kind == 1:
            assert struct.unpack_from("<H", body) == (252,)
            told = options(body[8:])
            assert told[9] == b"\x03"
            names.append(told[2].decode())
        else:
            assert kind == 6
            found.append(_packet(body, names))
    return found


def _packet(body: bytes, names: list[str]) -> Packet:
    interface, high, low, size, original = struct.unpack_from("<IIIII", body)
    assert size == original
    pdu = body[20 : 20 + size]
    told = options(body[20 + (size + 3) // 4 * 4 :])
    tags: dict[int, bytes] = {}
    at = 0
    while True:
        tag, length = struct.unpack_from(">HH", pdu, at)
        at += 4
        if tag == 0:
            break
        tags[tag] = pdu[at : at + length]
        at += length
    return Packet(
        names[interface],
        high << 32 | low,
        struct.unpack(">I", tags[35])[0],
        struct.unpack("<I", told[2])[0],
        tags[12].decode(),
        told[1].decode(),
        pdu[at:],
    )
