"""The terminal simulator of hil/ in this process, on a virtual clock, at the far end of a line in memory.

Everything between the bytes and the acquirer's ledger is the simulator as it is shipped. Replaced are the
pty, the TCP listener and the disk; the wall clock becomes the loop's."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from support.virtual_loop import VirtualLoop
from support.zvt_cable import EcrEnd
from support.zvt_wires import Carry, Wire

from drivers.line import LineLost
from hil.terminal import simulator as hil_simulator
from hil.terminal import tcp as hil_tcp
from hil.terminal.simulator import Options, Simulator
from hil.terminal.store import Memory, Row, Store

EPOCH = datetime(2026, 3, 1, 12, tzinfo=UTC)
PORT = 20007
NOWHERE = Path("/nonexistent")


def _now() -> datetime:
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


class VirtualStore(Store):
    """Keeps in memory what the real one keeps on the disk; `reload` forgets what was never saved."""

    def __init__(self, path: Path, ledger: Path, tid: str, currency: str) -> None:
        self.path, self.ledger = path, ledger
        self.skew_s = lambda: 0.0
        self._booked: list[Row] = []
        self.memory = Memory(tid=tid, currency=currency)
        self.memory.day_opened = self.world_now().isoformat()
        self.save()

    def reload(self) -> None:
        self.memory = pickle.loads(self._saved)

    def save(self, rows: list[Row] | None = None) -> None:
        self._saved = pickle.dumps(self.memory)
        self._booked += rows or []

    def rows(self) -> list[Row]:
        return list(self._booked)

    def world_now(self) -> datetime:
        return _now().replace(tzinfo=None) + timedelta(seconds=self.memory.world_offset_s)

    def row(self, *args: Any, **more: Any) -> Row:
        return {**super().row(*args, **more), "time": _now().isoformat()}


# --- A serial line --------------------------------------------------------------------------------


class SerialCable(EcrEnd):
    """A driver, two wires, and the simulator's end of them (hil.common.pty_line.PtyLine)."""

    def __init__(self, carry: Carry, rng: random.Random) -> None:
        super().__init__()
        self.far = FarEnd(self)
        self._out = Wire(carry, rng, self.far.arrived)
        self._back = Wire(carry, rng, self._arrived)

    def change_wire(self, carry: Carry) -> None:
        self._out.carry = self._back.carry = carry

    async def open(self, spec: Any) -> Self:
        self.far.ecr_baud = spec.baud
        return await super().open(spec)

    def _dial(self) -> None:
        if self._out.cut:
            raise LineLost("no such device")

    def _carry(self, data: bytes) -> None:
        self._out.send(data)

    def to_ecr(self, data: bytes) -> None:
        self._back.send(data)

    def unplug(self) -> None:
        self._out.cut = self._back.cut = True
        self._lose("hung up")

    def replug(self) -> None:
        self._out.cut = self._back.cut = False


class FarEnd:
    """What the simulator takes for its pty."""

    def __init__(self, cable: SerialCable) -> None:
        self._cable = cable
        self._pending = bytearray()
        self._news = asyncio.Event()
        self.powered = True
        self.baud = self.ecr_baud = 9600

    def __call__(self, _link: Path, **_more: Any) -> FarEnd:
        return self  # the simulator makes its own line, and gets this one

    def open(self) -> None: ...

    def close(self) -> None: ...

    def arrived(self, data: bytes) -> None:
        if self.powered:
            self._pending += data
            self._news.set()

    async def read(self) -> bytes:
        while not self._pending:
            self._news.clear()
            await self._news.wait()
        return self.discard()

    def discard(self) -> bytes:
        data = bytes(self._pending)
        self._pending.clear()
        return data

    async def write(self, data: bytes, *, gap_at: int = 0, gap_s: float = 0.0) -> None:
        if gap_s > 0:
            self._put(data[:gap_at])
            await asyncio.sleep(gap_s)
            data = data[gap_at:]
        self._put(data)

    def _put(self, data: bytes) -> None:
        if self.powered and data:
            self._cable.to_ecr(data)

    async def drained(self, _at_most_s: float) -> None: ...

    def set_baud(self, baud: int, _bits_per_char: int = 11) -> None:
        self.baud = baud

    def peer_baud(self) -> int:
        return self.ecr_baud

    def power_off(self) -> None:
        self.powered = False
        self._pending.clear()

    def power_on(self) -> None:
        self.powered = True


# --- TCP ------------------------------------------------------------------------------------------


class TcpCable(EcrEnd):
    """A driver that connects to the one port that is listened on. `unplug` cuts the connection and
    refuses new ones."""

    def __init__(self, carry: Carry, rng: random.Random, loop: VirtualLoop) -> None:
        super().__init__()
        self._carrier, self._rng = carry, rng
        self._accept: Callable[[], asyncio.Protocol] | None = None
        self._connection: _Connection | None = None
        self._refusing = False
        loop.create_server = self._listen  # type: ignore[assignment,method-assign]  # no sockets here

    async def _listen(
        self, accept: Callable[[], asyncio.Protocol], *_: Any, **__: Any
    ) -> _Listening:
        self._accept = accept
        return _Listening()

    def change_wire(self, carry: Carry) -> None:
        self._carrier = carry
        if self._connection is not None:
            self._connection.out.carry = self._connection.back.carry = carry

    def _dial(self) -> None:
        if self._refusing or self._accept is None:
            raise LineLost("connection refused")
        self._connection = _Connection(self, self._accept(), self._carrier, self._rng)

    def _carry(self, data: bytes) -> None:
        assert self._connection is not None
        self._connection.out.send(data)

    def arrived_on(self, connection: _Connection, data: bytes) -> None:
        if connection is self._connection:
            self._arrived(data)

    def ended(self, connection: _Connection) -> None:
        if connection is self._connection:
            self._lose("closed by the terminal")

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.hang_up()
        await super().close()

    def unplug(self) -> None:
        self._refusing = True
        if self._connection is not None:
            self._connection.cut()
        self._lose("connection reset")

    def replug(self) -> None:
        self._refusing = False


class _Listening:
    class _Socket:
        def getsockname(self) -> tuple[str, int]:
            return ("127.0.0.1", PORT)

    sockets = (_Socket(),)

    def close(self) -> None: ...

    async def wait_closed(self) -> None: ...


class _Connection(asyncio.Transport):
    """One connection; this is the simulator's transport."""

    def __init__(
        self, cable: TcpCable, protocol: asyncio.Protocol, carry: Carry, rng: random.Random
    ) -> None:
        super().__init__({"socket": self})
        self._cable, self._protocol = cable, protocol
        self.out = Wire(carry, rng, self._to_terminal)
        self.back = Wire(carry, rng, lambda data: cable.arrived_on(self, data))
        self._closing = self._gone = False
        protocol.connection_made(self)

    def setsockopt(self, *_: Any) -> None: ...

    def _to_terminal(self, data: bytes) -> None:
        if not self._gone and not self._closing:
            self._protocol.data_received(data)

    def hang_up(self) -> None:
        """The ECR has closed: what it wrote still arrives."""
        self.out.after_all(self._lose)

    def cut(self) -> None:
        self.out.cut = self.back.cut = True
        self._lose()

    def _lose(self) -> None:
        if not self._gone:
            self._gone = True
            self._protocol.connection_lost(None)

    # what the simulator does with it

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and not self._gone:
            self.back.send(bytes(data))

    def is_closing(self) -> bool:
        return self._closing or self._gone

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.back.after_all(lambda: self._cable.ended(self))
            asyncio.get_running_loop().call_soon(self._lose)

    def abort(self) -> None:
        self.back.cut = True
        self._cable.ended(self)
        self._closing = True
        asyncio.get_running_loop().call_soon(self._lose)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


# --- The terminal ---------------------------------------------------------------------------------

OPTIONS = Options(control=NOWHERE / "control", store=NOWHERE / "store", ledger=NOWHERE / "ledger")


async def start_simulator(
    monkeypatch: pytest.MonkeyPatch, cable: SerialCable | TcpCable, **options: Any
) -> Simulator:
    """Powered up, its link led to `cable`."""
    monkeypatch.setattr(hil_simulator, "Store", VirtualStore)
    if isinstance(cable, SerialCable):
        monkeypatch.setattr(hil_simulator, "PtyLine", cable.far)
        options["link"] = NOWHERE / "line"
    else:
        options["tcp_port"] = PORT
    assert hil_tcp.TcpLink is hil_simulator.TcpLink
    return await Simulator(replace(OPTIONS, **options)).start()
