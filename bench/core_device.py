"""A block device of our own, to see what reaches the disk: bytes and flushes, the file system's own included.

A loop device with direct I/O and a fresh ext4. It takes root; where that is not to be had, the figures of the
device are left out and the report says so."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SIZE_BYTES = 1 << 30
SECTOR = 512
# Fields of /sys/block/*/stat (Documentation/block/stat.rst): sectors written, flushes completed.
_SECTORS_WRITTEN, _FLUSHES = 6, 15


@dataclass(frozen=True, slots=True)
class Traffic:
    bytes: int
    flushes: int

    def __sub__(self, before: Traffic) -> Traffic:
        return Traffic(self.bytes - before.bytes, self.flushes - before.flushes)


@dataclass(frozen=True, slots=True)
class Device:
    """`folder` is on it and on nothing else."""

    folder: Path
    name: str

    def traffic(self) -> Traffic:
        fields = Path(f"/sys/block/{self.name}/stat").read_text().split()
        return Traffic(int(fields[_SECTORS_WRITTEN]) * SECTOR, int(fields[_FLUSHES]))

    def settle(self) -> None:
        """What the file system still holds back goes to the device now."""
        file = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(file)
            os.sync()
        finally:
            os.close(file)


def _run(*words: str | Path) -> str:
    done = subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextlib.contextmanager
def device(folder: Path) -> Iterator[Device | None]:
    """None when this user may not make one."""
    image, mount = folder / "device.img", folder / "device"
    with contextlib.ExitStack() as undo:
        try:
            with image.open("wb") as file:
                file.truncate(SIZE_BYTES)
            undo.callback(image.unlink)
            loop = _run("losetup", "--find", "--show", "--direct-io=on", image)
            undo.callback(_run, "losetup", "--detach", loop)
            # No lazy initialisation: it would write during the measurement.
            _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop)
            mount.mkdir()
            undo.callback(mount.rmdir)
            _run("mount", "-o", "noatime", loop, mount)
            undo.callback(_run, "umount", mount)
        except (OSError, subprocess.CalledProcessError):
            made = None
        else:
            made = Device(mount, Path(loop).name)
        yield made
