"""Rows read from the pages of a ledger's file without SQLite (SQLite file format, ch. 1.6 and 2).

For a file that SQLite refuses: every page stands for itself, so what one damaged page hides, even the first,
costs no other. Tables are told apart by the types of their columns. Nothing that is read here is believed
yet; who wants a row must prove it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from agent.ledger import wal
from agent.ledger.wal import PAGE_SIZE

Value: TypeAlias = "int | str | bytes | None"
Row: TypeAlias = tuple[Value, ...]

_TABLE_LEAF = 0x0D
# A table without row numbers is an index, which holds rows on its inner pages too: where the cell
# pointers begin, and how much of a cell is the number of the page below.
_LAYOUT = {_TABLE_LEAF: (8, 0), 0x0A: (8, 0), 0x02: (12, 4)}
_FIRST_PAGE_HEADER = 100
# Nothing of ours is longer: a record has at most 64 KiB.
MAX_PAYLOAD = 128 * 1024
MAX_COLUMNS = 32
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)

# The types of the columns, by table: n NULL (the row's number stands for it), i integer, t text, b blob;
# capitals may also be NULL. Columns that a later version added may be absent; they stand after the bar.
SHAPES: Mapping[str, str] = {
    "meta": "tt",
    "boot": "nt",
    "session": "ntTttiiiiitiiit|i",
    "event": "ntttiiiitI",
    "chain": "nti|i",
    "record": "ntIiiitbt",
    "outstanding": "niT",
    "fork": "ntitTi",
    "card": "nb",
    "upkeep": "nIttttiiit",
    "ack_mark": "niii",
}


def rows(read_file: wal.Read, size: int, read_log: wal.Read) -> Iterator[tuple[str, int, Row]]:
    """(table, row number, columns) of everything in the file of `size` bytes and in the commits of its
    log. `meta` has no row numbers; its rows come with 0."""
    image = _Image(read_file, size, read_log)
    for number in range(1, image.count + 1):
        page = image.page(number)
        for key, payload in _cells(page, _FIRST_PAGE_HEADER if number == 1 else 0, image):
            columns = _columns(payload)
            table = None if columns is None else _table_of(columns, key is not None)
            if table is not None and columns is not None:
                yield table, key or 0, columns


class _Image:
    """The database as its file and the commits of its log make it."""

    def __init__(self, read_file: wal.Read, size: int, read_log: wal.Read) -> None:
        (stated,) = struct.unpack(">H", (read_file(16, 2) + b"\0\0")[:2])
        # A destroyed header says nothing; then it is a page size of ours.
        self.page_size = stated if stated in (1024, 2048, 4096, 8192) else PAGE_SIZE
        self._read_file, self._read_log = read_file, read_log
        self._logged = wal.committed_pages(read_log)
        self.count = max([-(-size // self.page_size), *self._logged])

    def page(self, number: int) -> bytes:
        at = self._logged.get(number)
        if at is not None:
            return self._read_log(at, self.page_size)
        return self._read_file((number - 1) * self.page_size, self.page_size)


Cell: TypeAlias = "tuple[int | None, bytes]"


def _cells(page: bytes, start: int, image: _Image) -> Iterator[Cell]:
    """Row number (None on an index page) and payload of every cell that can be followed."""
    if len(page) < image.page_size or page[start] not in _LAYOUT:
        return
    is_table = page[start] == _TABLE_LEAF
    (count,) = struct.unpack_from(">H", page, start + 3)
    behind, below = _LAYOUT[page[start]]
    pointers = start + behind
    if pointers + 2 * count > len(page):
        return
    for (pointer,) in struct.iter_unpack(">H", page[pointers : pointers + 2 * count]):
        try:
            length, at = _varint(page, pointer + below)
            key, at = _varint(page, at) if is_table else (None, at)
            payload = _payload(page, at, length, is_table, image)
        except (IndexError, struct.error):
            continue
        if payload is not None:
            yield key, payload


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. Raises IndexError."""
    value = 0
    for place in range(8):
        byte = data[at + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + place + 1
    value = value << 8 | data[at + 8]
    return (value - (1 << 64) if value >> 63 else value), at + 9


def _payload(page: bytes, at: int, length: int, is_table: bool, image: _Image) -> bytes | None:
    """The whole payload, its overflow pages followed; None when it cannot be."""
    if not 0 < length <= MAX_PAYLOAD:
        return None
    usable = image.page_size
    most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
    local = length
    if length > most:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = local if local <= most else least
    found = page[at : at + local]
    if len(found) < local:
        return None
    if local == length:
        return found
    (following,) = struct.unpack_from(">I", page, at + local)
    parts, have = [found], local
    while have < length:
        if not 0 < following <= image.count:
            return None
        more = image.page(following)
        if len(more) < usable:
            return None
        (following,) = struct.unpack_from(">I", more)
        part = more[4 : 4 + min(usable - 4, length - have)]
        parts.append(part)
        have += len(part)
    return b"".join(parts)


def _columns(payload: bytes) -> Row | None:
    """The values of a record (format ch. 2.1); None when it is no record of ours."""
    try:
        header, at = _varint(payload, 0)
        if not at <= header <= len(payload):
            return None
        types: list[int] = []
        while at < header and len(types) < MAX_COLUMNS:
            kind, at = _varint(payload, at)
            types.append(kind)
        if at != header:
            return None
        values: list[Value] = []
        for kind in types:
            value, at = _value(payload, kind, at)
            values.append(value)
    except (IndexError, ValueError):
        return None
    return tuple(values) if at == len(payload) else None


def _value(payload: bytes, kind: int, at: int) -> tuple[Value, int]:
    """Raises ValueError for what no table of ours holds, fractions among it."""
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    if kind < 7:
        end = at + _INTEGER_BYTES[kind]
        if end > len(payload):
            raise ValueError("cut")
        return int.from_bytes(payload[at:end], "big", signed=True), end
    if kind < 12:
        raise ValueError("a fraction, or reserved")
    end = at + (kind - 12) // 2
    if end > len(payload):
        raise ValueError("cut")
    raw = payload[at:end]
    return (raw if kind % 2 == 0 else raw.decode("utf-8")), end


def _letter(value: Value) -> str:
    if value is None:
        return "n"
    return "i" if isinstance(value, int) else "t" if isinstance(value, str) else "b"


_Fits: TypeAlias = Callable[[str], bool]


def _fits(shape: str) -> _Fits:
    needed, _, added = shape.partition("|")

    def fits(letters: str) -> bool:
        if not len(needed) <= len(letters) <= len(needed) + len(added):
            return False
        return all(
            want == got or (want.isupper() and (got == "n" or want.lower() == got))
            for want, got in zip(needed + added, letters, strict=False)
        )

    return fits


_TESTS = {name: _fits(shape) for name, shape in SHAPES.items()}


def _table_of(columns: Row, is_table: bool) -> str | None:
    letters = "".join(map(_letter, columns))
    for name, fits in _TESTS.items():
        if (name != "meta") is is_table and fits(letters):
            return name
    return None
