"""What `verify` can be given: a file, a directory or a zip archive with records and, maybe, keys.

The forms are described in docs/interfaces/records.md. Keys that come with the records are self-asserted:
they show that one key signed everything, not whose key it was.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from agent.trust import chain, plain
from agent.trust.keys import KeyRefused, KeySet, PublicKey
from agent.trust.plain import JSON

# Ten years of sixty sessions a day are about 1 GiB of records; one file is an export, not an archive
# of a fleet, and is held in memory.
MAX_INPUT_BYTES = 256 * 1024 * 1024
MAX_FILES = 10_000
MAX_KEYS = 100
RECORD_SUFFIXES = (".jsonl", ".jws", ".json")
KEY_SUFFIXES = (".pem", ".pub")


class InputRefused(Exception):
    """The input cannot be read as records. `code` is a stable id of docs/errors.md."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


@dataclass(slots=True)
class Bundle:
    """Records and the keys that came with them."""

    records: list[str] = field(default_factory=list)
    keys: list[PublicKey] = field(default_factory=list)
    partial: bool = False


def verify_path(path: Path, trust: tuple[Path, ...] = ()) -> chain.Report:
    """Verify the records in `path` with the keys in the files `trust`, or, when there are none, with
    the keys found beside the records. Raises InputRefused and KeyRefused."""
    bundle = load(path)
    anchored = bool(trust)
    keys = KeySet.load(trust) if anchored else KeySet(bundle.keys)
    return chain.verify_records(bundle.records, keys, anchored=anchored, partial=bundle.partial)


def load(path: Path) -> Bundle:
    """Read every record and key in `path`. Raises InputRefused and KeyRefused."""
    bundle = Bundle()
    left = MAX_INPUT_BYTES
    try:
        for name, data in _contents(path):
            left -= len(data)
            if left < 0:
                raise InputRefused("KEY-011", f"{path} holds more than 256 MiB; verify it in parts")
            _take(bundle, name, data)
    except OSError as error:
        text = f"{path}: {error.strerror or error}; expected a file, a directory or a zip archive"
        raise InputRefused("KEY-010", text) from None
    if len(bundle.keys) > MAX_KEYS:
        raise InputRefused("KEY-011", f"{path} holds more than {MAX_KEYS} keys")
    return bundle


def _wanted(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in RECORD_SUFFIXES + KEY_SUFFIXES


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents; in a directory or archive only files with a known suffix, by name."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _wanted(file.name))
        if len(files) > MAX_FILES:
            raise InputRefused("KEY-011", f"{path} holds more than {MAX_FILES} files")
        for file in files:
            yield from _sized(file)
    elif path.is_file() and zipfile.is_zipfile(path):
        yield from _unzipped(path)
    else:
        yield from _sized(path)


def _sized(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file:
        yield path.name, file.read(MAX_INPUT_BYTES + 1)


def _unzipped(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = sorted(
                (
                    info
                    for info in archive.infolist()
                    if not info.is_dir() and _wanted(info.filename)
                ),
                key=lambda info: info.filename,
            )
            # The directory states the sizes; a small archive may unpack to a very large one.
            if len(inside) > MAX_FILES or sum(info.file_size for info in inside) > MAX_INPUT_BYTES:
                raise InputRefused("KEY-011", f"{path} unpacks to more than is verified at once")
            for info in inside:
                with archive.open(info) as file:
                    yield info.filename, file.read(MAX_INPUT_BYTES + 1)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
        # RuntimeError: encrypted; NotImplementedError: a compression this Python lacks.
        raise InputRefused(
            "KEY-012", f"{path} is a damaged or foreign zip archive: {error}"
        ) from None


def _take(bundle: Bundle, name: str, data: bytes) -> None:
    if PurePosixPath(name).suffix.lower() in KEY_SUFFIXES:
        try:
            bundle.keys.append(PublicKey.parse(data, name))
        except KeyRefused as refused:
            if refused.code != "KEY-004":  # another kind of key, a broker's say: not for records
                raise
        return
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise InputRefused("KEY-012", f"{name} is not ASCII; it holds no records") from None
    if text.lstrip()[:1] == "{":
        try:
            whole: JSON = plain.loads(text)
        except plain.NotPlain:
            whole = None  # not one object: lines of objects
        if isinstance(whole, dict) and "records" in whole:
            _take_export(bundle, name, whole)
            return
    for number, line in enumerate(text.splitlines(), 1):
        if stripped := line.strip():
            _take_line(bundle, f"{name}:{number}", stripped)


def _take_export(bundle: Bundle, name: str, whole: dict[str, JSON]) -> None:
    """The JSON export: {"keys": [PEM], "records": [JWS], "partial": false}."""
    keys, records = whole.get("keys", []), whole["records"]
    if not isinstance(keys, list) or not isinstance(records, list):
        raise InputRefused("KEY-012", f"{name}: keys and records must be lists")
    for pem in keys:
        if not isinstance(pem, str):
            raise InputRefused("KEY-012", f"{name}: a key is not PEM text")
        bundle.keys.append(PublicKey.parse(pem.encode(), name))
    for record in records:
        if not isinstance(record, str):
            raise InputRefused("KEY-012", f"{name}: a record is not JWS text")
        bundle.records.append(record)
    bundle.partial = bundle.partial or whole.get("partial") is True


def _take_line(bundle: Bundle, place: str, line: str) -> None:
    """One line: a JWS, or a message as it went over MQTT (a CloudEvent or a batch of them)."""
    if line[0] not in "{[":
        bundle.records.append(line)
        return
    try:
        value = plain.loads(line)
    except plain.NotPlain as error:
        raise InputRefused("KEY-012", f"{place}: {error}") from None
    for event in value if isinstance(value, list) else [value]:
        text = event.get("data") if isinstance(event, dict) else None
        if not isinstance(text, str):
            raise InputRefused("KEY-012", f"{place}: expected a CloudEvent whose data is a JWS")
        bundle.records.append(text)
