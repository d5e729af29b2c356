"""The uplink: keeps a connection to the broker, drains the outbox through it, believes signed acks only.

It may be away for weeks: charging goes on, records wait in the ledger. Loss is logged once and return once,
with the time between. Nothing here decides about money.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable

from agent.ledger import AckOutcome, AsyncLedger, LedgerError, OutboxStatus
from agent.trust import plain
from agent.trust.chain import iso_utc
from agent.trust.keys import KeyRefused, KeySet
from agent.uplink import ack as acks
from agent.uplink.config import UplinkConfig
from agent.uplink.drain import Drain
from agent.uplink.pipe import Limits, OpenPipe, Pipe, PipeDown, Will, mqtt
from agent.uplink.trouble import Trouble
from agent.values import Quality, Stamp

Log = Callable[..., None]

# Messages in, waiting to be looked at: acks are cumulative and repeated, so more may be dropped.
MAX_INBOX = 256
MAX_STATE_BYTES = 4096
UPL_REFUSED = "UPL-012"
# A back end that says it is away makes silence less suspicious: the watchdog is this much slower then.
PATIENCE_WHEN_AWAY = 8


class _Connection:
    """What one pipe tells, kept until the uplink looks at it."""

    def __init__(self, bell: asyncio.Event) -> None:
        self._bell = bell
        self.limits: Limits | None = None
        self.trouble: Trouble | None = None
        self.pubacks: deque[tuple[int, str | None]] = deque()
        self.inbox: deque[tuple[str, bytes]] = deque()
        self.dropped = 0

    def up(self, limits: Limits) -> None:
        self.limits = limits
        self._bell.set()

    def down(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self._bell.set()

    def acked(self, mid: int, refused: str | None) -> None:
        self.pubacks.append((mid, refused))  # bounded by the window
        self._bell.set()

    def message(self, topic: str, payload: bytes) -> None:
        if len(self.inbox) >= MAX_INBOX:
            self.dropped += 1
            return
        self.inbox.append((topic, payload))
        self._bell.set()


class Uplink:
    """`run` until cancelled; `wake` when a record was stored; `status` at any time."""

    def __init__(
        self,
        config: UplinkConfig,
        ledger: AsyncLedger,
        *,
        boot_ms: Callable[[], int],
        now: Callable[[], Stamp],
        log: Log,
        rng: random.Random,
        open_pipe: OpenPipe | None = None,
    ) -> None:
        """`boot_ms`: the boot-time clock; `now`: a stamp; `rng`: for the jitter of retries;
        `open_pipe`: makes a connection (paho unless a simulator brings its own)."""
        self._config, self._ledger, self._topics = config, ledger, config.topics
        self._boot_ms, self._now, self._log, self._rng = boot_ms, now, log, rng
        self._open_pipe = open_pipe or mqtt(config.pipe)
        self._timing = config.timing
        self._drain = Drain(self._topics.source, self._timing.drain)
        self._bell = asyncio.Event()
        self._keys = KeySet()
        self._conn = 0
        self._failures = 0
        self._trouble: Trouble | None = None
        self._told: set[str] = set()  # kinds of trouble logged since the link last came up
        self._lost_at: int | None = None
        self._up_at: int | None = None
        self._progress_at = 0
        self._last_ack: Stamp | None = None
        self._backend: bool | None = None
        self._outbox: OutboxStatus | None = None
        self._outbox_changed = True
        self._alarms: dict[str, str] = {}

    # --- For the station --------------------------------------------------------------------------

    def wake(self) -> None:
        """A record was stored."""
        self._outbox_changed = True
        self._drain.wake()
        self._bell.set()

    def status(self) -> dict[str, object]:
        """Plain values: `connected`, `since_ms` (of the connection or of its loss), `connection`
        (counter), `url`, `backend` (online, offline, unknown), `mode`, `unacked`, `parked`,
        `acked_through`, `last_ack`, `trouble` {id, text} or null, `alarms` {id: text}."""
        outbox, backend = self._outbox, {True: "online", False: "offline", None: "unknown"}
        since = self._up_at if self._up_at is not None else self._lost_at
        trouble = self._trouble
        return {
            "connected": self._up_at is not None,
            "since_ms": None if since is None else self._boot_ms() - since,
            "connection": self._conn,
            "url": self._config.url,
            "backend": backend[self._backend],
            "mode": str(self._drain.mode),
            "unacked": None if outbox is None else outbox.unacked,
            "parked": None if outbox is None else outbox.parked,
            "acked_through": None if outbox is None else outbox.acked_through,
            "last_ack": None if self._last_ack is None else iso_utc(self._last_ack.utc_ms),
            "trouble": None if trouble is None else {"id": trouble.code, "text": trouble.text},
            "alarms": dict(self._alarms),
        }

    async def run(self) -> None:
        """Connect, drain, reconnect, until cancelled. Raises nothing else."""
        self._lost_at = self._boot_ms()
        while True:
            try:
                await self._look_at_outbox()
                self._keys = KeySet.load(self._config.trust)
                await self._connect_and_serve()
            except KeyRefused as refused:
                self._lost(Trouble("UPL-008", f"uplink.trust: {refused}"))
            except LedgerError as error:
                # The ledger's own trouble is told by the station; here it only means to wait.
                self._lost(Trouble(error.code, error.text))
            await asyncio.sleep(self._backoff_ms() / 1000)

    # --- One connection ---------------------------------------------------------------------------

    async def _connect_and_serve(self) -> None:
        self._conn += 1
        connection = _Connection(self._bell)
        subscriptions = (self._topics.acks, self._topics.backend_state)
        pipe = self._open_pipe(
            connection, Will(self._topics.state, self._state(False)), subscriptions
        )
        try:
            await pipe.open()
            await self._serve(pipe, connection)
        except PipeDown as error:
            self._lost(connection.trouble or Trouble("UPL-007", str(error)))
        finally:
            if self._up_at is not None and connection.trouble is None:
                # We leave by ourselves: nobody publishes our will then.
                with contextlib.suppress(PipeDown):
                    pipe.publish(self._topics.state, self._state(False), retain=True)
            pipe.close()
            self._drain.down()
            self._backend = None
            if self._up_at is not None:
                if self._boot_ms() - self._up_at >= self._timing.stable:
                    self._failures = 0
                self._up_at, self._lost_at = None, self._boot_ms()

    async def _serve(self, pipe: Pipe, connection: _Connection) -> None:
        while True:
            self._bell.clear()
            if connection.trouble is not None:
                return self._lost(connection.trouble)
            now = self._boot_ms()
            if connection.limits is not None and self._up_at is None:
                self._came_up(pipe, connection.limits, now)
            self._take_pubacks(connection, now)
            while connection.inbox:
                await self._take_message(*connection.inbox.popleft())
            if self._outbox_changed:
                await self._look_at_outbox()
            now = self._boot_ms()
            if self._drain.tick(now):
                self._log(
                    "acks_overdue",
                    level="warning",
                    id="UPL-009",
                    text="the back end has not acknowledged in time; records go out again",
                    timeouts=self._drain.stalls,
                )
            if self._hangs(now):
                text = "no acknowledgement for long on a connection that looks up; making a new one"
                return self._lost(Trouble("UPL-015", text))
            if not await self._send(pipe, connection):
                await self._wait(now)

    async def _send(self, pipe: Pipe, connection: _Connection) -> bool:
        """True when something was read from the ledger, so that more may follow at once."""
        wish = self._drain.wants(self._boot_ms())
        if wish is None:
            return False
        chain = None if self._outbox is None else self._outbox.chain
        rows = await self._ledger.unacked(wish.limit, wish.after_seq, chain)
        now = self._boot_ms()
        for message in self._drain.fetched(wish, rows, now):
            if connection.trouble is not None:
                break
            mid = pipe.publish(
                self._topics.record(message.name),
                message.payload,
                content_type=message.content_type,
            )
            self._drain.sent(mid, message, now)
        return bool(rows)

    async def _wait(self, now: int) -> None:
        deadlines = [self._watchdog_at()]
        if self._up_at is not None:
            deadlines.append(self._drain.next_deadline())
        timeouts = [max(0, at - now) / 1000 for at in deadlines if at is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(timeouts, default=None)):
                await self._bell.wait()

    def _came_up(self, pipe: Pipe, limits: Limits, now: int) -> None:
        self._drain.up(now, limits.window, limits.max_bytes)
        pipe.publish(self._topics.state, self._state(True), retain=True)
        away = None if self._lost_at is None else now - self._lost_at
        self._up_at, self._progress_at, self._trouble = now, now, None
        self._told.clear()
        self._log("uplink_up", connection=self._conn, after_ms=away)

    def _lost(self, trouble: Trouble) -> None:
        """Once for each kind of trouble; the retries in between are silent."""
        if trouble.code not in self._told:
            waiting = None if self._outbox is None else self._outbox.unacked
            self._log(
                "uplink_down",
                level="warning",
                id=trouble.code,
                text=f"{trouble.text}; records wait, retrying",
                unacked=waiting,
            )
        self._told.add(trouble.code)
        self._trouble = trouble

    async def _look_at_outbox(self) -> None:
        self._outbox_changed = False
        was_empty = self._outbox is not None and self._outbox.unacked == 0
        self._outbox = await self._ledger.outbox_status()
        self._drain.turn_to(self._outbox.chain)
        if was_empty and self._outbox.unacked:
            self._progress_at = self._boot_ms()

    def _backoff_ms(self) -> int:
        whole = min(self._timing.backoff_first << min(self._failures, 20), self._timing.backoff_max)
        self._failures += 1
        return self._rng.randint(whole // 2, whole)

    def _watchdog_at(self) -> int | None:
        waiting = self._outbox is not None and self._outbox.unacked > 0
        if self._up_at is None or not waiting:
            return None
        patience = PATIENCE_WHEN_AWAY if self._backend is False else 1
        return self._progress_at + self._timing.watchdog * patience

    def _hangs(self, now: int) -> bool:
        at = self._watchdog_at()
        return at is not None and now >= at

    def _state(self, online: bool) -> bytes:
        """Birth or will: `boot` and `conn` together pair a will with the birth it ends."""
        stamp = self._now()
        state: dict[str, object] = {"online": online, "boot": stamp.boot_id, "conn": self._conn}
        if online:
            state |= {
                "version": self._config.version,
                "outbox": 0 if self._outbox is None else self._outbox.unacked,
                "time": iso_utc(stamp.utc_ms),
            }
        return plain.dumps(state).encode("ascii")

    # --- What comes in ----------------------------------------------------------------------------

    def _take_pubacks(self, connection: _Connection, now: int) -> None:
        while connection.pubacks:
            mid, refused = connection.pubacks.popleft()
            if not self._drain.puback(mid, refused is None, now):
                self._alarm(
                    "UPL-014",
                    "publish_refused",
                    f"the broker does not take our records: {refused}; check its rules and limits",
                )

    async def _take_message(self, topic: str, payload: bytes) -> None:
        if topic == self._topics.acks:
            await self._take_ack(payload)
        elif topic == self._topics.backend_state:
            self._take_backend_state(payload)

    def _take_backend_state(self, payload: bytes) -> None:
        online = False
        if len(payload) <= MAX_STATE_BYTES:
            with contextlib.suppress(plain.NotPlain):
                online = plain.loads_object(payload).get("online") is True
        if online is not self._backend:
            self._log("backend_online" if online else "backend_offline")
        self._backend = online
        self._drain.backend(online, self._boot_ms())

    async def _take_ack(self, payload: bytes) -> None:
        try:
            ack = acks.read(payload, self._keys, self._config.station)
        except acks.AckRefused as refused:
            self._alarm(
                refused.code,
                "ack_refused",
                f"an acknowledgement counts for nothing: {refused.text}",
            )
            return
        now = self._now()
        result = await self._ledger.apply_ack(
            ack.chain,
            ack.through_seq,
            ack.hash,
            ack.holes,
            ack.refused,
            asked_ms=ack.time_ms,
            now_ms=now.utc_ms if now.quality is Quality.TRUSTED else None,
        )
        if result.outcome is AckOutcome.FORK:
            self._alarm(
                "UPL-011",
                "ack_fork",
                f"the back end has another history: record {ack.through_seq} of chain {ack.chain} "
                "is not ours; nothing was marked; compare both sides before anything is deleted",
            )
        elif result.outcome is AckOutcome.UNKNOWN_CHAIN:
            self._alarm(
                "UPL-013", "ack_unknown_chain", f"acknowledgement for chain {ack.chain}, not ours"
            )
        else:
            self._last_ack = self._now()
            if result.newly_acked or result.holes:
                self._progress_at = self._boot_ms()
            self._tell_refused(result.parked)
        if self._outbox is None or ack.chain == self._outbox.chain:
            self._drain.acked(result, self._boot_ms())
        await self._look_at_outbox()
        if result.newly_acked:
            # Records get through again, and signed by someone we know.
            for code in ("UPL-010", "UPL-014"):
                self._alarms.pop(code, None)

    def _tell_refused(self, parked: tuple[tuple[int, str], ...]) -> None:
        """One line for each reason in an ack: a back end that knows no key refuses thousands."""
        for reason in dict.fromkeys(code for _, code in parked):
            seqs = [seq for seq, code in parked if code == reason]
            known = f"{UPL_REFUSED} {reason}" in self._told
            self._told.add(f"{UPL_REFUSED} {reason}")
            which = f"record {seqs[0]}" if len(seqs) == 1 else f"{len(seqs)} from {seqs[0]} on"
            text = f"the back end refuses records: {reason} ({which}); they are set aside"
            self._alarms[UPL_REFUSED] = text
            if not known:
                self._log("record_refused", level="error", id=UPL_REFUSED, text=text)

    def _alarm(self, code: str, event: str, text: str) -> None:
        """Kept in the status; logged when its text is new, not with every repetition."""
        if self._alarms.get(code) != text:
            self._log(event, level="error", id=code, text=text)
        self._alarms[code] = text
