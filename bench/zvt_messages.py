"""Messages to measure with: our own, and the captured ones where a clone has them beside it."""

from __future__ import annotations

import json
from pathlib import Path

from drivers.terminal.zvt.codec import decode
from drivers.terminal.zvt.primitives import Malformed

VECTORS = Path(__file__).parents[2] / "shared" / "vectors" / "zvt.json"
SIZES = {
    "up to 16 bytes": range(17),
    "17 to 254": range(17, 255),
    "255 and more": range(255, 70_000),
}

ANSWER = bytes.fromhex("800000")
PROGRESS = bytes.fromhex("04ff020a01")
COMPLETION = bytes.fromhex("060f00")


def apdu(command: str, data: bytes) -> bytes:
    head = bytes.fromhex(command)
    if len(data) < 0xFF:
        return head + bytes([len(data)]) + data
    return head + b"\xff" + len(data).to_bytes(2, "little") + data


HOLD = apdu("0622", bytes.fromhex("04000000005000490978 1940"))
RESULT = apdu(
    "040f",
    bytes.fromhex("2700 04000000005000 490978 0c225558 0d0405 870231 88000001 0b000975")
    + bytes.fromhex("1960 2952523535 0e9999 8a06 8bf1f1")
    + b"MasterCard\0"
    + b"\x2a804011926      "
    + b"\x3b750071\0\0",
)


def printed_line(text: str) -> bytes:
    """06 D1."""
    return apdu("06d1", b"\x00" + text.encode("cp437"))


def printed_block(lines: int) -> bytes:
    """06 D3: a receipt of so many lines."""
    tags = b"".join(
        b"\x09\x01\x00\x07\x18" + f"{number:4d} Ladestrom  9,99 EUR".encode("cp437")
        for number in range(lines)
    )
    body = b"\x1f\x07\x01\x02" + b"\x25\x82" + len(tags).to_bytes(2, "big") + tags
    return apdu("06d3", b"\x06\x82" + len(body).to_bytes(2, "big") + body)


def own() -> list[bytes]:
    return [
        ANSWER,
        PROGRESS,
        COMPLETION,
        HOLD,
        RESULT,
        printed_line("Ladestrom        12,34 kWh     9,99 EUR"),
        printed_block(33),
        printed_block(118),
    ]


def captured(file: Path = VECTORS) -> list[bytes]:
    """What decodes as it stands; some need the command before them, some are malformed on purpose."""
    if not file.exists():
        return []
    found = []
    for vector in json.loads(file.read_text())["vectors"]:
        if vector["transport"] != "apdu":
            continue
        message = bytes.fromhex(vector["hex"])
        try:
            decode(message)
        except Malformed:
            continue
        found.append(message)
    return found


def by_size() -> tuple[dict[str, list[bytes]], str]:
    """Messages by their length class, and where they are from."""
    vectors = captured()
    messages = vectors + own()
    classes = {name: [m for m in messages if len(m) in sizes] for name, sizes in SIZES.items()}
    source = f"{len(vectors)} captured messages and {len(own())} of ours" if vectors else "ours"
    return classes, source
