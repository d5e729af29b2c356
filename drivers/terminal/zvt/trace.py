"""What was said on the line, as a pcapng file for Wireshark: `options: {trace: PATH}` of a terminal.

Link type 252 ("upper PDU") names the dissector with every packet, so nothing has to be set up. Two
interfaces: `terminal-apdu` has the messages without framing, which Wireshark reads in full; `terminal` has
them as blocks of the serial line. Commands that Wireshark's table lacks (06 22, 06 23, 06 24 and 06 25 among
them, as of 4.0) show as data on the first; the comment of each packet has their name.

**Card data does not get in.** Messages are redacted before they are written (redact.py): the bytes of card
numbers, tracks, expiry, password, UID and token are overwritten, lengths stay. The blocks of the second
interface are framed anew from the redacted message, doubled bytes and checksum included: they are not the
bytes that were on the line, and acknowledgements and repeats are not there.

Times are exact to the millisecond, by the clock that the dialogue runs on. Its zero is laid on the time of
day once, by the time stamp that the file gets when it is made: a driver owns no clock."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.frames import ANSWERS, frame
from drivers.terminal.zvt.redact import redacted

# A session is some ten kilobytes: weeks of a quiet charger, and no burden for its flash. When the file is
# full it is kept under the name with ".1", and what stood there is gone: twice this at most.
FILE_BYTES_MAX = 4 * 1024 * 1024
FILE_MODE = 0o600

LINKTYPE_UPPER_PDU = 252
TAG_DISSECTOR, TAG_DIRECTION, TAG_END = 12, 35, 0
SENT, RECEIVED = 0, 1  # in tag 35
OUTBOUND, INBOUND = 2, 1  # in the flags of pcapng
DISSECTOR = b"zvt"
APDUS, BLOCKS = 0, 1
INTERFACES = (
    ("terminal-apdu", "messages, card data overwritten"),
    ("terminal", "blocks of RS-232, framed anew from the overwritten messages"),
)
MILLISECONDS = 3  # if_tsresol: powers of ten
OPTION_COMMENT, OPTION_FLAGS = 1, 2
IF_NAME, IF_DESCRIPTION, IF_RESOLUTION = 2, 3, 9
SHB_APPLICATION = 4

Tell = Callable[[str], None]


def _block(kind: int, body: bytes) -> bytes:
    size = 12 + len(body)
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) % 4)


def _head() -> bytes:
    """Section header and interfaces."""
    options = _option(SHB_APPLICATION, b"voltill") + _option(0, b"")
    # Byte order mark, version 1.0, length of the section not told.
    out = _block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + options)
    for name, description in INTERFACES:
        options = _option(IF_NAME, name.encode()) + _option(IF_DESCRIPTION, description.encode())
        options += _option(IF_RESOLUTION, bytes([MILLISECONDS])) + _option(0, b"")
        out += _block(1, struct.pack("<HHI", LINKTYPE_UPPER_PDU, 0, 0) + options)
    return out


def packet(interface: int, at_ms: int, direction: int, data: bytes, comment: str) -> bytes:
    """One enhanced packet block. `at_ms`: since 1970; `direction`: SENT or RECEIVED."""
    tags = (
        (TAG_DISSECTOR, DISSECTOR),
        (TAG_DIRECTION, struct.pack(">I", direction)),
        (TAG_END, b""),
    )
    # Tags are big-endian and, unlike the options of pcapng, their values are not padded.
    pdu = b"".join(struct.pack(">HH", tag, len(value)) + value for tag, value in tags) + data
    flags = INBOUND if direction == RECEIVED else OUTBOUND
    head = struct.pack("<IIIII", interface, at_ms >> 32, at_ms & 0xFFFFFFFF, len(pdu), len(pdu))
    options = _option(OPTION_COMMENT, comment.encode()) + _option(
        OPTION_FLAGS, struct.pack("<I", flags)
    )
    return _block(6, head + _padded(pdu) + options + _option(0, b""))


class Trace:
    """Written at once, message by message; a disk that fails ends the trace, never a dialogue."""

    def __init__(
        self,
        path: Path | str,
        now: int,
        *,
        serial: bool = True,
        bytes_max: int = FILE_BYTES_MAX,
        tell: Tell = lambda _why: None,
    ) -> None:
        """`now`: milliseconds of the clock that `sent` and `received` are told. `serial`: with the blocks
        of a serial line. `tell` hears once why the trace has ended. Raises OSError when the file cannot
        be made; one that is there is kept as PATH.1."""
        self._path, self._serial, self._bytes_max = Path(path), serial, bytes_max
        self._tell = tell
        self._command: str | None = None  # that ran last: a Completion is read by it
        self._size = 0
        self._fd = -1
        try:
            self._open()
        except OSError:
            self.close()
            raise
        self._zero_ms = os.fstat(self._fd).st_mtime_ns // 1_000_000 - now

    def sent(self, apdu: bytes, now: int) -> None:
        """A message of ours, when its first byte leaves."""
        if apdu[0] not in ANSWERS:
            self._command = apdu[:2].hex()
        self._write(SENT, apdu, now)

    def received(self, apdu: bytes, now: int) -> None:
        """A message of the terminal, when its last byte is there."""
        self._write(RECEIVED, apdu, now)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, direction: int, apdu: bytes, now: int) -> None:
        if self._fd < 0:
            return
        clean = redacted(apdu, self._command if direction == RECEIVED else None)
        name = Apdu(clean[:2].hex()).name
        at_ms = self._zero_ms + now
        out = packet(APDUS, at_ms, direction, clean, name)
        if self._serial:
            out += packet(BLOCKS, at_ms, direction, frame(clean), name)
        try:
            if self._size + len(out) > self._bytes_max:
                self.close()
                self._open()
            self._append(out)
        except OSError as error:
            self.close()
            self._tell(f"{self._path}: {error.strerror}")

    def _append(self, data: bytes) -> None:
        """In one piece: a reader of a growing file never sees half a packet."""
        if os.write(self._fd, data) != len(data):
            raise OSError(None, "the disk is full")
        self._size += len(data)

    def _open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISREG(self._path.lstat().st_mode):
                self._path.replace(f"{self._path}.1")
        # Nothing that is there is written into: no link, no device, no file of somebody else.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd, self._size = os.open(self._path, flags, FILE_MODE), 0
        self._append(_head())
