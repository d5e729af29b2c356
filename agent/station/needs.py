"""What a terminal asks for beside payments, done by the station where it may: a diagnosis and the time of day
whenever the terminal is idle, an initialisation only while it has no open hold (design §2 rule 6)."""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

from agent.ledger import UpkeepRow
from agent.ports import CanMaintain, Need, Terminal, TerminalIdentity, Upkeep, UpkeepReport
from agent.session.deadlines import DAY_MS, retry_after_ms
from agent.station import daily
from agent.station.context import Context
from agent.station.day_end import NO_MONEY_THERE, Journal
from agent.station.till import clean_text
from agent.trust.plain import JSON
from agent.values import Quality

TASK = "initialisation"
_TASKS = {
    Need.DIAGNOSIS: Upkeep.DIAGNOSIS,
    Need.CLOCK: Upkeep.SET_CLOCK,
    Need.INITIALISATION: Upkeep.INITIALISATION,
}


class Needs:
    def __init__(
        self,
        terminal_id: str,
        terminal: Terminal,
        journal: Journal,
        zone: ZoneInfo,
        context: Context,
    ) -> None:
        self.id = terminal_id
        self._terminal, self._journal, self._zone = terminal, journal, zone
        self._keeper, self._clock, self._log = context.keeper, context.clock, context.log
        self._tries: dict[Need, int] = {}
        self._again_ms: dict[Need, int] = {}

    async def turn(self, identity: TerminalIdentity, beat: Callable[[], None]) -> bool:
        """Do one thing that is needed and may be done now; True when the terminal was told to. `beat`: a
        task may take minutes. Raises DeviceUnavailable and LedgerError."""
        wanted = [need for need in _TASKS if need in identity.needs]
        for gone in [need for need in self._tries if need not in wanted]:
            del self._tries[gone], self._again_ms[gone]
        for need in wanted:
            if self._clock.boot_ms() >= self._again_ms.get(need, 0) and await self._may(need):
                beat()
                await self._do(need)
                return True
        return False

    async def _may(self, need: Need) -> bool:
        if not isinstance(self._terminal, CanMaintain):
            return False
        if need is Need.CLOCK:
            return self._clock.stamp().quality is not Quality.UNKNOWN
        if need is Need.INITIALISATION:
            return await self._is_empty()
        return True

    async def _is_empty(self) -> bool:
        sessions = self._keeper.at_terminal(self.id)
        if any(s.state not in NO_MONEY_THERE for s in sessions):
            return False
        holds = await self._terminal.open_holds()
        if holds.complete and not holds.receipts:
            return True
        self._later(Need.INITIALISATION)
        self._log(
            "terminal_not_initialised",
            level="error",
            id="STA-042",
            terminal=self.id,
            why=f"open holds: {list(holds.receipts)}, complete list: {holds.complete}",
        )
        return False

    def _later(self, need: Need) -> None:
        tries = self._tries[need] = self._tries.get(need, 0) + 1
        pause_ms = retry_after_ms(tries) or DAY_MS
        self._again_ms[need] = self._clock.boot_ms() + pause_ms

    async def _do(self, need: Need) -> None:
        self._later(need)
        order = await self._intend(need)
        report = await self._order(need)
        level = "info" if report.done else "error"
        data: dict[str, JSON] = {"done": report.done, "code": report.code}
        data["text"] = clean_text(report.text)
        if order is not None:
            row = UpkeepRow(self.id, TASK, "over", data, self._clock.stamp())
            await self._journal.add_upkeep(row, order)
        told = {} if report.done else {"id": "STA-043"}
        self._log("terminal_care", level=level, terminal=self.id, task=str(need), **data, **told)

    async def _intend(self, need: Need) -> int | None:
        """What changes the terminal's books with its acquirer is written down before."""
        if need is not Need.INITIALISATION:
            return None
        return await self._journal.add_upkeep(
            UpkeepRow(self.id, TASK, "intent", {}, self._clock.stamp())
        )

    async def _order(self, need: Need) -> UpkeepReport:
        values: dict[str, object] = {}
        if need is Need.CLOCK:
            values["local_time"] = daily.local_time(self._zone, self._clock.stamp().utc_ms)
        if not isinstance(self._terminal, CanMaintain):
            return UpkeepReport(_TASKS[need], False, text="the terminal cannot be told")
        return await self._terminal.maintain(_TASKS[need], **values)
