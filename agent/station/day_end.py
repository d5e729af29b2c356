"""The end of a terminal's day: the batch is closed and handed to the acquirer for clearing.

Ordered by the station alone, with no open hold or where the terminal keeps them (design §2 rule 6). The
intent is durable before the first byte, the totals before they are answered, the outcome after. What
broke is asked for and never ordered again by itself: a second order closes another batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

from agent.ledger import LedgerError, UpkeepOrder, UpkeepRow
from agent.ports import (
    CanEndOfDay,
    CanMaintain,
    DeviceUnavailable,
    Done,
    EodHolds,
    Evidence,
    LastResult,
    Need,
    NotSent,
    OpenHolds,
    Outcome,
    Refused,
    Terminal,
    TerminalIdentity,
    Upkeep,
    Verdict,
)
from agent.session import S, Session
from agent.session.ask import ref_key
from agent.session.doubt import needs_last_result
from agent.session.states import FINAL
from agent.station.clock import Clock
from agent.station.keeper import Log
from agent.station.till import COMMIT_BOUND_S, clean, clean_text
from agent.trust.chain import iso_utc
from agent.trust.plain import JSON

TASK = "end_of_day"

# The money of these is not at the terminal any more; what an unresolved one left there, its list says.
NO_MONEY_THERE = FINAL | {S.SETTLED, S.UNRESOLVED}
# The terminal is being told, or its last result may be all that tells how it ended.
AT_WORK = frozenset(
    {
        S.AUTHORIZING,
        S.APPROVED,
        S.HOLD_UNCLEAR,
        S.RAISE_OPEN,
        S.CAPTURING,
        S.CAPTURE_UNCLEAR,
        S.RELEASING,
        S.RELEASE_UNCLEAR,
    }
)


class Step(StrEnum):
    INTENT = "intent"
    EVIDENCE = "evidence"  # the totals are durable; the completion is outstanding
    DONE = "done"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"  # the dialogue broke
    NOT_DONE = "not_done"  # the terminal was asked: the batch is still open


OVER = frozenset({Step.DONE, Step.REFUSED, Step.NOT_SENT, Step.NOT_DONE})


class DayEndRefused(Exception):
    """Nothing was sent. The text has its id."""


class Journal(Protocol):
    """What an order leaves behind; agent.ledger.AsyncLedger is one."""

    async def add_upkeep(self, row: UpkeepRow, order: int | None = None) -> int: ...

    async def upkeep(self, task: str) -> list[UpkeepOrder]: ...


class Unkept:
    """For a terminal at no station: there is no ledger, and what is printed is all that stays."""

    async def add_upkeep(self, row: UpkeepRow, order: int | None = None) -> int:
        return 1 if order is None else order

    async def upkeep(self, task: str) -> list[UpkeepOrder]:
        return []


def unclear(order: UpkeepOrder | None) -> bool:
    """Begun, and how it ended is not known."""
    return order is not None and order.steps[-1].step not in OVER


class DayEnd:
    """The ends of day of one terminal. `latest` is the newest order, None before the first."""

    def __init__(self, terminal_id: str, journal: Journal, clock: Clock, log: Log) -> None:
        self.id = terminal_id
        self.latest: UpkeepOrder | None = None
        self._journal, self._clock, self._log = journal, clock, log

    @property
    def unclear(self) -> bool:
        return unclear(self.latest)

    async def load(self) -> None:
        """What the process before knew."""
        for order in await self._journal.upkeep(TASK):
            if order.steps[0].terminal == self.id:
                self.latest = order

    # --- ordering ---------------------------------------------------------------------------------

    async def order(
        self,
        terminal: Terminal,
        sessions: Sequence[Session],
        *,
        again: bool = False,
        leaving: frozenset[int] = frozenset(),
    ) -> UpkeepOrder:
        """Close the batch, once. `sessions`: the open ones of this terminal. `again`: a person says so
        although how the last order ended is not known. `leaving`: receipts of holds that may be cancelled
        by it, because what they were for is listed as owed. Raises DayEndRefused, DeviceUnavailable and
        LedgerError while nothing was sent; afterwards the order says how it ended."""
        if not isinstance(terminal, CanEndOfDay):
            raise DayEndRefused(f"STA-036: terminal {self.id} knows no end of day")
        await self._not_twice(terminal, again)
        keeps = terminal.eod_open_holds is EodHolds.KEEPS
        refuse_held(self.id, sessions, keeps=keeps)
        identity = await terminal.identify()
        refuse_open(self.id, await terminal.open_holds(), keeps=keeps, leaving=leaving)
        before = await self._before(terminal, identity)
        await self._add(Step.INTENT, before | {"again": again}, new=True)
        return await self._report(await terminal.end_of_day(self._keep))

    async def _not_twice(self, terminal: Terminal, again: bool) -> None:
        if self.unclear and not await self.ask(terminal) and not again:
            raise DayEndRefused(
                f"STA-035: how the last end of day of terminal {self.id} ended is not known, and the"
                " terminal cannot tell; look for it at the acquirer, then order it with --again"
            )

    async def _before(self, terminal: Terminal, identity: TerminalIdentity) -> dict[str, JSON]:
        """What tells afterwards, if need be, whether the batch was closed."""
        return {
            "terminal_id": identity.terminal_id,
            "due": Need.END_OF_DAY in identity.needs,
            "bookings": await _bookings(terminal),
            "last": _key(await _last_result(terminal)),
        }

    async def _keep(self, evidence: Evidence) -> Verdict:
        amount = evidence.amount
        data: dict[str, Any] = {
            "total_minor": None if amount is None else amount.amount_minor,
            "currency": None if amount is None else amount.currency,
            "details": clean(evidence.details),
        }
        try:
            async with asyncio.timeout(COMMIT_BOUND_S):
                await self._add(Step.EVIDENCE, data)
        except (TimeoutError, LedgerError) as error:
            self._log("commit_late", level="error", id="STA-026", terminal=self.id, why=repr(error))
            return Verdict.REJECT
        return Verdict.STORED

    async def _report(self, outcome: Outcome) -> UpkeepOrder:
        if isinstance(outcome, Done):
            return await self._add(Step.DONE, {"how": "completed by the terminal"})
        if isinstance(outcome, Refused):
            text = clean_text(outcome.text)
            data: dict[str, JSON] = {"reason": str(outcome.reason), "code": outcome.code}
            return await self._add(Step.REFUSED, data | {"why": text})
        step = Step.NOT_SENT if isinstance(outcome, NotSent) else Step.UNKNOWN
        return await self._add(step, {"why": clean_text(outcome.why)})

    # --- asking -----------------------------------------------------------------------------------

    async def ask(self, terminal: Terminal) -> bool:
        """How an unclear order ended, from what the terminal says now; False while it cannot be told.
        Raises DeviceUnavailable."""
        if self.latest is None or not self.unclear:
            return True
        identity = await terminal.identify()
        last = await _last_result(terminal)
        judged = judge(self.latest, identity, last, await _bookings(terminal))
        if judged is None:
            self._log("day_end_unknown", level="error", id="TRM-004", terminal=self.id, task=TASK)
            return False
        await self._add(*judged)
        return True

    # --- rows -------------------------------------------------------------------------------------

    async def _add(self, step: Step, data: Mapping[str, JSON], *, new: bool = False) -> UpkeepOrder:
        row = UpkeepRow(self.id, TASK, str(step), data, self._clock.stamp())
        known = None if new else self.latest
        number = await self._journal.add_upkeep(row, None if known is None else known.number)
        steps = () if known is None else known.steps
        self.latest = order = UpkeepOrder(number, (*steps, row))
        level = "error" if step is Step.UNKNOWN else "info"
        self._log("day_end", level=level, terminal=self.id, step=str(step), **_plain(data))
        return order


def _plain(data: Mapping[str, JSON]) -> dict[str, JSON]:
    return {k: v for k, v in data.items() if k in ("why", "how", "code", "total_minor", "due")}


async def _last_result(terminal: Terminal) -> LastResult | None:
    """Not every terminal can tell; a link that broke shows at the next command."""
    try:
        return await terminal.last_result()
    except DeviceUnavailable:
        return None


async def _bookings(terminal: Terminal) -> int | None:
    """How many bookings the open batch has, where the terminal tells."""
    if not isinstance(terminal, CanMaintain):
        return None
    try:
        report = await terminal.maintain(Upkeep.TOTALS)
    except DeviceUnavailable:
        return None  # as above
    return bookings(report.facts) if report.done else None


def bookings(facts: Mapping[str, object]) -> int:
    return sum(count for _, count, _ in brands(facts))


def brands(facts: Mapping[str, object]) -> list[tuple[str, int, int]]:
    """(brand, count, minor units) of the totals in a terminal's flat facts."""
    found = []
    for key, count in facts.items():
        name = key.removeprefix("total_").removesuffix("_count")
        if key == f"total_{name}_count" and isinstance(count, int):
            minor = facts.get(f"total_{name}_minor", 0)
            found.append((name, count, minor if isinstance(minor, int) else 0))
    return found


# --- deciding: pure -------------------------------------------------------------------------------


def refuse_held(terminal_id: str, sessions: Iterable[Session], *, keeps: bool) -> None:
    """Raises DayEndRefused while a session has money there that the end of day could touch."""
    busy = [s for s in sessions if s.state not in NO_MONEY_THERE]
    if keeps:
        busy = [s for s in busy if s.state in AT_WORK or needs_last_result(s)]
    if busy:
        names = ", ".join(f"{s.id} ({s.state})" for s in busy)
        raise DayEndRefused(
            f"STA-034: money is held at terminal {terminal_id} by session {names}; expected none;"
            " wait until it is settled (`voltill status`), then order the end of day again"
        )


def refuse_open(
    terminal_id: str, holds: OpenHolds, *, keeps: bool, leaving: frozenset[int] = frozenset()
) -> None:
    """Raises DayEndRefused while the terminal lists open holds beside those `leaving`, or may have some it
    does not list."""
    open_ = [r for r in holds.receipts if r not in leaving]
    if keeps or (holds.complete and not open_):
        return
    listed = ", ".join(f"{r:04d}" for r in open_)
    seen = f"terminal {terminal_id} has open holds (receipts {listed})"
    if not open_:
        seen = f"terminal {terminal_id} does not say which holds are open"
    raise DayEndRefused(
        f"STA-034: {seen}; expected none, since an end of day could charge or cancel them;"
        " `voltill terminal open-holds` says whose they are; settle them first"
    )


def judge(
    order: UpkeepOrder, identity: TerminalIdentity, last: LastResult | None, now: int | None
) -> tuple[Step, dict[str, JSON]] | None:
    """How an unclear order ended; None while it cannot be told. `now`: bookings of the open batch."""
    intent = order.steps[0].data
    made_at = intent.get("terminal_id")
    if made_at and identity.terminal_id and made_at != identity.terminal_id:
        return None
    if Need.END_OF_DAY in identity.needs:
        return (Step.NOT_DONE, {"how": "the terminal still asks for it"}) if intent["due"] else None
    if last is not None and _is_new_day(last, intent):
        return Step.DONE, {"how": "last result of the terminal"}
    # What it needs most hides that it is due: only one that is ready no longer asks for it.
    if intent["due"] and identity.ready:
        return Step.DONE, {"how": "the terminal no longer asks for it"}
    if now == 0:
        return Step.DONE, {"how": "the batch is empty"}
    # As many bookings as before, and none since: new ones would be the last result.
    if now is not None and now == intent["bookings"] and _key(last) == intent["last"]:
        return Step.NOT_DONE, {"how": f"the batch still has its {now} bookings"}
    if order.steps[-1].step == Step.EVIDENCE and identity.ready:
        return Step.DONE, {"how": "its totals were received"}
    return None


def _is_new_day(last: LastResult, intent: Mapping[str, JSON]) -> bool:
    is_day = bool(brands(last.evidence.details)) or "receipt_last" in last.evidence.details
    return is_day and last.result == 0 and _key(last) != intent["last"]


def _key(last: LastResult | None) -> JSON:
    return None if last is None else list(ref_key(last.evidence.ref.to_json()))


# --- telling --------------------------------------------------------------------------------------


def day_json(order: UpkeepOrder) -> dict[str, Any]:
    """An order for people and scripts: `outcome` is "ordered" while it is under way or was left by a
    process that ended, else the last step. Money in minor units, times as ISO 8601 UTC."""
    last = order.steps[-1]
    totals = next((s.data for s in order.steps if s.step == Step.EVIDENCE), None)
    over = last.step in OVER or last.step == Step.UNKNOWN
    return {
        "terminal": last.terminal,
        "outcome": last.step if over else "ordered",
        "ordered": iso_utc(order.steps[0].stamp.utc_ms),
        "ended": iso_utc(last.stamp.utc_ms) if last.step in OVER else None,
        "why": str(last.data.get("why") or last.data.get("how") or ""),
        "code": str(last.data.get("code") or ""),
        "totals": None if totals is None else totals_json(totals),
    }


def totals_json(evidence: Mapping[str, Any]) -> dict[str, Any]:
    details = evidence["details"]
    return {
        "total_minor": evidence["total_minor"],
        "currency": evidence["currency"],
        "receipt_first": details.get("receipt_first"),
        "receipt_last": details.get("receipt_last"),
        "brands": [
            {"brand": name, "count": count, "amount_minor": minor}
            for name, count, minor in brands(details)
        ],
    }
