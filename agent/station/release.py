"""Whether energy may flow, said to one charge controller again and again.

Level-triggered: given and re-asserted while it is allowed, withdrawn while it is not, whatever was said
before. A lost command, a restarted controller or a repeated snapshot cannot leave energy on."""

from __future__ import annotations

from agent.ports import DeviceUnavailable, Evse, EvseSnapshot, EvseState
from agent.station.context import Context
from agent.station.register import Health

LEASE_S = 30  # for controllers without a fail-safe of their own
SILENT_MS = 60_000  # a car that pauses for a moment comes back sooner
SILENT_LEAST_MS = 5_000  # on top of a fail-safe time: two clocks, and the contactor
RELEASED_STATES = (EvseState.READY, EvseState.CHARGING)
NOT_RELEASED_STATES = (EvseState.PLUGGED, EvseState.FINISHED)


class Release:
    def __init__(self, evse_id: str, evse: Evse, limit_ma: int, health: Health, context: Context):
        self._id, self._evse, self._limit_ma = evse_id, evse, limit_ma
        self._health, self._clock, self._log = health, context.clock, context.log
        self._given: bool | None = None  # None: not known
        self._due_ms = 0
        self._barred = False
        self.off_since_ms: int | None = None  # since when the controller has confirmed: withdrawn

    async def turn(self, allowed: bool, snapshot: EvseSnapshot) -> None:
        """Bring the controller to what is allowed. A controller that does not answer is told again
        in the next turn."""
        try:
            if allowed and not self._barred:
                await self._assert(snapshot)
            elif self._given is not False or snapshot.state in RELEASED_STATES:
                await self.withdraw()
        except DeviceUnavailable as error:
            self._given = None
            self._health.note(False, error.code, str(error))

    async def _assert(self, snapshot: EvseSnapshot) -> None:
        now = self._clock.boot_ms()
        lost = snapshot.state in NOT_RELEASED_STATES
        if self._given is True and not lost and now < self._due_ms:
            return
        self.off_since_ms = None
        lease_s = self._evse.abilities.failsafe_s or LEASE_S
        await self._evse.release(self._limit_ma, lease_s)
        if self._barred:  # while the command was under way
            await self.withdraw()
            return
        self._given, self._due_ms = True, now + lease_s * 1000 // 3

    async def withdraw(self) -> None:
        """Take it back now. Raises DeviceUnavailable."""
        await self._evse.withdraw()
        self._given = False
        if self.off_since_ms is None:
            self.off_since_ms = self._clock.boot_ms()

    async def bar(self) -> None:
        """Take it back and never give it again: the station is going down."""
        self._barred = True
        try:
            await self.withdraw()
        except DeviceUnavailable as error:
            text = str(error)
            self._log("withdraw_failed", level="error", id="STA-024", evse=self._id, why=text)

    @property
    def ends_by_itself(self) -> bool:
        """The controller withdraws when nobody re-asserts."""
        return self._evse.abilities.failsafe_s is not None

    @property
    def silent_bound_ms(self) -> int:
        """How long a controller must have been silent until it has withdrawn by itself; where it never
        does, how long without power has to stand for it."""
        failsafe_s = self._evse.abilities.failsafe_s
        return SILENT_MS if failsafe_s is None else SILENT_LEAST_MS + failsafe_s * 1000
