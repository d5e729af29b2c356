"""The master of one RTU bus as a pure state machine: what may be believed.

`Turns` decides who speaks next; this adds the line. Times are whole microseconds of one monotonic clock,
given with every event; it sleeps never and owns no clock.

Billing-grade means: no request is sent while an answer to an earlier one can still arrive. After a
timeout, a bad frame, a cancelled request, a second frame or a reopened line the bus is *dirty*: input is
thrown away until nothing came for the longest time that the device which is owed a reply may take. That
time is a property of the device (its model file); a device that answers even later than it is declared to
is the one case this cannot catch.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.meter.modbus import (
    SHORTEST_FRAME,
    Babbling,
    BadFrame,
    ExceptionReply,
    Receiver,
    Request,
)
from drivers.meter.timing import MS, DeviceTiming, Wire
from drivers.meter.turns import Job, Priority, Turns

# Added to every response time: a USB adapter holds bytes back for up to 16 ms (FTDI latency timer), and
# the process may be scheduled late by about as much.
LATENCY_SLACK_MS = 40
# A quarantine may be prolonged by further bytes this many times its length; then the bus counts as
# babbling and who waits is told so.
QUARANTINE_LENGTHS = 4
# No quarantine is given up earlier than this, also where devices are declared to be very fast.
QUARANTINE_BOUND_MIN_MS = 1000


# Percent of the time that bytes take by the baud rate: what arrives sooner was on its way before we asked.
# The rest is for adapters that divide their clock badly.
SOONEST_PERCENT = 95


@dataclass(slots=True)
class _Flight:
    """What is on the line. `echo`: bytes of our own that the adapter still has to return. `too_soon`: bytes
    came sooner than the request and they themselves can have passed the line."""

    receiver: Receiver
    sent_us: int
    sent_end_us: int
    echo: bytes
    too_soon: bool = False


@dataclass(slots=True)
class _Dirty:
    quiet_us: int  # silence needed
    base_us: int  # the silence counts from here or from the last byte
    since_us: int  # the bound counts from here
    owed_by: int | None = None  # unit whose reply may still come ...
    owed_since_us: int = 0  # ... to a request that ended then


class Master(Turns):
    """See the module. With `echo` the adapter returns what is sent: those bytes are compared and taken
    off before the reply; when they differ, somebody else was speaking."""

    def __init__(self, wire: Wire, *, echo: bool = False) -> None:
        super().__init__()
        self.wire, self._echo = wire, echo
        self._pause_us = wire.pause_us
        self._flight: _Flight | None = None  # of the request under way
        self._dirty: _Dirty | None = None
        self._longest_us: dict[int, int] = {}
        self._unseen_us = LATENCY_SLACK_MS * MS
        self._last_byte_us = 0
        self._stray = 0
        self._paced = False

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
        nobody_waited = not self._queue
        ticket = super().submit(request, timing, priority, now_us, repeatable=repeatable)
        if self._dirty is not None and nobody_waited:
            self._dirty.since_us = now_us  # nothing was prolonged for anybody
        self._longest_us[request.unit] = timing.longest_reply_ms * MS
        chars = len(request.frame) + request.reply_bytes
        self._unseen_us = max(self._unseen_us, LATENCY_SLACK_MS * MS + self.wire.us(chars))
        return ticket

    def line_opened(self, now_us: int, *, paced: bool = False) -> None:
        """Bytes can flow. Whoever spoke on this line before, maybe our own killed process a moment ago,
        may be owed a reply by any device of this bus."""
        self._up, self._paced = True, paced
        self._stray = 0
        self._last_byte_us = now_us
        self._soil(now_us + self._unseen_us, max(self._longest_us.values(), default=0))
        if self._dirty is not None:
            self._dirty.since_us = now_us

    def receive(self, data: bytes, now_us: int) -> None:
        self._last_byte_us = now_us
        job = self._asked
        if job is not None and self._flight is not None:
            self._in_flight(job, self._flight, data, now_us)
        elif self._dirty is not None:
            self._note_late(self._dirty, now_us)
            self.counters.discarded_bytes += len(data)
        else:
            self._stray += len(data)
            self.counters.discarded_bytes += len(data)
            if self._stray >= SHORTEST_FRAME:
                # Somebody speaks without being asked: a second master, or a reply later than declared.
                self._soil(now_us, max(self._longest_us.values(), default=0))

    # --- What the owner asks ------------------------------------------------------------------

    @property
    def state(self) -> str:
        found = super().state
        return "quarantine" if found == "idle" and self._dirty is not None else found

    def poll(self, now_us: int) -> bytes | None:
        if not self._up:
            return None
        if self._asked is not None:
            if now_us < self._deadline_us:
                return None
            self._time_out(self._asked, now_us)
        if self._dirty is not None and now_us < self._quiet_at(self._dirty):
            return self._babbling(self._dirty, now_us)
        self._dirty = None
        job = self._next_job(now_us)
        return None if job is None else self._send(job, now_us)

    def next_deadline(self) -> int | None:
        if not self._up:
            return None
        if self._asked is not None:
            return self._deadline_us
        if not self._queue:
            return None
        if self._dirty is not None:
            return min(self._quiet_at(self._dirty), self._bound_at(self._dirty))
        return min(self._ready_at(job) for job in self._foremost())

    # --- One request --------------------------------------------------------------------------

    def _ready_at(self, job: Job) -> int:
        return max(self._last_byte_us + self._pause_us, super()._ready_at(job))

    def _send(self, job: Job, now_us: int) -> bytes:
        frame = job.request.frame
        sent_end_us = now_us + self.wire.us(len(frame))
        wait_us = (job.timing.turnaround_ms + LATENCY_SLACK_MS) * MS
        self._deadline_us = sent_end_us + wait_us + self.wire.us(job.request.reply_bytes)
        self._asked = job
        echo = frame if self._echo else b""
        self._flight = _Flight(Receiver(job.request), now_us, sent_end_us, echo)
        self._stray = 0
        return frame

    def _in_flight(self, job: Job, flight: _Flight, data: bytes, now_us: int) -> None:
        try:
            if flight.echo:
                data = _without_echo(flight, data)
            values = flight.receiver.feed(data)
            self._check_pace(flight, now_us, whole=values is not None)
        except ExceptionReply as error:
            self._stray = flight.receiver.surplus
            self._excepted(job, error, now_us)
        except BadFrame as error:
            self._spoilt(job, error, now_us)
        else:
            if values is not None:
                self._stray = flight.receiver.surplus
                self._answered(job, values, now_us)

    def _check_pace(self, flight: _Flight, now_us: int, *, whole: bool) -> None:
        """A reply repeated by a repeater is on its way when the next request goes out, and has the right
        shape. Raises BadFrame for a reply whose bytes came too soon."""
        if not self._paced:
            return
        least_us = flight.sent_end_us - flight.sent_us + self.wire.us(flight.receiver.got)
        flight.too_soon |= 100 * (now_us - flight.sent_us) < SOONEST_PERCENT * least_us
        if whole and flight.too_soon:
            spent_us = now_us - flight.sent_us
            raise BadFrame(f"a reply {spent_us} us after the request, which takes {least_us} us")

    def _time_out(self, job: Job, now_us: int) -> None:
        flight = self._flight
        assert flight is not None
        self._timed_out(job, flight.receiver.got, now_us - flight.sent_end_us, now_us)

    def _unanswered(self, job: Job, now_us: int) -> None:
        """Nothing may be sent before the reply cannot come any more."""
        assert self._flight is not None
        self._rest(job, now_us)
        sent_end_us = self._flight.sent_end_us
        # A reply that begins in time is seen later: an adapter may hand it over in one piece at its end.
        unseen_us = LATENCY_SLACK_MS * MS + self.wire.us(job.request.reply_bytes)
        self._soil(max(now_us, sent_end_us + unseen_us), job.timing.longest_reply_ms * MS)
        if self._dirty is not None:
            self._dirty.since_us = now_us
            self._dirty.owed_by, self._dirty.owed_since_us = job.request.unit, sent_end_us

    # --- Quarantine ---------------------------------------------------------------------------

    def _soil(self, base_us: int, quiet_us: int) -> None:
        quiet_us = max(quiet_us, self._pause_us)
        if self._dirty is None:
            self.counters.quarantines += 1
            self._dirty = _Dirty(quiet_us, base_us, base_us)
        else:
            self._dirty.quiet_us = max(quiet_us, self._dirty.quiet_us)
            self._dirty.base_us = max(base_us, self._dirty.base_us)

    def _quiet_at(self, dirty: _Dirty) -> int:
        return max(dirty.base_us, self._last_byte_us) + dirty.quiet_us

    def _bound_at(self, dirty: _Dirty) -> int:
        least_us = QUARANTINE_BOUND_MIN_MS * MS
        return dirty.since_us + max(QUARANTINE_LENGTHS * dirty.quiet_us, least_us)

    def _babbling(self, dirty: _Dirty, now_us: int) -> bytes | None:
        """Who waits is told so once the quarantine took too long. A stop that writes is sent all the
        same, into the noise: it can do no harm, and it may be the last thing that ends free energy."""
        if now_us < self._bound_at(dirty):
            return None
        spent_ms, dirty.since_us = (now_us - dirty.since_us) // MS, now_us
        stops = (job for job in self._queue if job.priority is Priority.STOP and job.request.writes)
        stop = next(stops, None)
        quiet_ms = dirty.quiet_us // MS
        self._fail_all(
            Babbling(f"bytes kept coming for {spent_ms} ms, never {quiet_ms} ms of silence")
        )
        return None if stop is None else stop.request.frame

    def _note_late(self, dirty: _Dirty, now_us: int) -> None:
        if dirty.owed_by is not None:
            self.counters.late(dirty.owed_by, now_us - dirty.owed_since_us)
            dirty.owed_by = None


def _without_echo(flight: _Flight, data: bytes) -> bytes:
    """`data` behind our own bytes. Raises BadFrame when others came in their place."""
    echo = flight.echo
    many = min(len(echo), len(data))
    if data[:many] != echo[:many]:
        raise BadFrame(
            f"other bytes than were sent came back ({data[:many].hex()} for {echo[:many].hex()}): "
            "two talked at once, or the adapter returns no echo"
        )
    flight.echo = echo[many:]
    return data[many:]
