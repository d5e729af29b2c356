"""systemd's notification socket, and the watchdog that is fed only by progress."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable


def notify(message: str) -> None:
    """Tell systemd (READY=1, STATUS=..., WATCHDOG=1). Without systemd nothing happens."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        s.setblocking(False)  # a service manager that does not listen must not hold the station up
        try:
            s.connect(address)
            s.sendall(message.encode())
        except OSError:
            return  # the service manager went away; the service itself is fine


def watchdog_interval_ms() -> int | None:
    """Half of systemd's WatchdogSec, or None when it does not watch."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    return int(usec) // 2000 if usec.isdigit() and int(usec) > 0 else None


class Progress:
    """Loops beat; the watchdog is fed only while every loop has beaten within its own bound.

    A loop that hangs in an await is a hang of the station, even when the event loop still turns."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._loops: dict[str, tuple[int, int]] = {}  # name -> (last beat, bound)

    def beat(self, name: str, bound_ms: int) -> None:
        self._loops[name] = (self._now_ms(), bound_ms)

    def leave(self, name: str) -> None:
        self._loops.pop(name, None)

    def stuck(self) -> list[str]:
        now = self._now_ms()
        return [n for n, (last, bound_ms) in self._loops.items() if now - last > bound_ms]
