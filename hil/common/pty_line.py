"""A serial line whose other end any program can open: a raw pty under a stable name.

The traps this module is built around:

* A fresh pty echoes and edits lines; it is set raw before its name is published.
* When nobody holds the slave open the master reads EIO; we keep one descriptor on the slave.
* A pty has no speed, so bytes arrive in an instant and timing bugs stay hidden. `pace=True` sends
  and receives at `baud`.
* A pty's buffer fills when nobody reads; a real UART without handshake loses such bytes, so we do.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios
import tty
from pathlib import Path

READ_CHUNK = 4096
# Bytes received and not yet read by the simulator. No protocol here has messages a tenth as long;
# beyond it the oldest are lost, as in a UART's buffer.
MAX_PENDING_BYTES = 256 * 1024
# How long a full pty buffer is waited for before the rest is lost like on a line without handshake.
FULL_BUFFER_S = 1.0
# Paced sending writes what this much time carries at once: timers are not finer on a busy board.
PACE_STEP_S = 0.002
# The kernel hands bytes from one end of a pty to the other in a work queue of its own.
KERNEL_S = 0.002
# The kernel's number of a rate -> the rate.
_RATES = {
    getattr(termios, f"B{rate}"): rate
    for rate in (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
}


class PtyLine:
    """One pty pair. Open it inside a running loop; `link` is a symlink to the slave, made and
    replaced atomically, removed by `close()`.

    `bits_per_char` counts start, data, parity and stop bits (8N1: 10, 8N2: 11)."""

    def __init__(
        self, link: Path, *, baud: int = 9600, pace: bool = False, bits_per_char: int = 11
    ) -> None:
        self.link = link
        self.pace = pace
        self.powered = True
        self.lost_bytes = 0  # arrived while the power was off
        self.received_bytes = 0  # all others
        self._baud = baud
        self._char_s = bits_per_char / baud
        self._master = -1
        self._slave = -1
        self._slave_name = ""
        self._pending = bytearray()
        self._arrived = asyncio.Event()
        self._receive_free_at = 0.0
        self._send_free_at = 0.0

    @property
    def slave_name(self) -> str:
        return self._slave_name

    @property
    def baud(self) -> int:
        """Our rate."""
        return self._baud

    def set_baud(self, baud: int, bits_per_char: int = 11) -> None:
        self._baud = baud
        self._char_s = bits_per_char / baud

    def peer_baud(self) -> int | None:
        """The rate that whoever opened the slave has set there; None where that is no known one."""
        if self._slave < 0:
            return None
        return _RATES.get(termios.tcgetattr(self._slave)[5])

    def open(self) -> None:
        """Raises FileExistsError when `link` is something else than a symlink."""
        if self.link.exists() and not self.link.is_symlink():
            raise FileExistsError(f"{self.link} exists and is no symlink; choose another --link")
        self._open_pair()

    def _open_pair(self) -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._master, self._slave = master, slave
        self._slave_name = os.ttyname(slave)
        publish(self.link, self._slave_name)
        asyncio.get_running_loop().add_reader(master, self._on_readable)

    def _close_pair(self) -> None:
        if self._master < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    def close(self) -> None:
        self._close_pair()
        if self.link.is_symlink() and os.readlink(self.link) == self._slave_name:  # noqa: PTH115
            self.link.unlink()

    def replug(self) -> None:
        """As if the USB plug was pulled and put back: whoever has the old device open gets a
        hang-up, and the same link leads to a new one."""
        self._close_pair()
        self._pending.clear()
        self._open_pair()

    def unplug(self) -> None:
        """Pull the plug: hang-up, and the link is gone until `replug()`."""
        self._close_pair()
        self.link.unlink(missing_ok=True)

    def power_off(self) -> None:
        """The device at our end is dead: what arrives is lost, nothing is sent."""
        self.powered = False
        self._pending.clear()

    def power_on(self) -> None:
        """Comes up with empty buffers in both directions."""
        self._pending.clear()
        if self._slave >= 0:
            self._on_readable()  # what has arrived unseen is lost, too
            termios.tcflush(self._slave, termios.TCIOFLUSH)
        self.powered = True

    def _on_readable(self) -> None:
        try:
            data = os.read(self._master, READ_CHUNK)
        except BlockingIOError:
            return
        if not self.powered:
            self.lost_bytes += len(data)
            return
        self.received_bytes += len(data)
        self._pending += data
        del self._pending[: max(0, len(self._pending) - MAX_PENDING_BYTES)]
        self._arrived.set()

    async def read(self) -> bytes:
        """At least one byte; waits for ever. With pacing, bytes come when the line had time to
        carry them."""
        while not self._pending:
            self._arrived.clear()
            await self._arrived.wait()
        if not self.pace:
            data = bytes(self._pending)
            self._pending.clear()
            return data
        loop = asyncio.get_running_loop()
        count = min(len(self._pending), max(1, int(PACE_STEP_S / self._char_s)))
        self._receive_free_at = max(self._receive_free_at, loop.time()) + count * self._char_s
        await asyncio.sleep(self._receive_free_at - loop.time())
        data = bytes(self._pending[:count])
        del self._pending[:count]
        return data or await self.read()  # power was cut while the bytes were on the line

    def discard(self) -> bytes:
        """Throw away what has arrived, and return it."""
        data = bytes(self._pending)
        self._pending.clear()
        return data

    async def write(self, data: bytes, *, gap_at: int = 0, gap_s: float = 0.0) -> None:
        """Send `data`; returns when the last byte has left. `gap_s` is a pause after `gap_at`
        bytes, for peers that watch the time between two bytes."""
        if gap_s > 0:
            await self._write(data[:gap_at])
            await asyncio.sleep(gap_s)
            await self._write(data[gap_at:])
        else:
            await self._write(data)

    async def drained(self, at_most_s: float) -> None:
        """Until whoever opened the slave has taken what was sent. On a real line bytes that have left
        arrive; here pulling the plug would take back what is still in the pty's buffer."""
        loop = asyncio.get_running_loop()
        end = loop.time() + at_most_s
        await asyncio.sleep(KERNEL_S)
        # The kernel tells nobody when the other end has read.
        while self._slave >= 0 and self._unread() and loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(KERNEL_S)

    def _unread(self) -> int:
        buffer = bytearray(4)
        fcntl.ioctl(self._slave, termios.FIONREAD, buffer)
        return int.from_bytes(buffer, sys.byteorder)

    async def _write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        step = max(1, int(PACE_STEP_S / self._char_s)) if self.pace else len(data) or 1
        # From the beginning of the message, not from chunk to chunk: what a timer is late by is made good
        # by the next one, as a UART does not pause because the board is busy.
        self._send_free_at = max(self._send_free_at, loop.time())
        for start in range(0, len(data), step):
            chunk = data[start : start + step]
            if self.pace:
                self._send_free_at += len(chunk) * self._char_s
                await asyncio.sleep(max(0.0, self._send_free_at - loop.time()))
            await self._write_now(chunk)

    async def _write_now(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view and self.powered and self._master >= 0:
            try:
                view = view[os.write(self._master, view) :]
            except BlockingIOError:
                if not await self._writable():
                    return  # nobody reads: lost, as on a line without handshake

    async def _writable(self) -> bool:
        loop = asyncio.get_running_loop()
        master = self._master
        ready = asyncio.Event()
        loop.add_writer(master, ready.set)
        try:
            async with asyncio.timeout(FULL_BUFFER_S):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            if self._master == master:
                loop.remove_writer(master)
        return self._master == master


def publish(link: Path, target: str) -> None:
    """Make or replace the symlink `link` in one step, so that nobody ever finds it missing."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
