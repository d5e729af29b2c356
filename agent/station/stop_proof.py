"""That a stop has worked is proven by the controller's state and by the meter, not by our command."""

from __future__ import annotations

from agent.ports import EvseSnapshot, EvseState
from agent.values import Reading

POWER_ZERO_W = 100  # contactor coils and meters' creep stay below; a charging car does not
QUIET_READS = 2  # a single zero may be a torn moment
STOP_ALARM_MS = 30_000
# Without a meter the controller's word has to stand for so long: a contactor may only just be opening.
OFF_ALONE_MS = 10_000
# Neither can be asked, and perhaps never again: the bill then ends at the last durable reading, long before
# the hold lapses. The connector stays closed as long as its controller says nothing.
BOTH_SILENT_MS = 60 * 60_000
# In these the controller may still deliver, or nobody knows.
NOT_STANDING = (EvseState.CHARGING, EvseState.READY, EvseState.UNKNOWN)


class StopProof:
    """One stop, from the moment it was decided. `see` with every turn; its answer is the proof, empty
    as long as there is none."""

    def __init__(self, since_ms: int) -> None:
        self._since_ms = since_ms
        self._quiet_reads = 0
        self._quiet_since_ms: int | None = None
        self._alarmed = False

    def see(
        self,
        now_ms: int,
        snapshot: EvseSnapshot,
        reading: Reading,
        *,
        off_since_ms: int | None,
        evse_silent_ms: int,
        silent_bound_ms: int,
        meter_lost: bool,
    ) -> str:
        """`off_since_ms`: since when the withdrawal stands; what was seen before it proves nothing.
        `silent_bound_ms`: how long a silent controller needs until it counts as withdrawn."""
        self._listen(now_ms, reading, max(self._since_ms, off_since_ms or 0))
        off_ms = -1 if off_since_ms is None else snapshot.boot_ms - off_since_ms
        standing = off_ms >= 0 and snapshot.state not in NOT_STANDING
        if standing and self._quiet_reads >= QUIET_READS:
            return "controller and meter"
        if standing and meter_lost and off_ms >= OFF_ALONE_MS:
            return "controller; meter lost"
        quiet_ms = 0 if self._quiet_since_ms is None else now_ms - self._quiet_since_ms
        if evse_silent_ms >= silent_bound_ms and quiet_ms >= silent_bound_ms:
            return "meter; controller lost"
        if meter_lost and evse_silent_ms >= BOTH_SILENT_MS:
            return "none; controller and meter lost"
        return ""

    def _listen(self, now_ms: int, reading: Reading, since_ms: int) -> None:
        if not (reading.ok and (reading.power_w or 0) <= POWER_ZERO_W):
            self._quiet_reads, self._quiet_since_ms = 0, None
        elif reading.boot_ms >= since_ms:
            self._quiet_reads += 1
            if self._quiet_since_ms is None:
                self._quiet_since_ms = now_ms

    def overdue(self, now_ms: int) -> bool:
        """True once, when the stop should long have worked."""
        if self._alarmed or now_ms - self._since_ms < STOP_ALARM_MS:
            return False
        self._alarmed = True
        return True
