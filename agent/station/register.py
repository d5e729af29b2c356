"""The billing register of one connector: reads, confirms, and judges whether a reading can be true."""

from __future__ import annotations

import asyncio
import re

from agent.ports import DeviceUnavailable, Meter
from agent.session import Session
from agent.station.context import Context
from agent.values import Quality, Reading, ReadingState, Stamp

PROGRESS_EVERY_MS = 60_000  # at most one durable reading a minute (flash wear)
IDLE_EVERY_MS = 30_000  # an idle meter is asked only to know that it is still there
CONFIRM_PAUSE_S = 0.3
CONFIRM_READS_MAX = 40  # about the time a car needs to let its current fall
# How far two readings of one moment may lie apart: a reply on its way through a busy bus.
READ_SLACK_MS = 6_000
# Meters commonly count in 10 Wh, whatever the registers they answer with could tell apart.
LEAST_STEP_WH = 10
MARGIN_PERCENT = 10  # over rated power: meters and controllers have tolerances
# Devices that start with the station, and states that are debounced, need a moment until they first answer.
GRACE_MS = 10_000

_ID = re.compile(r"[A-Z]{3}-\d{3}")


class Health:
    """Loss of a device is logged once, its return once with how long it lasted. One that has never
    answered yet is lost only after GRACE_MS: a healthy start says nothing."""

    def __init__(self, device: str, evse: str, context: Context) -> None:
        self._device, self._evse = device, evse
        self._clock, self._log = context.clock, context.log
        self._born_ms = self._clock.boot_ms()
        self._known = False
        self._lost_ms: int | None = None

    def note(self, well: bool, code: str, why: str) -> None:
        """`why` may begin with an id of its own, which then is told instead of `code`."""
        now = self._clock.boot_ms()
        if well:
            self._known = True
            if self._lost_ms is not None:
                after_ms, self._lost_ms = now - self._lost_ms, None
                self._log("device_back", device=self._device, evse=self._evse, after_ms=after_ms)
        elif self._lost_ms is None and (self._known or now - self._born_ms >= GRACE_MS):
            self._lost_ms = now
            said = _ID.match(why)
            self._log(
                "device_lost",
                level="warning",
                id=said.group() if said else code,
                device=self._device,
                evse=self._evse,
                why=why,
            )


class Register:
    """`reading` is the last one whatever it says, `good` the last one that can be billed."""

    def __init__(self, evse: str, meter: Meter, max_power_w: int, context: Context) -> None:
        self._meter, self._max_power_w = meter, max_power_w
        self._clock = context.clock
        self._health = Health("meter", evse, context)
        self._due_ms = 0
        self.model = ""
        self.ok_ms = self._clock.boot_ms()
        self.reading = Reading(ReadingState.NO_ANSWER, self.ok_ms, why="not asked yet")
        self.good: Reading | None = None

    async def read_when_due(self, running: bool) -> None:
        now = self._clock.boot_ms()
        if running or now >= self._due_ms or not self.reading.ok:
            self._due_ms = now + IDLE_EVERY_MS
            await self.read()

    async def read(self) -> Reading:
        if not self.model:
            try:
                self.model = (await self._meter.identity()).model
            except DeviceUnavailable as error:
                now = self._clock.boot_ms()
                self.reading = Reading(ReadingState.NO_ANSWER, now, why=str(error))
                self._health.note(False, error.code, str(error))
                return self.reading
        reading = self.reading = await self._meter.read()
        self._health.note(reading.ok, "STA-021", reading.why)
        if reading.ok:
            self.ok_ms, self.good = reading.boot_ms, reading
        return reading

    async def confirmed(self, reads_max: int = CONFIRM_READS_MAX) -> Reading | None:
        """Two equal readings in a row, or None after `reads_max` (billing-grade begin and end)."""
        last: Reading | None = None
        for _ in range(reads_max):
            reading = await self.read()
            if (
                reading.ok
                and last is not None
                and last.energy_import_wh == reading.energy_import_wh
            ):
                return reading
            last = reading if reading.ok else None
            await asyncio.sleep(CONFIRM_PAUSE_S)
        return None

    def fits(self, session: Session, reading: Reading) -> bool:
        """Same meter, register not lower, and no more energy than the connector can deliver."""
        wh = reading.energy_import_wh
        if wh is None or session.last_wh is None or session.last_at is None:
            return False
        if session.meter_serial is not None and reading.serial != session.meter_serial:
            return False
        allowed_ms = flowed_most_ms(session.last_at, self._clock.stamp()) + READ_SLACK_MS
        bound_wh = self._max_power_w * allowed_ms * (100 + MARGIN_PERCENT) // 360_000_000
        return session.last_wh <= wh <= session.last_wh + bound_wh + step_of(reading)


def step_of(reading: Reading | None) -> int:
    """How far, in Wh, the register may be behind the energy: some count in 100 Wh."""
    return LEAST_STEP_WH if reading is None else max(LEAST_STEP_WH, reading.step_wh)


def flowed_most_ms(last: Stamp, now: Stamp) -> int:
    """How long energy can have flowed since the durable reading of `last`. Where no wall clock can tell how
    long the board was off: while it ran on before, until the next reading was due, and since it is back."""
    proven = now.since_ms(last)
    if proven is not None:
        return proven
    at_least_ms = PROGRESS_EVERY_MS + now.boot_ms
    said = now.by_wall_clock_ms(last)
    if said is None:
        return at_least_ms
    # A clock that is read back may have been read back to an earlier time.
    return said if now.quality is Quality.TRUSTED else max(said, at_least_ms)
