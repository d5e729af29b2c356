"""The public keys a station has signed with, one after the other in a PEM file beside its ledger: after the
record key was changed, or while its device is away, its records can still be verified here."""

from __future__ import annotations

import os
from pathlib import Path

from agent.trust.keys import KeyRefused, PublicKey, read_key_file

NAME = "record-keys.pem"
_BEGIN = "-----BEGIN PUBLIC KEY-----"


def load(path: Path) -> tuple[PublicKey, ...]:
    """In the order in which they came into use; none when there is no such file. Raises KeyRefused."""
    if not path.exists():
        return ()
    text = read_key_file(path).decode("ascii", "replace")
    parts = [_BEGIN + part for part in text.split(_BEGIN)[1:]]
    return tuple(PublicKey.parse(part.encode("ascii", "replace"), str(path)) for part in parts)


def newest(path: Path) -> PublicKey | None:
    """The key signed with last. A file that is damaged names none: it is only for convenience."""
    try:
        keys = load(path)
    except (KeyRefused, OSError):
        return None
    return keys[-1] if keys else None


def add(path: Path, key: PublicKey) -> None:
    """Note the key now signed with, durable when this returns. Raises OSError."""
    try:
        before = load(path)
    except KeyRefused:
        before = ()
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="ascii") as file:
        file.write("".join(one.pem() for one in (*before, key)))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
