"""Room kept back for the end of what has begun.

On a full disk even the rows fail that would free space. So some of it is taken in advance: when a running
session cannot be written down any more the ballast is let go, and what began can end; no new session begins
until the ballast could be taken again."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

# A session writes about 100 KiB, and the log may have to grow by its 4 MiB: room for the sessions of sixteen
# connectors to end.
BALLAST_BYTES = 8 * 1024 * 1024
_BLOCK = 512  # the unit of st_blocks, whatever the file system's own is
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Ballast:
    def __init__(self, path: Path, size: int = BALLAST_BYTES) -> None:
        self.path, self.size = path, size

    @property
    def held(self) -> bool:
        try:
            found = self.path.stat()
        except OSError:
            return False
        # A file of this length without blocks under it keeps nothing back.
        return found.st_size == self.size and found.st_blocks * _BLOCK >= self.size

    def hold(self) -> bool:
        """Take the room; False when the disk has not got it. Raises OSError for anything else."""
        if self.held:
            return True
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(file, 0, self.size)
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give it back to the file system, now: some count freed blocks only after a sync."""
        with contextlib.suppress(OSError):
            file = os.open(self.path, os.O_WRONLY)
            try:
                os.ftruncate(file, 0)
                os.fsync(file)
            finally:
                os.close(file)
            self.path.unlink()
