"""The end of day by itself (design §2 rule 6): when the terminal says that it is due, or at a time of day,
new holds stop, running sessions drain, what is left at a deadline is ended or listed, the batch is closed,
and the terminal opens again. Where the terminal keeps its holds, nobody has to wait for it.

The intent is durable first, so a restart goes on where it was, with the same deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from agent.ledger import UpkeepOrder, UpkeepRow
from agent.ports import (
    CanEndOfDay,
    DeviceUnavailable,
    EodHolds,
    Need,
    Terminal,
    TerminalIdentity,
)
from agent.session import E, S, Session, energy_allowed
from agent.session.deadlines import DAY_MS, retry_after_ms, waited_ms
from agent.session.doubt import needs_last_result
from agent.station import daily
from agent.station.context import Context
from agent.station.day_end import (
    AT_WORK,
    NO_MONEY_THERE,
    DayEnd,
    DayEndRefused,
    Journal,
    Step,
)
from agent.station.patience import bounded
from agent.station.till import made_elsewhere
from agent.trust.plain import JSON
from agent.values import Quality, Stamp

TASK = "closing"
BEGUN, OVER = "begun", "over"
TERMINAL, SCHEDULE = "the terminal asks for it", "it is time"
WHY = "end of day"
# After the deadline what was just stopped is recorded and captured, with the tries that are a minute apart;
# what then is not settled is listed.
SETTLE_MS = 10 * daily.MINUTE_MS
# A day that is ended by the clock may be ended tomorrow as well.
SCHEDULE_TRIES = 5
# So long before its restart a terminal begins no hold: the longest dialogue that was met, and then some.
REBOOT_BEFORE_MS = 5 * daily.MINUTE_MS


@dataclass(frozen=True, slots=True)
class DayRules:
    """Times of day are "HH:MM" in `zone`; None where there is none."""

    zone: ZoneInfo
    drain_ms: int
    end_at: str | None = None
    reboot_at: str | None = None
    reboot_ms: int = 0


class Closing:
    """`draining`: a day is being ended, so no new hold begins."""

    def __init__(
        self, terminal: Terminal, day: DayEnd, journal: Journal, rules: DayRules, context: Context
    ) -> None:
        self.id = day.id
        self._terminal, self._day, self._journal, self._rules = terminal, day, journal, rules
        self._keeper, self._clock, self._log = context.keeper, context.clock, context.log
        self._order: UpkeepOrder | None = None
        self._terminal_id: str | None = None
        self._seen_utc_ms: int | None = None  # up to when the schedule has been kept
        self._tries, self._again_ms = 0, 0
        self._loaded_ms = 0
        self._full = False
        self._told = ""

    @property
    def draining(self) -> bool:
        return self._order is not None

    @property
    def why(self) -> str:
        """Who wants it; empty while nothing is due."""
        return "" if self._order is None else str(self._order.steps[0].data["why"])

    async def load(self) -> None:
        """What the process before had begun."""
        self._loaded_ms = self._clock.boot_ms()
        for order in await self._journal.upkeep(TASK):
            if order.steps[0].terminal == self.id:
                self._seen_utc_ms = _known_utc_ms(order.steps[0].stamp)
                self._order = None if order.steps[-1].step == OVER else order

    def full(self) -> None:
        """A refusal said that the terminal has no room before its day is ended."""
        self._full = True

    # --- times of day -----------------------------------------------------------------------------

    def reboots(self, linked_boot_ms: int | None) -> bool:
        """Whether the terminal is about to restart by itself, or does so now. `linked_boot_ms`: when the
        link came up; one that came after the restart ends the wait."""
        stamp, at, zone = self._clock.stamp(), self._rules.reboot_at, self._rules.zone
        if at is None or stamp.quality is Quality.UNKNOWN:
            return False
        if daily.coming(at, zone, stamp.utc_ms) - stamp.utc_ms <= REBOOT_BEFORE_MS:
            return True
        since_ms = stamp.utc_ms - daily.last(at, zone, stamp.utc_ms)
        back = linked_boot_ms is not None and stamp.boot_ms - linked_boot_ms < since_ms
        return since_ms < self._rules.reboot_ms and not back

    def _time_has_come(self) -> bool:
        """Once for each time of day, also when it went by while the station was off. A clock that is set back
        by less than a day brings no second one; what was kept further ahead, a wrong clock had kept."""
        stamp, at = self._clock.stamp(), self._rules.end_at
        if at is None or stamp.quality is Quality.UNKNOWN:
            return False
        if self._seen_utc_ms is None or self._seen_utc_ms - stamp.utc_ms > DAY_MS:
            self._seen_utc_ms = stamp.utc_ms
        return daily.last(at, self._rules.zone, stamp.utc_ms) > self._seen_utc_ms

    # --- one turn ---------------------------------------------------------------------------------

    async def turn(self, identity: TerminalIdentity, beat: Callable[[], None]) -> bool:
        """Do what is due now; True when the terminal was told to end its day, which takes minutes at some
        hosts: `beat` says that it is still waited for. Raises DeviceUnavailable, also when the dialogue
        broke, and LedgerError."""
        self._terminal_id = identity.terminal_id
        if self._order is None:
            why = self._due(identity)
            if why and not self._day.unclear and self._clock.boot_ms() >= self._again_ms:
                await self._begin(why)
            return False
        over = self._over(identity)
        if over:
            await self._end(over)
            return False
        left = await self.press()
        if left or self._clock.boot_ms() < self._again_ms:
            return False
        await self._close(beat)
        return True

    def _due(self, identity: TerminalIdentity) -> str:
        if not isinstance(self._terminal, CanEndOfDay):
            return ""
        if Need.END_OF_DAY in identity.needs or self._full:
            return TERMINAL
        return SCHEDULE if self._time_has_come() else ""

    def _over(self, identity: TerminalIdentity) -> str:
        """Why nothing is left to do; empty while something is."""
        order, latest = self._order, self._day.latest
        if order is not None and latest is not None and latest.number > order.number:
            if latest.steps[-1].step == Step.DONE:
                return "closed"
            if self._day.unclear:
                return "not known whether it was closed"
        wanted = Need.END_OF_DAY in identity.needs or self._full
        if self.why == TERMINAL and not wanted and identity.ready:
            return "the terminal no longer asks for it"
        return ""

    async def _begin(self, why: str) -> None:
        stamp = self._clock.stamp()
        row = UpkeepRow(self.id, TASK, BEGUN, {"why": why}, stamp)
        self._order = UpkeepOrder(await self._journal.add_upkeep(row), (row,))
        self._seen_utc_ms, self._tries, self._told = _known_utc_ms(stamp), 0, ""
        held = [s.id for s in self._here() if s.state not in NO_MONEY_THERE]
        self._log("day_closing", terminal=self.id, why=why, sessions=held)

    async def _end(self, how: str) -> None:
        if self._order is None:
            return
        row = UpkeepRow(self.id, TASK, OVER, {"how": how}, self._clock.stamp())
        await self._journal.add_upkeep(row, self._order.number)
        self._order, self._full, self._again_ms = None, False, 0
        self._log("day_reopened", terminal=self.id, how=how)

    # --- draining ---------------------------------------------------------------------------------

    def _here(self) -> list[Session]:
        """Sessions whose hold is at this terminal: not at one that was here before it."""
        here = self._keeper.at_terminal(self.id)
        return [s for s in here if not made_elsewhere(s, self._terminal_id)]

    async def press(self) -> bool:
        """Whether a session still has money there that the end of day could touch; at the deadline they
        are told to end. A terminal that keeps its holds is only not interrupted. Needs no terminal: one
        that answers nothing must not keep a session for ever. Raises LedgerError."""
        if self._order is None:
            return False
        held = [s for s in self._here() if s.state not in NO_MONEY_THERE]
        waits = False
        if self._eod_holds is EodHolds.KEEPS:
            # A raise in doubt needs the last result; its driver is not told to end for that.
            waits = any(needs_last_result(s) for s in held)
            held = [s for s in held if s.state in AT_WORK]
        late_ms = self._late_ms()
        settles = self._may_settle(late_ms)
        for session in held if late_ms >= 0 else ():
            push = _push(session, settles=settles)
            if push is not None:
                await self._keeper.tell(session.id, *push)
        return waits or bool(held)

    @property
    def _eod_holds(self) -> EodHolds | None:
        return self._terminal.eod_open_holds if isinstance(self._terminal, CanEndOfDay) else None

    def _late_ms(self) -> int:
        """How far the deadline is past; negative before it."""
        if self._order is None:
            return -1
        return waited_ms(self._order.steps[0].stamp, self._clock.stamp()) - self._rules.drain_ms

    def _may_settle(self, late_ms: int) -> bool:
        """Whether what was stopped may still be recorded and captured. An outage that lasted over the
        deadline, or a clock that was set meanwhile, takes no tries from it: nothing was tried then."""
        here_ms = self._clock.boot_ms() - self._loaded_ms
        return min(late_ms, here_ms) < SETTLE_MS

    # --- closing ----------------------------------------------------------------------------------

    async def _close(self, beat: Callable[[], None]) -> None:
        cancels = self._eod_holds is EodHolds.CANCELS
        over = [s for s in self._here() if s.state is S.UNRESOLVED]
        over += self._keeper.left.at(self.id, self._terminal_id)
        ours = [s for s in over if s.outcome != "foreign"]
        leaving = {r for s in ours if isinstance(r := s.hold.get("receipt"), int)}
        try:
            work = self._day.order(
                self._terminal, self._here(), leaving=frozenset(leaving if cancels else ())
            )
            order = await bounded(work, beat)
        except DayEndRefused as error:
            await self._again(str(error))
            return
        last = order.steps[-1]
        if last.step == Step.UNKNOWN:
            await self._again("not known how it ended")
            raise DeviceUnavailable("TRM-003", f"the end of day broke: {last.data['why']}")
        if last.step != Step.DONE:
            await self._again(f"{last.step}: {_words(last.data)}")

    async def _again(self, why: str) -> None:
        """Not closed: by the clock it is left for the next day after some tries; what the terminal itself
        wants is tried on, since without it no payment is possible."""
        self._tries += 1
        if why != self._told:
            self._told = why
            self._log("day_not_closed", level="error", id="STA-041", terminal=self.id, why=why)
        if self.why == SCHEDULE and self._tries >= SCHEDULE_TRIES:
            await self._end("not closed; the next time is tomorrow")
            return
        pause_ms = retry_after_ms(self._tries) or DAY_MS
        self._again_ms = self._clock.boot_ms() + pause_ms


def _known_utc_ms(stamp: Stamp) -> int | None:
    """None of a clock that was never set: every time of day would have come since 1970."""
    return None if stamp.quality is Quality.UNKNOWN else stamp.utc_ms


def _words(data: Mapping[str, JSON]) -> str:
    return str(data.get("why") or data.get("code") or "")


def _push(session: Session, *, settles: bool) -> tuple[E, dict[str, object]] | None:
    """What ends a session after the deadline; None where it moves by itself or has its own bound."""
    state = session.state
    if energy_allowed(state):
        return E.STOP, {"reason": WHY}
    if state in (S.HELD, S.BEGINNING):
        return E.CANCELLED, {"why": WHY}
    if settles:
        return None
    if state in (S.CAPTURE_DUE, S.RELEASE_DUE):
        return E.GAVE_UP, {"why": f"{WHY} after {session.attempts} tries: {session.why}"}
    if state in (S.CAPTURE_UNCLEAR, S.RELEASE_UNCLEAR, S.HOLD_UNCLEAR, S.RAISE_OPEN):
        return E.VANISHED, {"why": f"{WHY}; the terminal could not tell"}
    return None
