"""A disk that forgets: an apsw VFS in memory under the real ledger code.

The model, stricter than any flash that honours its flushes:

* a write or truncation is volatile until that file is synced; a cut keeps any subset of the volatile
  ones, each write torn at sector borders when asked;
* a new file's name becomes durable with its first sync; a deletion is durable when SQLite asked for a
  synced directory, otherwise the file may come back;
* after the cut nothing reaches the disk any more;
* a killed process leaves everything it wrote, synced or not, to the next one: the system lives on.

Not modelled: bit rot, misdirected writes, a device that lies about a flush, a sector that is half written,
order between files beyond what the syncs say.

`mounted()` makes it the default VFS, so shipped code opens an ordinary path and notices nothing.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import apsw

SECTOR = 512
VFS_NAME = "forgetful"


class PowerCut(SystemExit):
    """Raised out of SQLite at the chosen operation. A SystemExit, because asyncio keeps every other
    exception inside the task that raised it."""


def _splice(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


@dataclass(slots=True)
class Write:
    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        _splice(content, self.offset, self.data)

    def pieces(self) -> Iterator[Write]:
        """The write cut at sector borders."""
        at = 0
        while at < len(self.data):
            room = SECTOR - (self.offset + at) % SECTOR
            yield Write(self.offset + at, self.data[at : at + room])
            at += room


@dataclass(slots=True)
class Truncation:
    size: int

    def apply(self, content: bytearray) -> None:
        del content[self.size :]

    def pieces(self) -> Iterator[Truncation]:
        yield self


@dataclass(slots=True)
class Inode:
    """What programs see, what is safe, and what lies between."""

    seen: bytearray = field(default_factory=bytearray)
    safe: bytearray = field(default_factory=bytearray)
    volatile: list[Write | Truncation] = field(default_factory=list)
    named: bool = False

    def change(self, what: Write | Truncation) -> None:
        what.apply(self.seen)
        self.volatile.append(what)

    def sync(self) -> None:
        for what in self.volatile:
            what.apply(self.safe)
        self.volatile.clear()
        self.named = True

    def after_cut(self, rng: random.Random, keep: float, torn: bool) -> Inode:
        content = bytearray(self.safe)
        for what in self.volatile:
            for piece in what.pieces() if torn else (what,):
                if rng.random() < keep:
                    piece.apply(content)
        return Inode(bytearray(content), content, named=True)


class Disk:
    """`on_operation(number, kind, name)` is called before each write, truncation, sync and deletion
    and may raise PowerCut; `full_at` is a size in bytes at which writes are refused."""

    def __init__(self) -> None:
        self.files: dict[str, Inode] = {}
        self.unlinked: dict[str, Inode] = {}
        self.operations = 0
        self.dead = False
        self.on_operation: Callable[[int, str, str], None] | None = None
        self.full_at: int | None = None
        self.extra: Callable[[], int] = lambda: 0  # room that was kept back and let go

    def reaches(self, kind: str, name: str) -> bool:
        if self.dead:
            return False
        self.operations += 1
        if self.on_operation is not None:
            try:
                self.on_operation(self.operations, kind, name)
            except PowerCut:
                self.dead = True
                raise
        return True

    def room(self) -> int:
        return (self.full_at or 0) + self.extra()

    def used(self) -> int:
        return sum(len(inode.seen) for inode in self.files.values())

    def after_kill(self) -> Disk:
        """The same disk for the next process; the dead one reaches it no more."""
        self.dead = True
        disk = Disk()
        disk.files, disk.unlinked = self.files, self.unlinked
        disk.full_at, disk.extra = self.full_at, self.extra
        return disk

    def after_cut(self, rng: random.Random, keep: float, torn: bool) -> Disk:
        """A disk as it may be found after a cut now; `keep` is the chance that a volatile piece, and
        the name of a file never synced, made it."""
        disk = Disk()
        disk.full_at, disk.extra = self.full_at, self.extra
        for name, inode in self.unlinked.items():
            if name not in self.files and rng.random() < 0.5:
                disk.files[name] = inode.after_cut(rng, keep, torn)
        for name, inode in self.files.items():
            if inode.named or rng.random() < keep:
                disk.files[name] = inode.after_cut(rng, keep, torn)
        return disk


class _OpenFile:
    def __init__(self, disk: Disk, name: str) -> None:
        self._disk, self._name = disk, name
        self._inode = disk.files.setdefault(name, Inode())

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self._inode.seen[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        disk = self._disk
        if not disk.reaches("write", self._name):
            return
        grows = offset + len(data) - len(self._inode.seen)
        if disk.full_at is not None and grows > 0 and disk.used() + grows > disk.room():
            raise apsw.FullError("the simulated disk is full")
        self._inode.change(Write(offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        if self._disk.reaches("truncate", self._name):
            self._inode.change(Truncation(size))

    def xSync(self, flags: int) -> None:
        if self._disk.reaches("sync", self._name):
            self._inode.sync()

    def xFileSize(self) -> int:
        return len(self._inode.seen)

    def xLock(self, level: int) -> None: ...

    def xUnlock(self, level: int) -> None: ...

    def xCheckReservedLock(self) -> bool:
        return False

    def xSectorSize(self) -> int:
        return 4096

    def xDeviceCharacteristics(self) -> int:
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False

    def xClose(self) -> None: ...


class ForgetfulVFS(apsw.VFS):
    """Point `disk` at the disk of the board that is to be switched on."""

    def __init__(self, name: str) -> None:
        self.disk = Disk()
        self.noise = random.Random(0)
        super().__init__(name, base="")

    def xOpen(  # type: ignore[override]  # apsw takes any object with the methods of a file
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> _OpenFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        path = path or "(temporary)"
        if path not in self.disk.files and not flags[0] & apsw.SQLITE_OPEN_CREATE:
            raise apsw.CantOpenError(path)
        return _OpenFile(self.disk, path)

    def xDelete(self, name: str, synced: bool) -> None:
        if not self.disk.reaches("delete", name):
            return
        inode = self.disk.files.pop(name, None)
        if synced:
            # The directory is synced whole: what was deleted in it before does not come back either.
            folder = name.rpartition("/")[0]
            for gone in [n for n in self.disk.unlinked if n.rpartition("/")[0] == folder]:
                del self.disk.unlinked[gone]
        elif inode is not None and inode.named:
            self.disk.unlinked[name] = inode

    def xAccess(self, name: str, flags: int) -> bool:
        return name in self.disk.files

    def xFullPathname(self, name: str) -> str:
        return name

    def xRandomness(self, amount: int) -> bytes:
        return self.noise.randbytes(amount)

    def xSleep(self, microseconds: int) -> int:
        return microseconds

    def xCurrentTimeInt64(self) -> int:
        return 212_545_468_800_000  # a fixed day in Julian milliseconds

    def xCurrentTime(self) -> float:
        return self.xCurrentTimeInt64() / 86_400_000

    def xGetLastError(self) -> tuple[int, str]:
        return 0, ""


@contextlib.contextmanager
def mounted(disk: Disk | None = None) -> Iterator[ForgetfulVFS]:
    """The default VFS inside the block. Every connection must be closed before its end."""
    before = apsw.vfs_names()[0]
    vfs = ForgetfulVFS(VFS_NAME)
    if disk is not None:
        vfs.disk = disk
    apsw.set_default_vfs(VFS_NAME)
    try:
        yield vfs
    finally:
        apsw.set_default_vfs(before)
        for connection in apsw.connections():
            if connection.open_vfs == VFS_NAME:
                connection.close()
        vfs.unregister()
