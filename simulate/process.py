"""One life of the agent's process on the simulated board: from its start to its end or its death."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any

import apsw

from agent.settings.load import Loaded
from agent.station.charge_point import POLL_S
from agent.station.station import Paths, Station
from agent.values import Stamp
from simulate.disk import VFS_NAME, Disk
from simulate.fate import Fate, Kill
from simulate.loop import SharedLoop, Time

Log = Callable[..., None]
CONTROL_S = 30.0


class Process:
    """`died` is told when a kill is met, in the middle of a turn: from then on nothing of it reaches the
    world; `bury` is for after the turn."""

    def __init__(
        self, time: Time, loaded: Loaded, paths: Paths, disk: Disk, fate: Fate, clock: Any, log: Log,
        died: Callable[[Process, Kill], None], idle_poll_s: float = POLL_S,
    ) -> None:  # fmt: skip
        self.loop = SharedLoop(time)
        self.disk, self._fate, self._died = disk, fate, died
        self.alive = True
        self._log = log
        disk.on_operation = self._disk_operation
        self._given = (loaded.settings, loaded.tariff, paths, self._logs, clock, idle_poll_s)
        self.station: Station | None = None
        self.exit_code: int | None = None
        self.main = self.loop.create_task(self._run())

    async def _run(self) -> None:
        self.station = Station(*self._given)
        self.exit_code = await self.station.run()

    @property
    def ended(self) -> bool:
        return self.main.done()

    @property
    def error(self) -> BaseException | None:
        """Why it ended by itself, where that was an exception."""
        if not self.main.done() or self.main.cancelled():
            return None
        return self.main.exception()

    def _logs(self, event: str, level: str = "info", **values: Any) -> None:
        if self.alive:
            self._log(event, level, **values)

    # --- steps ------------------------------------------------------------------------------------

    def step(self, kind: str) -> bool:
        """False when it is dead, or dies before this step has any effect."""
        if not self.alive:
            return False
        kill = self._fate.meets(kind)
        if kill is not None:
            self.die(kill)
        return self.alive

    def _disk_operation(self, _: int, kind: str, name: str) -> None:
        if kind in ("write", "sync") and not self.step(kind):
            self.disk.dead = True

    def die(self, kill: Kill) -> None:
        self.alive = False
        self.disk.dead = True
        self._died(self, kill)

    def bury(self) -> None:
        """The system closes its files; nothing that was not written is written by that."""
        self.alive, self.disk.dead = False, True
        self.loop.discard()
        self.station = None
        for connection in apsw.connections():
            if connection.open_vfs == VFS_NAME:
                connection.close(force=True)

    def terminate(self) -> None:
        """SIGTERM."""
        handler = self.loop.signals.get(signal.SIGTERM)
        if handler is not None:
            self.loop.call_soon(handler)

    # --- the control socket -----------------------------------------------------------------------

    def ask(self, answer: Callable[[dict[str, Any]], None], do: str, **request: Any) -> None:
        """One question over the control socket; `answer` is called in the process' loop."""
        servers = list(self.loop.unix_servers.values())
        if not servers or not self.alive:
            answer({"ok": False, "error": "nobody listens"})
            return
        self.loop.call_soon(_Client, servers[-1], {"do": do, **request}, answer)


class _Client(asyncio.Transport):
    """A client of the control socket: asks once, and leaves with the answer."""

    def __init__(
        self,
        connect: Callable[[], asyncio.Protocol],
        request: dict[str, Any],
        answer: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__()
        self._answer, self._heard, self._closed = answer, bytearray(), False
        self._loop = asyncio.get_running_loop()
        self._protocol: Any = connect()
        self._protocol.connection_made(self)
        self._protocol.data_received(json.dumps(request).encode() + b"\n")

    def write(self, data: Any) -> None:
        self._heard += data
        if self._heard.endswith(b"\n"):
            self._answer(json.loads(self._heard))
            self._protocol.eof_received()
            self._closed = True

    def close(self) -> None:
        self._closed = True

    def is_closing(self) -> bool:
        """Also when its process died in the middle of the question: the system closes what it had open."""
        return self._closed or self._loop.is_closed()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class BoardClock:
    """The board's clocks, as the world has them."""

    def __init__(self, world: Any) -> None:
        self._world = world

    def boot_ms(self) -> int:
        world = self._world
        return int(round(world.time.now_s * 1000) - world.booted[-1])

    def stamp(self) -> Stamp:
        world = self._world
        return Stamp(world.utc_ms(), world.boot_ms(), world.boot_id, world.quality())
