"""What the running service answers about its terminals, and does with them for a person."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.ports import DeviceUnavailable, Terminal
from agent.settings.models import TerminalPoint
from agent.station.control import ControlRefused, Handler
from agent.station.day_end import DayEndRefused, day_json
from agent.station.desk import NOT_YET, Desk
from agent.station.errands import TooMany, Work
from agent.station.terminal_view import card_json, holds_json, identity_json, unreachable_json

if TYPE_CHECKING:
    from agent.station.station import Station

# A card is waited for no longer than a person stands there; a text stays no longer than it is read.
CARD_WAIT_MOST_S = 120
SHOW_MOST_S = 240
SHOW_LINES_MOST = 8  # ZVT 06 E0 carries lines F1 to F8


class TerminalRequests:
    def __init__(self, station: Station) -> None:
        self._station = station
        self.handlers: dict[str, Handler] = {
            "terminal_status": self.status,
            "terminal_show": self.show,
            "terminal_read_card": self.read_card,
            "terminal_open_holds": self.open_holds,
            "terminal_end_of_day": self.end_of_day,
        }

    async def status(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Asked anew; where nothing answers, what is known and why."""
        desk, point = self._desk(request)
        found = unreachable_json(desk.trouble, desk.identity)
        if desk.linked or desk.trouble == NOT_YET:
            try:
                found = identity_json(await self._ask(desk, lambda terminal: terminal.identify()))
            except DeviceUnavailable as error:
                found = unreachable_json(str(error), desk.identity)
        sessions = self._station.keeper.at_terminal(desk.id)
        latest = desk.errands.day.latest
        told = {
            "through": "service",
            "sessions": [s.id for s in sessions],
            "unexplained": list(desk.strange_holds),
            "end_of_day": None if latest is None else day_json(latest),
        }
        return point_json(point) | found | told

    async def show(self, request: Mapping[str, Any]) -> dict[str, Any]:
        desk, point = self._desk(request)
        lines = tuple(str(line) for line in request["lines"])[:SHOW_LINES_MOST]
        for_s = max(1, min(int(request["for_s"]), SHOW_MOST_S))

        async def work(terminal: Terminal) -> None:
            await terminal.show(lines)
            desk.tell_driver(lines, for_s * 1000)

        await self._errand(desk, work)
        return {"terminal": point.id, "lines": list(lines), "for_s": for_s}

    async def read_card(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The next card that stops no session; it begins none either."""
        desk, point = self._desk(request)
        wait_s = max(1, min(int(request["timeout_s"]), CARD_WAIT_MOST_S))
        _need_link(desk)
        try:
            seen = desk.errands.ask_for_card()
        except TooMany as error:
            raise _busy(desk, error) from None
        desk.tell_driver(desk.screen.card_test(), wait_s * 1000)
        try:
            async with asyncio.timeout(wait_s):
                card, mac = await seen
        except TimeoutError:
            return {"terminal": point.id} | card_json(None)
        except DeviceUnavailable as error:
            raise ControlRefused(str(error)) from None
        finally:
            seen.cancel()
            desk.tell_driver((), 0)  # back to what the states say
        return {"terminal": point.id} | card_json(card, mac)

    async def open_holds(self, request: Mapping[str, Any]) -> dict[str, Any]:
        desk, point = self._desk(request)

        async def work(terminal: Terminal) -> dict[str, Any]:
            identity, holds = await terminal.identify(), await terminal.open_holds()
            keeper, here = self._station.keeper, identity.terminal_id
            sessions = [*keeper.at_terminal(desk.id), *keeper.left.at(desk.id, here)]
            return holds_json(here, holds, sessions)

        found: dict[str, Any] = await self._errand(desk, work)
        return {"terminal": point.id} | found

    async def end_of_day(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Ends when the outcome is durable. Who asked may go away: the order goes on."""
        desk, _ = self._desk(request)
        again = bool(request.get("again", False))

        async def work(terminal: Terminal) -> dict[str, Any]:
            await terminal.show(desk.screen.day_end())
            sessions = self._station.keeper.at_terminal(desk.id)
            return day_json(await desk.errands.day.order(terminal, sessions, again=again))

        found: dict[str, Any] = await self._errand(desk, work)
        return found

    # --- ways -------------------------------------------------------------------------------------

    def _desk(self, request: Mapping[str, Any]) -> tuple[Desk, TerminalPoint]:
        """The terminal that is meant; where there is only one it need not be named."""
        points = {point.id: point for point in self._station.settings.terminals}
        wanted = request.get("terminal")
        name = next(iter(points)) if wanted is None and len(points) == 1 else wanted
        if name not in points:
            known = ", ".join(points)
            seen = "no terminal is named" if wanted is None else f"no terminal {wanted!r}"
            raise ControlRefused(f"STA-032: {seen}; expected --terminal with one of {known}")
        return self._station.parts.desks[str(name)], points[str(name)]

    async def _ask(self, desk: Desk, work: Work) -> Any:
        """Raises DeviceUnavailable when it breaks off on the way."""
        _need_link(desk)
        try:
            return await desk.errands.ask(work)
        except TooMany as error:
            raise _busy(desk, error) from None

    async def _errand(self, desk: Desk, work: Work) -> Any:
        try:
            return await self._ask(desk, work)
        except (DeviceUnavailable, DayEndRefused) as error:
            raise ControlRefused(str(error)) from None


def _need_link(desk: Desk) -> None:
    """Before the first link everybody waits for it: it comes, or there is a trouble to tell."""
    if not desk.linked and desk.trouble != NOT_YET:
        raise ControlRefused(desk.trouble)


def _busy(desk: Desk, why: object) -> ControlRefused:
    return ControlRefused(f"STA-037: terminal {desk.id} is busy: {why}; try again in a moment")


def point_json(point: TerminalPoint) -> dict[str, Any]:
    """The settings of a terminal that a technician compares with what is in front of them."""
    return {
        "terminal": point.id,
        "protocol": point.protocol,
        "profile": point.profile,
        "port": point.port,
        "baud": point.baud,
        "framing": point.framing,
        "currency": point.currency,
    }
