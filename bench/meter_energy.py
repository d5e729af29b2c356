"""Energy billed over 10,000 faults of the bus, next to the energy that flowed: the driver as it is shipped,
on a virtual clock, against the simulated meter and its own truth."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

from agent.ports import DriverEnv, LineSpec, MeterSpec
from agent.values import Reading
from bench.report import Goal, Table
from drivers.meter.modbus_meter import ModbusMeter, open_meter
from drivers.meter.rtu import Bus
from hil.charger.faults import Fault
from hil.charger.plant import MW_NS_PER_MWH, Plant
from hil.charger.rtu import Request, answer, frame
from hil.meter import wordmap
from hil.meter.faults import let_out
from hil.meter.slave import Slave
from simulate.loop import VirtualLoop

MODEL = "eastron_sdm630"
FAULTS, QUICK_FAULTS = 10_000, 200
SEED = 1
START_WH = 1_234_567
BAUD = 9600
# Of a device that answers within 0.2 s, and never later than 0.6 s after the request.
OPTIONS = {"turnaround_ms": 200, "longest_reply_ms": 600, "min_gap_ms": 5}
LATE_MS = (240, 600)
FAULTY = 0.4  # of all replies
CANCELLED = 0.05  # of all readings
CHARGE_S = (5, 40)
POLL_S = 1.0
KINDS = (
    "timeout", "late", "crc", "exception", "wrong_unit", "wrong_count", "wrong_function",
    "second_master", "doubled", "doubled_late", "cut", "noise", "late_and_more",
)  # fmt: skip


@dataclass(slots=True)
class Tally:
    faults: Counter[str] = field(default_factory=Counter)
    readings: int = 0
    good: int = 0
    cancelled: int = 0
    wrong: int = 0
    sessions: int = 0
    delivered_wh: Fraction = Fraction(0)
    billed_wh: int = 0


class BadLine:
    """The line of a bus with one meter on it, and what happens to its replies."""

    def __init__(self, rng: random.Random, tally: Tally) -> None:
        self._rng, self._tally = rng, tally
        self._loop = asyncio.get_running_loop()
        self._bytes = bytearray()
        self._news = asyncio.Event()
        self.paced = True
        self.plant = Plant(bare=True)
        self.plant.advance(self._now_ns())
        self.map = wordmap.load(MODEL)
        self.slave = Slave(self.plant, self.map, self.map.serial, START_WH)
        self.told_wh = 0  # what the register showed when the last request was heard

    def _now_ns(self) -> int:
        return round(self._loop.time() * 1e3) * 1_000_000

    def load(self, watts: int) -> None:
        self.plant.advance(self._now_ns())
        self.plant.load_w = watts

    # --- The line of the bus ----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self.plant.advance(self._now_ns())
        self.told_wh = self.slave.register_wh
        pdu = data[1:-2]
        good = answer(self.slave, pdu)
        begin_s = len(data) * 10 / BAUD + self._rng.uniform(0.005, 0.1)
        for delay_s, piece in self._spoilt(Request(data[0], pdu), good):
            at_s = self._loop.time() + begin_s + delay_s + len(piece) * 10 / BAUD
            self._loop.call_at(at_s, self._arrive, piece)

    def _arrive(self, data: bytes) -> None:
        self._bytes += data
        self._news.set()

    async def read(self) -> bytes:
        while not self._bytes:
            self._news.clear()
            await self._news.wait()
        return self.discard()

    def discard(self) -> bytes:
        data = bytes(self._bytes)
        self._bytes.clear()
        return data

    async def close(self) -> None:
        self._bytes.clear()

    # --- Faults -------------------------------------------------------------------------------------

    def _spoilt(self, request: Request, pdu: bytes) -> list[tuple[float, bytes]]:
        rng, unit = self._rng, request.unit
        good = frame(unit, pdu)
        if rng.random() >= FAULTY:
            return [(0.0, good)]
        kind = rng.choice(KINDS)
        self._tally.faults[kind] += 1
        late_s = (rng.uniform(*LATE_MS) - 100) / 1000
        match kind:
            case "doubled":
                return [(0.0, good), (len(good) * 10 / BAUD + rng.random() * 0.004, good)]
            case "doubled_late":
                return [(late_s, good + good)]
            case "late_and_more":
                return [(0.0, frame(unit + 1, pdu)), (late_s, good)]
            case "cut":
                return [(0.0, good[: rng.randrange(1, len(good))])]
            case "noise":
                return [(0.0, bytes([rng.choice([0, 255, unit])]) + good)]
        code = rng.choice([2, 4, 6, 11])
        reply = let_out(Fault(kind, None, ms=round(late_s * 1000), code=code), unit, pdu)
        return [(reply.delay_ms / 1000, reply.data)] if reply.data else []


async def _reading(
    meter: ModbusMeter, line: BadLine, tally: Tally, rng: random.Random
) -> Reading | None:
    """One reading, judged; None when it was cancelled or is none."""
    tally.readings += 1
    task = asyncio.ensure_future(meter.read())
    if rng.random() < CANCELLED:
        tally.cancelled += 1
        await asyncio.wait({task}, timeout=rng.random() * 0.3)
        task.cancel()
        await asyncio.wait({task})
        return None
    reading = await task
    if not reading.ok:
        return None
    tally.good += 1
    tally.wrong += reading.energy_import_wh != line.told_wh
    return reading


async def _confirmed(meter: ModbusMeter, line: BadLine, tally: Tally, rng: random.Random) -> int:
    """Energy by two equal readings, one after the other, as a session begins and ends."""
    before: int | None = None
    while True:
        reading = await _reading(meter, line, tally, rng)
        found = None if reading is None else reading.energy_import_wh
        if found is not None and found == before:
            return found
        before = found if found is not None else before
        await asyncio.sleep(POLL_S)


async def measure(faults: int) -> Tally:
    tally, rng = Tally(), random.Random(SEED)
    loop = asyncio.get_running_loop()
    line = BadLine(rng, tally)

    async def opener(_spec: LineSpec) -> BadLine:
        return line

    env = DriverEnv(lambda: int(loop.time() * 1000), lambda *_words, **_values: None)
    bus = Bus(LineSpec("/dev/bus", BAUD), env, opener)
    meter = open_meter(MeterSpec(MODEL, line.map.unit, options=OPTIONS), bus, env)
    while tally.faults.total() < faults:
        begin_wh = await _confirmed(meter, line, tally, rng)
        flowed = line.plant.energy_mw_ns
        # 7200 W are 2 Wh a second, so that what flows in whole seconds is whole Wh.
        line.load(7_200)
        ends = round(loop.time() * 1e3) / 1e3 + rng.randint(*CHARGE_S)
        loop.call_at(ends, line.load, 0)
        while loop.time() <= ends:
            await _reading(meter, line, tally, rng)
            await asyncio.sleep(POLL_S)
        end_wh = await _confirmed(meter, line, tally, rng)
        tally.sessions += 1
        tally.billed_wh += end_wh - begin_wh
        flowed = line.plant.energy_mw_ns - flowed
        tally.delivered_wh += Fraction(flowed, MW_NS_PER_MWH * 1000)
    await bus.close()
    return tally


def run(quick: bool) -> tuple[Table, list[Goal]]:
    loop = VirtualLoop()
    try:
        found = loop.run_until_complete(measure(QUICK_FAULTS if quick else FAULTS))
    finally:
        loop.close()
    error_wh = abs(found.billed_wh - found.delivered_wh)
    rows = [
        ("faults", f"{found.faults.total():,}"),
        *((f"  {kind}", f"{found.faults[kind]:,}") for kind in KINDS),
        ("readings", f"{found.readings:,}"),
        ("  with a value", f"{found.good:,}"),
        ("  cancelled", f"{found.cancelled:,}"),
        ("  with another value than the register's", f"{found.wrong:,}"),
        ("sessions", f"{found.sessions:,}"),
        ("energy delivered, Wh", f"{float(found.delivered_wh):,.3f}"),
        ("energy billed, Wh", f"{found.billed_wh:,}"),
    ]
    title = f"Energy over a bad bus, {MODEL}, virtual clock, seed {SEED}"
    goals = [
        Goal("energy error", float(error_wh), 0.0, "Wh"),
        Goal("wrong readings", float(found.wrong), 0.0, "readings"),
    ]
    return Table(title, ("", ""), rows), goals
