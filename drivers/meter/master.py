"""The master of one RTU bus as a pure state machine: who speaks next, and what may be believed.

Events in (`submit`, `cancel`, `receive`, `line_opened`, `line_lost`, each with the time in milliseconds of
one boot-time clock), bytes to send out of `poll`, answers out of `finished`, the next wake-up out of
`next_deadline`. It sleeps never and owns no clock.

Billing-grade means: no request is sent while an answer to an earlier one can still arrive. After a
timeout, a bad frame, a cancelled request, a second frame or a reopened line the bus is *dirty*: input is
thrown away until nothing came for the longest time that the device which is owed a reply may take. That
time is a property of the device (its model file); a device that answers even later than it is declared to
is the one case this cannot catch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from drivers.meter.modbus import (
    SHORTEST_FRAME,
    Babbling,
    BadFrame,
    BusError,
    ExceptionReply,
    LineGone,
    QueueFull,
    Receiver,
    Request,
    Timeout,
)
from drivers.meter.timing import DeviceTiming, Wire

# Further tries of a read after the first. One is enough for noise; a dead device is asked again by the
# next poll anyway, and each failed try costs the whole bus a quarantine.
READ_RETRIES = 1
# Waiting requests; a bus at 9600 baud serves some 10 to 20 in a second, more would be stale when served.
MAX_QUEUED = 32
# On top of that, stops are still taken.
MAX_QUEUED_STOPS = 16
# Added to every response time: a USB adapter holds bytes back for up to 16 ms (FTDI latency timer), and
# the process may be scheduled late by about as much.
LATENCY_SLACK_MS = 40
# Pause before a device that said "busy" (exceptions 5 and 6) is asked again.
BUSY_PAUSE_MS = 200
# A quarantine may be prolonged by further bytes this many times its length; then the bus counts as
# babbling and who waits is told so.
QUARANTINE_LENGTHS = 4
# No quarantine is given up earlier than this, also where devices are declared to be very fast.
QUARANTINE_BOUND_MIN_MS = 1000


class Priority(IntEnum):
    """Who goes first when several wait. A lower number never waits for a higher one."""

    STOP = 0  # taking energy away
    COMMAND = 1
    READ = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """Values of a good reply (registers, or bits as 0 and 1) and when its last byte was seen."""

    values: tuple[int, ...]
    received_ms: int


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of the request with this ticket."""

    ticket: int
    outcome: Answer | BusError


@dataclass(slots=True)
class Counters:
    """What happened on the bus since the start; for a person who looks for a bad cable."""

    sent: int = 0
    answered: int = 0
    timeouts: int = 0
    bad_frames: int = 0
    exceptions: int = 0
    cancelled: int = 0
    quarantines: int = 0
    discarded_bytes: int = 0
    # Per unit, how late after its request a reply came that was no longer waited for. When this comes
    # near the device's longest_reply_ms, that number is too small.
    latest_late_ms: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Job:
    ticket: int
    request: Request
    timing: DeviceTiming
    priority: Priority
    tries: int


@dataclass(slots=True)
class _Flight:
    job: _Job
    receiver: Receiver
    sent_end_ms: int
    deadline_ms: int


@dataclass(slots=True)
class _Dirty:
    quiet_ms: int  # silence needed
    base_ms: int  # the silence counts from here or from the last byte
    since_ms: int  # the bound counts from here
    owed_by: int | None = None  # unit whose reply may still come ...
    owed_since_ms: int = 0  # ... to a request that ended then


class Master:
    """See the module. Times never go back; every method may be called at any time."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.counters = Counters()
        self._up = False
        self._queue: list[_Job] = []
        self._flight: _Flight | None = None
        self._dirty: _Dirty | None = None
        self._done: list[Finished] = []
        self._tickets = 0
        self._turns = 0
        self._last_turn: dict[int, int] = {}
        self._ready_ms: dict[int, int] = {}
        self._longest_ms: dict[int, int] = {}
        self._silent: set[int] = set()
        self._last_byte_ms = 0
        self._stray = 0

    # --- What the owner tells -----------------------------------------------------------------

    def submit(
        self,
        request: Request,
        timing: DeviceTiming,
        priority: Priority,
        now_ms: int,
        *,
        repeatable: bool | None = None,
    ) -> int:
        """Queue a request; returns its ticket. `repeatable` (default: reads only) allows another try
        after a failure; only who knows that a write may arrive twice may set it. Raises QueueFull."""
        most = MAX_QUEUED + (MAX_QUEUED_STOPS if priority is Priority.STOP else 0)
        if len(self._queue) >= most:
            raise QueueFull(f"{len(self._queue)} requests wait for the bus")
        if self._dirty is not None and not self._queue:
            self._dirty.since_ms = now_ms  # nobody waited before, so nothing was prolonged
        self._tickets += 1
        again = not request.writes if repeatable is None else repeatable
        tries = 1 + (READ_RETRIES if again else 0)
        self._queue.append(_Job(self._tickets, request, timing, priority, tries))
        self._longest_ms[request.unit] = timing.longest_reply_ms
        return self._tickets

    def cancel(self, ticket: int, now_ms: int) -> None:
        """Nobody waits for `ticket` any more. Its reply may still come."""
        self._queue = [job for job in self._queue if job.ticket != ticket]
        flight = self._flight
        if flight is not None and flight.job.ticket == ticket:
            self.counters.cancelled += 1
            self._flight = None
            self._owe(flight, now_ms)

    def line_opened(self, now_ms: int) -> None:
        """Bytes can flow. Whoever spoke on this line before, maybe our own killed process, may be owed
        a reply by any device of this bus."""
        self._up = True
        self._stray = 0
        self._last_byte_ms = now_ms
        self._soil(now_ms, max(self._longest_ms.values(), default=0))
        if self._dirty is not None:
            self._dirty.since_ms = now_ms

    def line_lost(self, why: str, now_ms: int) -> None:
        """The line is gone: everything under way and waiting fails with LineGone."""
        self._up = False
        if self._flight is not None:
            self._queue.insert(0, self._flight.job)
            self._flight = None
        self._fail_all(LineGone(why))

    def receive(self, data: bytes, now_ms: int) -> None:
        """Bytes came."""
        self._last_byte_ms = now_ms
        if self._flight is not None:
            self._in_flight(self._flight, data, now_ms)
        elif self._dirty is not None:
            self._note_late(self._dirty, now_ms)
            self.counters.discarded_bytes += len(data)
        else:
            self._stray += len(data)
            self.counters.discarded_bytes += len(data)
            if self._stray >= SHORTEST_FRAME:
                # Somebody speaks without being asked: a second master, or a reply later than declared.
                self._soil(now_ms, max(self._longest_ms.values(), default=0))

    # --- What the owner asks ------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests queued or under way."""
        return len(self._queue) + (self._flight is not None)

    @property
    def state(self) -> str:
        """ "down", "asking", "quarantine" or "idle"."""
        if not self._up:
            return "down"
        if self._flight is not None:
            return "asking"
        return "quarantine" if self._dirty is not None else "idle"

    def finished(self) -> list[Finished]:
        """Outcomes since the last call."""
        done, self._done = self._done, []
        return done

    def poll(self, now_ms: int) -> bytes | None:
        """Let time pass. Returns the frame to send now, if any. All bytes that have arrived must have
        been given to `receive` before, else a reply in the buffer passes for the next one."""
        if not self._up:
            return None
        if self._flight is not None:
            if now_ms < self._flight.deadline_ms:
                return None
            self._time_out(self._flight, now_ms)
        if self._dirty is not None and now_ms < self._quiet_at(self._dirty):
            return self._babbling(self._dirty, now_ms)
        self._dirty = None
        job = self._next_job(now_ms)
        return None if job is None else self._send(job, now_ms)

    def next_deadline(self) -> int | None:
        """When `poll` has something to do next; None when only an event can change anything."""
        if not self._up:
            return None
        if self._flight is not None:
            return self._flight.deadline_ms
        if not self._queue:
            return None
        if self._dirty is not None:
            return min(self._quiet_at(self._dirty), self._bound_at(self._dirty))
        return min(self._ready_at(job) for job in self._foremost())

    # --- Turns --------------------------------------------------------------------------------

    def _foremost(self) -> list[_Job]:
        first = min(job.priority for job in self._queue)
        return [job for job in self._queue if job.priority is first]

    def _ready_at(self, job: _Job) -> int:
        quiet = self._last_byte_ms + self.wire.pause_ms
        return max(quiet, self._ready_ms.get(job.request.unit, 0))

    def _next_job(self, now_ms: int) -> _Job | None:
        """The next turn: most urgent first, among equals the unit that spoke longest ago. Who is more
        urgent is waited for, also when only a less urgent device is past its pause."""
        if not self._queue:
            return None
        ready = [job for job in self._foremost() if self._ready_at(job) <= now_ms]
        if not ready:
            return None
        return min(ready, key=lambda job: (self._last_turn.get(job.request.unit, 0), job.ticket))

    def _send(self, job: _Job, now_ms: int) -> bytes:
        self._queue.remove(job)
        self._turns += 1
        self._last_turn[job.request.unit] = self._turns
        job.tries -= 1
        sent_end = now_ms + self.wire.ms(len(job.request.frame))
        reply = self.wire.ms(job.request.reply_bytes)
        deadline = sent_end + job.timing.turnaround_ms + reply + LATENCY_SLACK_MS
        self._flight = _Flight(job, Receiver(job.request), sent_end, deadline)
        self._stray = 0
        self.counters.sent += 1
        return job.request.frame

    # --- Ends of a request --------------------------------------------------------------------

    def _in_flight(self, flight: _Flight, data: bytes, now_ms: int) -> None:
        try:
            values = flight.receiver.feed(data)
        except ExceptionReply as error:
            self._excepted(flight, error, now_ms)
            return
        except BadFrame as error:
            self.counters.bad_frames += 1
            self._flight = None
            self._owe(flight, now_ms)
            self._again_or_fail(flight.job, error, may_repeat=True)
            return
        if values is not None:
            self._flight = None
            self.counters.answered += 1
            self._heard(flight, now_ms, flight.job.timing.min_gap_ms)
            self._done.append(Finished(flight.job.ticket, Answer(values, now_ms)))

    def _excepted(self, flight: _Flight, error: ExceptionReply, now_ms: int) -> None:
        self._flight = None
        self.counters.exceptions += 1
        busy = error.code in ExceptionReply.BUSY
        gap = flight.job.timing.min_gap_ms
        self._heard(flight, now_ms, max(gap, BUSY_PAUSE_MS) if busy else gap)
        if error.code in ExceptionReply.GATEWAY:
            self._owe(flight, now_ms)
        self._again_or_fail(flight.job, error, may_repeat=busy)

    def _time_out(self, flight: _Flight, now_ms: int) -> None:
        self.counters.timeouts += 1
        self._flight = None
        self._owe(flight, now_ms)
        unit, got = flight.job.request.unit, flight.receiver.got
        # A device that did not answer the last time either gets no second try: a dead one must not
        # keep its neighbours waiting through one quarantine more.
        known_silent = unit in self._silent
        if not got:
            self._silent.add(unit)
        missing = f"{got} of {flight.job.request.reply_bytes} bytes" if got else "nothing"
        waited = now_ms - flight.sent_end_ms
        error = Timeout(f"{missing} came within {waited} ms from {flight.job.request.describe()}")
        self._again_or_fail(flight.job, error, may_repeat=not known_silent)

    def _heard(self, flight: _Flight, now_ms: int, gap_ms: int) -> None:
        self._stray = flight.receiver.surplus
        self._silent.discard(flight.job.request.unit)
        self._ready_ms[flight.job.request.unit] = now_ms + gap_ms

    def _again_or_fail(self, job: _Job, error: BusError, *, may_repeat: bool) -> None:
        if may_repeat and job.tries > 0:
            self._queue.append(job)
        else:
            self._done.append(Finished(job.ticket, error))

    def _fail_all(self, error: BusError) -> None:
        self._done += [Finished(job.ticket, error) for job in self._queue]
        self._queue.clear()

    # --- Quarantine ---------------------------------------------------------------------------

    def _owe(self, flight: _Flight, now_ms: int) -> None:
        """The reply to `flight` may still come: nothing may be sent before it cannot any more."""
        unit = flight.job.request.unit
        self._ready_ms[unit] = now_ms + flight.job.timing.min_gap_ms
        base = max(now_ms, flight.sent_end_ms)
        self._soil(base, flight.job.timing.longest_reply_ms)
        if self._dirty is not None:
            self._dirty.since_ms = now_ms
            self._dirty.owed_by, self._dirty.owed_since_ms = unit, flight.sent_end_ms

    def _soil(self, base_ms: int, quiet_ms: int) -> None:
        quiet = max(quiet_ms, self.wire.pause_ms)
        if self._dirty is None:
            self.counters.quarantines += 1
            self._dirty = _Dirty(quiet, base_ms, base_ms)
        else:
            self._dirty.quiet_ms = max(quiet, self._dirty.quiet_ms)
            self._dirty.base_ms = max(base_ms, self._dirty.base_ms)

    def _quiet_at(self, dirty: _Dirty) -> int:
        return max(dirty.base_ms, self._last_byte_ms) + dirty.quiet_ms

    def _bound_at(self, dirty: _Dirty) -> int:
        return dirty.since_ms + max(QUARANTINE_LENGTHS * dirty.quiet_ms, QUARANTINE_BOUND_MIN_MS)

    def _babbling(self, dirty: _Dirty, now_ms: int) -> bytes | None:
        """Who waits is told so once the quarantine took too long. A stop that writes is sent all the
        same, into the noise: it can do no harm, and it may be the last thing that ends free energy."""
        if now_ms < self._bound_at(dirty):
            return None
        spent, dirty.since_ms = now_ms - dirty.since_ms, now_ms
        stops = (job for job in self._queue if job.priority is Priority.STOP and job.request.writes)
        stop = next(stops, None)
        self._fail_all(
            Babbling(f"bytes kept coming for {spent} ms, never {dirty.quiet_ms} ms of silence")
        )
        return None if stop is None else stop.request.frame

    def _note_late(self, dirty: _Dirty, now_ms: int) -> None:
        if dirty.owed_by is not None:
            late = now_ms - dirty.owed_since_ms
            seen = self.counters.latest_late_ms.get(dirty.owed_by, 0)
            self.counters.latest_late_ms[dirty.owed_by] = max(seen, late)
            dirty.owed_by = None
