"""Why no new session may begin, as far as the station itself is concerned: no room on the disk, a damaged
ledger, prices that are not kept, a record key that cannot sign. What began must be able to end."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from agent.ledger import AsyncLedger
from agent.station.desk import Desk
from agent.station.keeper import Log
from agent.station.signing import Signing
from agent.station.tariffs import Tariffs

# A session with its records takes some 100 KiB; the ledger's log grows to 4 MiB before it is folded back.
ROOM_BYTES = 16 * 1024 * 1024


class Room:
    def __init__(
        self,
        ledger: AsyncLedger,
        state: Path,
        desks: Iterable[Desk],
        signing: Signing,
        tariffs: Tariffs,
        log: Log,
    ) -> None:
        self._ledger, self._state, self._tariffs, self._log = ledger, state, tariffs, log
        self._desks, self._signing = tuple(desks), signing
        self._why = ""

    async def look(self, trouble: str = "") -> None:
        """A full disk refuses new sessions, early enough for the running ones to end. `trouble`: that of the
        ledger."""
        room = await self._ledger.look_for_room()
        free, why = self._free(), ""
        if free is None and self._tariffs.name:
            return  # the ledger itself will say so
        if free is not None and free < ROOM_BYTES:
            why = f"STA-029: {free} bytes free; expected {ROOM_BYTES}"
        why = why or ("" if room else "LED-008: no room is kept back for running sessions to end")
        why = why or (f"LED-003: {trouble}" if trouble else "")
        if not self._tariffs.name:  # a session would be priced by whatever the file says later
            why = why or f"{self._tariffs.trouble}; the prices are not kept yet"
        refused = any(desk.no_room not in ("", self._signing.trouble) for desk in self._desks)
        if why and not refused:
            effect = "no new sessions; free space in the state directory"
            self._log("disk_full", level="error", id="STA-029", why=why, effect=effect)
        elif not why and refused:
            self._log("disk_has_room", free=free)
        self._why = why
        self.tell()

    def _free(self) -> int | None:
        """Bytes; None where the file system does not say."""
        try:
            disk = os.statvfs(self._state)
        except OSError:
            return None
        return disk.f_bavail * disk.f_frsize

    def tell(self) -> None:
        """The desks show it, and refuse taps."""
        for desk in self._desks:
            desk.no_room = self._why or self._signing.trouble
            desk.refresh()
