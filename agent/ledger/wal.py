"""The write-ahead log as bytes (SQLite file format, ch. 4), read without SQLite: to see whether commits
that were answered are missing from it, and to salvage pages from the log of a damaged ledger.

A log is a 32-byte header and frames of 24 bytes and one page each. A frame counts when its salts are the
header's and its checksum continues that of the frame before; a frame that ends a commit names the size of
the database after it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

HEADER, FRAME_HEADER = 32, 24
# 1 KiB pages: a commit of a short event writes a third fewer bytes to flash than with 4 KiB.
PAGE_SIZE = 1024
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # the byte order of the checksums' words
_MASK = 0xFFFFFFFF

Read = Callable[[int, int], bytes]
"""`read(offset, amount)`: fewer bytes at the end of the file."""


@dataclass(frozen=True, slots=True)
class LogHeader:
    page_size: int
    salts: bytes
    order: str
    sums: tuple[int, int]

    @property
    def frame_size(self) -> int:
        return FRAME_HEADER + self.page_size

    def offset(self, frame: int) -> int:
        """Where frame `frame` (from 1) begins."""
        return HEADER + (frame - 1) * self.frame_size


def checksum(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """Continue `sums` over `data`, whose length is a multiple of eight."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second


def header_of(raw: bytes) -> LogHeader | None:
    """None when it is not the header of a log, or damaged."""
    if len(raw) < HEADER:
        return None
    magic, version, page_size = struct.unpack(">3I", raw[:12])
    order = _MAGIC.get(magic)
    if order is None or version != 3_007_000 or not 512 <= page_size <= 65536:
        return None
    sums = checksum(raw[:24], order, (0, 0))
    if page_size & (page_size - 1) or struct.unpack(">2I", raw[24:32]) != sums:
        return None
    return LogHeader(page_size, raw[16:24], order, sums)


@dataclass(frozen=True, slots=True)
class Frame:
    page: int
    commit_size: int
    sums: tuple[int, int]
    raw: bytes

    @property
    def content(self) -> bytes:
        return self.raw[FRAME_HEADER:]


def frame_at(read: Read, header: LogHeader, number: int) -> Frame | None:
    """Frame `number` if the file has it whole and of this log's generation; its checksum is not yet
    looked at."""
    raw = read(header.offset(number), header.frame_size)
    if len(raw) < header.frame_size or raw[8:16] != header.salts:
        return None
    page, size, first, second = struct.unpack(">2I8x2I", raw[:FRAME_HEADER])
    return Frame(page, size, (first, second), raw) if page else None


def continues(header: LogHeader, frame: Frame, sums: tuple[int, int]) -> bool:
    """Whether `frame` was written right after the frame whose stored checksum is `sums`."""
    sums = checksum(frame.raw[:8], header.order, sums)
    return checksum(frame.content, header.order, sums) == frame.sums


def headless(read: Read) -> LogHeader | None:
    """What the header of a log must have said, by its frames, which carry the salts too: for a log whose own
    header is destroyed. None when there is no second frame that continues the first."""
    for order in _MAGIC.values():
        salts = read(HEADER + 8, 8)
        header = LogHeader(PAGE_SIZE, salts, order, (0, 0))
        first, second = (frame_at(read, header, number) for number in (1, 2))
        if first and second and continues(header, second, first.sums):
            return header
    return None


def committed_pages(read: Read) -> dict[int, int]:
    """Page number to offset of its newest committed content in the log; empty when the log cannot be
    read. Ends, like SQLite's own recovery, at the first frame that does not fit."""
    header = header_of(read(0, HEADER))
    believed = 0
    if header is None:
        header = headless(read)
        believed = 1  # its checksum continues the header's, which nobody knows
    pages: dict[int, int] = {}
    if header is None:
        return pages
    pending: dict[int, int] = {}
    sums, number = header.sums, 1
    while (frame := frame_at(read, header, number)) is not None:
        if number > believed and not continues(header, frame, sums):
            break
        pending[frame.page] = header.offset(number) + FRAME_HEADER
        if frame.commit_size:
            pages |= pending
            pending.clear()
        sums, number = frame.sums, number + 1
    return pages


def answered_beyond(read: Read, header: LogHeader, valid: int) -> int | None:
    """The number of a commit's last frame that was durable once and is out of reach now, because a frame
    between it and frame `valid`, the last that SQLite believes, is damaged. None when there is none.

    What a power cut leaves of an unfinished commit looks alike, but nothing was ever written on top of
    that. A frame that continues the last one of a commit proves that the commit was synced before. That last
    frame must itself continue the one before it: torn, its header may be half of an older frame's."""
    number = valid + 1
    last: Frame | None = None
    last_fits = False
    while header.offset(number) + FRAME_HEADER <= MAX_LOG_BYTES:
        if len(read(header.offset(number), FRAME_HEADER)) < FRAME_HEADER:
            return None
        frame = frame_at(read, header, number)
        fits = bool(frame and last and continues(header, frame, last.sums))
        if fits and last_fits and last and last.commit_size:
            return number - 1
        last, last_fits, number = frame, fits, number + 1
    return None


# A log is folded back long before: more than this is not looked through.
MAX_LOG_BYTES = 64 * 1024 * 1024
