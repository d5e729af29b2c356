"""Which records go out when. Pure: times come in as milliseconds of the boot-time clock, messages and
wishes go out; the ledger remains the only storage.

Two ways of sending. FLOW: the back end says that it takes records, so up to WINDOW messages are on
the way to the broker and up to MAX_SENT records wait for the signed ack. PROBE: the back end is
absent, says it is away, or has not acked in time, so one record an interval goes out, alone, and its ack
brings FLOW back. What was sent and not acked is sent again; the back end drops what it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from agent.ledger import AckOutcome, AckResult, RecordRow
from agent.uplink.envelope import MAX_MESSAGE_BYTES, Message, pack

# Messages without PUBACK: brokers commonly allow 20 in flight and drop or disconnect beyond.
WINDOW = 20
# Records without ack: at 100 ms round trip 2000 keep the line busy; more would only be sent again.
MAX_SENT = 2000
# Rows read from the ledger at once: about one full message.
FETCH_ROWS = 64


class Mode(StrEnum):
    DOWN = "down"
    PROBE = "probe"
    FLOW = "flow"


@dataclass(frozen=True, slots=True)
class DrainTiming:
    """Milliseconds. `ack_timeout`: records without ack go out again after this. `probe_first`: how
    long the back end's retained state is waited for. `probe`: between probes; doubled with every
    timeout up to `probe_max`, so that a dead back end costs a few messages an hour."""

    ack_timeout: int = 60_000
    probe_first: int = 2_000
    probe: int = 60_000
    probe_max: int = 900_000


@dataclass(frozen=True, slots=True)
class Fetch:
    """Wish: the ledger's unacked records above `after_seq`."""

    after_seq: int
    limit: int
    epoch: int


class Drain:
    """One per process; survives reconnects; sends one chain at a time (see `turn_to`). Order of use:
    `wants`, then `fetched` with the rows, then `sent` for every message that was published."""

    def __init__(self, source: str, timing: DrainTiming | None = None) -> None:
        self._source, self._timing = source, timing or DrainTiming()
        self.mode = Mode.DOWN
        self._window, self._max_bytes = WINDOW, MAX_MESSAGE_BYTES
        self._online: bool | None = None
        self._cursor = 0
        self._more = True  # the ledger may hold something above the cursor
        self._fetching = False
        self._woken = False  # while a fetch was under way
        self._chain = ""
        self._epoch = 0  # rows fetched before a rewind are no longer what is wanted
        self._flying: dict[int, tuple[int, ...]] = {}  # message id -> records, no PUBACK yet
        self._sent: set[int] = set()  # no ack yet
        self._refilled: dict[int, int] = {}  # hole -> when it was last answered
        self._due: int | None = None
        self._probe_at: int | None = None
        self.stalls = 0

    # --- What happened ----------------------------------------------------------------------------

    def up(self, now: int, window: int = WINDOW, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        """The link is ready. The broker's own limits may be lower than ours."""
        self._window, self._max_bytes = min(window, WINDOW), min(max_bytes, MAX_MESSAGE_BYTES)
        self._online = None
        self._flying.clear()
        self._rewind()
        self._to_probe(now + self._timing.probe_first)

    def down(self) -> None:
        self.mode = Mode.DOWN
        self._due = self._probe_at = None
        self._flying.clear()
        self._rewind()

    def backend(self, online: bool, now: int) -> None:
        """The back end's own retained word."""
        if self.mode is Mode.DOWN:
            return
        before, self._online = self._online, online
        if not online:
            self._to_probe(now + self._timing.probe)
            return
        self.stalls = 0
        if before is not True:
            self._rewind()
        self._to_flow(now)

    def turn_to(self, chain: str) -> None:
        """The ledger's records that go out now are of `chain`: its numbers have nothing to do with those
        of another."""
        if chain != self._chain:
            self._chain = chain
            self._rewind()
            self._due = None

    def wake(self) -> None:
        """There may be new records in the ledger."""
        self._more = self._woken = True

    def sent(self, mid: int, message: Message, now: int) -> None:
        self._flying[mid] = message.seqs
        self._sent.update(message.seqs)
        if self.mode is Mode.FLOW and self._due is None:
            self._due = now + self._timing.ack_timeout

    def puback(self, mid: int, accepted: bool, now: int) -> bool:
        """False when the broker refused one of our records: it was not delivered, and sending on
        would only be refused again."""
        seqs = self._flying.pop(mid, None)
        if seqs is None or accepted:
            return True
        self._stall(now)
        return False

    def acked(self, result: AckResult, now: int) -> None:
        """A signed ack was applied to the ledger."""
        if result.outcome is not AckOutcome.APPLIED:
            return
        holes = set(result.holes)
        wanted = self._wanted(holes, now)
        parked = {seq for seq, _ in result.parked}
        through = result.acked_through
        self._sent = {s for s in self._sent if s > through or s in holes} - wanted - parked
        if wanted:
            self._cursor = min(self._cursor, min(wanted) - 1)
            self._more = True
        progress = result.newly_acked > 0 or bool(wanted)
        if progress:
            self.stalls = 0
            # A probe was acked: somebody is there, whatever the broker has retained; but a back end
            # that says it is away gets no more than its probes.
            if self.mode is Mode.PROBE and self._online is not False:
                self._to_flow(now)
                self._more = True
            elif self.mode is Mode.PROBE:
                self._more = True
        if self.mode is Mode.FLOW and (progress or not self._sent):
            self._due = now + self._timing.ack_timeout if self._sent else None

    def _wanted(self, holes: set[int], now: int) -> set[int]:
        """The holes to fill now: an ack written before our answer arrived names them once more."""
        recent = now - self._timing.ack_timeout
        self._refilled = {s: at for s, at in self._refilled.items() if s in holes and at > recent}
        wanted = holes - self._refilled.keys()
        self._refilled.update(dict.fromkeys(wanted, now))
        return wanted

    def tick(self, now: int) -> bool:
        """True when the ack of sent records is overdue: they go out again, beginning with one."""
        if self.mode is not Mode.FLOW or self._due is None or now < self._due:
            return False
        self._stall(now)
        self._probe_at = now
        return True

    # --- What to do -------------------------------------------------------------------------------

    def next_deadline(self) -> int | None:
        """When `tick` or `wants` may have something new to say without anything happening."""
        if self.mode is Mode.FLOW:
            return self._due
        if self.mode is Mode.PROBE and self._more and len(self._flying) < self._window:
            return self._probe_at
        return None

    def wants(self, now: int) -> Fetch | None:
        """What to read from the ledger now; answer with `fetched`."""
        if self._fetching or not self._more or len(self._flying) >= self._window:
            return None
        if self.mode is Mode.FLOW:
            room = MAX_SENT - len(self._sent)
            if room <= 0:
                return None
            return self._fetch(self._cursor, min(FETCH_ROWS, room))
        if self.mode is Mode.PROBE and self._probe_at is not None and now >= self._probe_at:
            return self._fetch(0, 1)
        return None

    def _fetch(self, after_seq: int, limit: int) -> Fetch:
        self._fetching, self._woken = True, False
        return Fetch(after_seq, limit, self._epoch)

    def fetched(self, wish: Fetch, rows: Sequence[RecordRow], now: int) -> list[Message]:
        """The messages to publish at once, in order."""
        self._fetching = False
        if self.mode is Mode.DOWN or wish.epoch != self._epoch:
            return []
        if self.mode is Mode.PROBE:
            if rows:
                self._probe_at = now + self._interval()
                self.stalls += self.stalls > 0  # nobody answered the last one either
            self._more = bool(rows) or self._woken
            return pack(rows[:1], self._source, self._max_bytes)
        self._more = len(rows) >= wish.limit or self._woken
        fresh = [row for row in rows if row.seq not in self._sent]
        room = self._window - len(self._flying)
        messages = pack(fresh, self._source, self._max_bytes)
        if len(messages) > room:
            self._more = True
            del messages[room:]
            self._cursor = messages[-1].seqs[-1] if messages else wish.after_seq
        elif rows:
            self._cursor = rows[-1].seq
        return messages

    # --- Inside -----------------------------------------------------------------------------------

    def _interval(self) -> int:
        return min(self._timing.probe << min(self.stalls, 10), self._timing.probe_max)

    def _rewind(self) -> None:
        """Begin again with the first unacked record. The broker still owes its PUBACKs."""
        self._epoch += 1
        self._sent.clear()
        self._refilled.clear()
        self._cursor, self._more = 0, True

    def _stall(self, now: int) -> None:
        self._rewind()
        self._to_probe(now + self._interval())
        self.stalls += 1

    def _to_probe(self, at: int) -> None:
        self.mode, self._due, self._probe_at = Mode.PROBE, None, at

    def _to_flow(self, now: int) -> None:
        self.mode, self._probe_at = Mode.FLOW, None
        self._due = now + self._timing.ack_timeout if self._sent else None
