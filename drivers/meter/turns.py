"""Who speaks next on a bus, and what becomes of each request: the part of a master that does not depend on
how frames look. Pure: times in whole microseconds of one monotonic clock come in as values.

`Master` (RTU) and `TcpMaster` add what a frame is and when the bus may be used again after something went
wrong. Events in (`submit`, `cancel`, `receive`, `line_opened`, `line_lost`), bytes to send out of `poll`,
outcomes out of `finished`, the next wake-up out of `next_deadline`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum

from drivers.meter.counters import Counters
from drivers.meter.modbus import (
    BadFrame,
    BusError,
    ExceptionReply,
    LineGone,
    QueueFull,
    Request,
    Timeout,
)
from drivers.meter.timing import MS, DeviceTiming

# Further tries of a read after the first. One is enough for noise; a dead device is asked again by the
# next poll anyway, and each failed try costs the whole bus a quarantine.
READ_RETRIES = 1
# A device that was waited for longer than this gets no second try after silence: with the quarantine behind
# each its neighbours would wait for a minute, and a connector's turn of more than that is taken for stuck.
REPEAT_WAIT_MOST_MS = 5_000
# Waiting requests; a bus at 9600 baud serves some 10 to 20 in a second, more would be stale when served.
MAX_QUEUED = 32
# On top of that, stops are still taken.
MAX_QUEUED_STOPS = 16
# Pause before a device that said "busy" (exceptions 5 and 6) is asked again.
BUSY_PAUSE_MS = 200


class Priority(IntEnum):
    """Who goes first when several wait. A lower number never waits for a higher one."""

    STOP = 0  # taking energy away
    COMMAND = 1
    READ = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """Values of a good reply (registers, or bits as 0 and 1) and when its last byte was seen, on the
    boot-time clock."""

    values: tuple[int, ...]
    received_ms: int


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of the request with this ticket: its values, or why there are none."""

    ticket: int
    outcome: tuple[int, ...] | BusError


@dataclass(slots=True)
class Job:
    """A request in the queue. `tries` are those left."""

    ticket: int
    request: Request
    timing: DeviceTiming
    priority: Priority
    tries: int


class Turns(ABC):
    """See the module. Times never go back; every method may be called at any time."""

    def __init__(self) -> None:
        self.counters = Counters()
        self._up = False
        self._queue: list[Job] = []
        self._asked: Job | None = None  # the one under way
        self._deadline_us = 0
        self._done: list[Finished] = []
        self._tickets = 0
        self._turns = 0
        self._last_turn: dict[int, int] = {}
        self._ready_us: dict[int, int] = {}
        self._silent: set[int] = set()

    # --- What the owner tells -----------------------------------------------------------------

    def submit(
        self,
        request: Request,
        timing: DeviceTiming,
        priority: Priority,
        now_us: int,
        *,
        repeatable: bool | None = None,
    ) -> int:
        """Queue a request; returns its ticket. `repeatable` (default: reads only) allows another try
        after a failure; only who knows that a write may arrive twice may set it. Raises QueueFull."""
        most = MAX_QUEUED + (MAX_QUEUED_STOPS if priority is Priority.STOP else 0)
        if len(self._queue) >= most:
            raise QueueFull(f"{len(self._queue)} requests wait for the bus")
        self._tickets += 1
        again = not request.writes if repeatable is None else repeatable
        tries = 1 + (READ_RETRIES if again else 0)
        self._queue.append(Job(self._tickets, request, timing, priority, tries))
        return self._tickets

    def cancel(self, ticket: int, now_us: int) -> None:
        """Nobody waits for `ticket` any more. Its reply may still come."""
        job = self._asked
        if job is not None and job.ticket == ticket:
            self.counters.of(job.request.unit).cancelled += 1
            self._asked = None
            self._unanswered(job, now_us)
        else:
            self._queue = [job for job in self._queue if job.ticket != ticket]

    @abstractmethod
    def line_opened(self, now_us: int, *, paced: bool = False) -> None:
        """Bytes can flow. `paced`: none arrives sooner than the baud rate allows, as at a real UART."""

    def line_lost(self, why: str, now_us: int) -> None:
        """The line is gone: everything under way and waiting fails with LineGone."""
        self._up = False
        if self._asked is not None:
            self._queue.insert(0, self._asked)
            self._asked = None
        self._fail_all(LineGone(why))

    @abstractmethod
    def receive(self, data: bytes, now_us: int) -> None:
        """Bytes came. Raises BadFrame when the line is of no use any more and must be opened anew."""

    # --- What the owner asks ------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests queued or under way."""
        return len(self._queue) + (self._asked is not None)

    @property
    def is_asking(self) -> bool:
        """A reply is waited for."""
        return self._asked is not None

    @property
    def state(self) -> str:
        """ "down", "asking", "quarantine" or "idle"."""
        if not self._up:
            return "down"
        return "idle" if self._asked is None else "asking"

    def finished(self) -> list[Finished]:
        """Outcomes since the last call."""
        done, self._done = self._done, []
        return done

    @abstractmethod
    def poll(self, now_us: int) -> bytes | None:
        """Let time pass. Returns the frame to send now, if any. All bytes that have arrived must have
        been given to `receive` before, else a reply in the buffer passes for the next one."""

    @abstractmethod
    def next_deadline(self) -> int | None:
        """When `poll` has something to do next; None when only an event can change anything."""

    # --- Turns --------------------------------------------------------------------------------

    def _foremost(self) -> list[Job]:
        first = min(job.priority for job in self._queue)
        return [job for job in self._queue if job.priority is first]

    def _ready_at(self, job: Job) -> int:
        """When its device may be asked again."""
        return self._ready_us.get(job.request.unit, 0)

    def _next_job(self, now_us: int) -> Job | None:
        """The next turn, taken out of the queue: most urgent first, among equals the unit that spoke
        longest ago. Who is more urgent is waited for, also when only a less urgent device is past its
        pause."""
        if not self._queue:
            return None
        ready = [job for job in self._foremost() if self._ready_at(job) <= now_us]
        if not ready:
            return None
        job = min(ready, key=lambda job: (self._last_turn.get(job.request.unit, 0), job.ticket))
        self._queue.remove(job)
        self._turns += 1
        self._last_turn[job.request.unit] = self._turns
        job.tries -= 1
        self.counters.of(job.request.unit).sent += 1
        return job

    # --- Ends of a request --------------------------------------------------------------------

    @abstractmethod
    def _unanswered(self, job: Job, now_us: int) -> None:
        """`job` was sent and its reply may still come: whatever it takes that it meets nobody."""

    def _answered(self, job: Job, values: tuple[int, ...], now_us: int) -> None:
        self._asked = None
        counted = self.counters.of(job.request.unit)
        counted.answered += 1
        counted.recent.append(True)
        self._heard_from(job, now_us)
        self._done.append(Finished(job.ticket, values))

    def _excepted(self, job: Job, error: ExceptionReply, now_us: int) -> None:
        """The device spoke, so it owes nothing; a gateway speaks for a device that still may."""
        self._asked = None
        counted = self.counters.of(job.request.unit)
        counted.exceptions += 1
        counted.recent.append(False)
        self._heard_from(job, now_us)
        if error.is_busy:
            pause_ms = max(job.timing.min_gap_ms, BUSY_PAUSE_MS)
            self._ready_us[job.request.unit] = now_us + pause_ms * MS
        if error.is_of_gateway:
            self._unanswered(job, now_us)
        self._again_or_fail(job, error, may_repeat=error.is_busy)

    def _spoilt(self, job: Job, error: BadFrame, now_us: int) -> None:
        self._asked = None
        counted = self.counters.of(job.request.unit)
        counted.bad_frames += 1
        counted.recent.append(False)
        self._unanswered(job, now_us)
        self._again_or_fail(job, error, may_repeat=True)

    def _timed_out(self, job: Job, got: int, waited_us: int, now_us: int) -> None:
        self._asked = None
        counted = self.counters.of(job.request.unit)
        counted.timeouts += 1
        counted.recent.append(False)
        self._unanswered(job, now_us)
        # A device that did not answer the last time either gets no second try: a dead one must not
        # keep its neighbours waiting through one quarantine more.
        known_silent = job.request.unit in self._silent
        if not got:
            self._silent.add(job.request.unit)
        missing = f"{got} of {job.request.reply_bytes} bytes" if got else "nothing"
        waited_ms = waited_us // MS
        error = Timeout(f"{missing} came within {waited_ms} ms from {job.request.describe()}")
        waited_long = job.timing.turnaround_ms > REPEAT_WAIT_MOST_MS
        self._again_or_fail(job, error, may_repeat=not (known_silent or waited_long))

    def _heard_from(self, job: Job, now_us: int) -> None:
        self._silent.discard(job.request.unit)
        self._rest(job, now_us)

    def _rest(self, job: Job, now_us: int) -> None:
        """The pause that its device wants before it is asked again."""
        self._ready_us[job.request.unit] = now_us + job.timing.min_gap_ms * MS

    def _again_or_fail(self, job: Job, error: BusError, *, may_repeat: bool) -> None:
        if may_repeat and job.tries > 0:
            self._queue.append(job)
        else:
            self._done.append(Finished(job.ticket, error))

    def _fail_all(self, error: BusError) -> None:
        self._done += [Finished(job.ticket, error) for job in self._queue]
        self._queue.clear()
