"""What the running service answers on its control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.session import E, Event, S, Session
from agent.session.limits import KINDS, TAKES_LIMITS, asked, binding, changes
from agent.session.summary import summary
from agent.station import aside, bus_status, by_hand, queries
from agent.station.control import ControlRefused, Handler
from agent.station.desk import NOT_YET
from agent.station.live import described
from agent.station.taps import new_session_id
from agent.station.terminal_requests import TerminalRequests
from agent.station.wishes import PENDING, end

# A signature and a commit; a worn card takes seconds.
RECORD_LOOKS, RECORD_LOOK_S = 60, 0.05
# A slow host, and the questions after a dialogue that broke.
FREE_LOOKS, FREE_LOOK_S = 600, 0.25

if TYPE_CHECKING:
    from agent.station.station import Station


def _no_session(session_id: object) -> ControlRefused:
    return ControlRefused(
        f"STA-012: no session {session_id} in the ledger; see `voltill sessions list`"
    )


def _over(session_id: str, state: str) -> str:
    return f"STA-050: session {session_id} is {state}; expected one whose energy may still flow"


def _same_hold(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return bool(a) and all(a.get(key) == b.get(key) for key in ("terminal_id", "receipt"))


class Requests:
    def __init__(self, station: Station) -> None:
        self._station = station
        self._freeing: set[str] = set()
        self.handlers: dict[str, Handler] = {
            "status": self.status,
            "sessions": self.sessions,
            "session": self.session,
            "events": self.events,
            "outbox": self.outbox,
            "records": self.records,
            "stop": self.stop,
            "close": self.close,
            "free": self.free,
            "limit": self.limit,
            "meter_read": self.meter_read,
            **TerminalRequests(station).handlers,
        }

    async def status(self, _: Mapping[str, Any]) -> dict[str, Any]:
        station, now = self._station, self._station.clock.stamp()
        ports = {point.id: point.port for point in station.settings.terminals}
        return {
            "running": True,
            "station": station.settings.station.id,
            "time": now.to_json(),
            "terminals": [
                {
                    "id": desk.id,
                    "port": ports[desk.id],
                    "tid": None if desk.identity is None else desk.identity.terminal_id,
                    "trouble": desk.trouble,
                    "closing": desk.closing.why,
                    "strange_holds": list(desk.strange_holds),
                }
                for desk in station.parts.desks.values()
            ],
            "buses": bus_status.described(station.settings, station.parts.buses),
            "evses": [described(point) for point in station.parts.points.values()],
            "uplink": None if station.parts.uplink is None else station.parts.uplink.status(),
            **await station.ledger.use(lambda ledger: queries.open_money(ledger, now)),
            "ends_of_day": await station.ledger.use(queries.ends_of_day),
            "set_aside": dict(station.keeper.set_aside),
            "aside": await station.ledger.use(aside.listed),
            "record_key": station.signing.status(),
            "stuck": station.progress.stuck(),
        }

    async def sessions(self, request: Mapping[str, Any]) -> Any:
        limit = int(request.get("limit", 20))
        return await self._station.ledger.use(lambda ledger: queries.sessions_list(ledger, limit))

    async def session(self, request: Mapping[str, Any]) -> Any:
        found = await self._station.ledger.use(
            lambda ledger: queries.session_show(ledger, str(request["id"]))
        )
        if found is None:
            raise _no_session(request["id"])
        return found

    async def events(self, request: Mapping[str, Any]) -> Any:
        rows = await self._station.ledger.events(str(request["id"]))
        if not rows:
            raise _no_session(request["id"])
        return [queries.event_json(row) for row in rows]

    async def outbox(self, _: Mapping[str, Any]) -> Any:
        return await self._station.ledger.use(queries.outbox)

    async def records(self, _: Mapping[str, Any]) -> Any:
        return await self._station.ledger.use(queries.records)

    async def stop(self, request: Mapping[str, Any]) -> Any:
        """End the session on a connector, or the one that is named, as the person at the station asks. While
        the terminal is at work it is cancelled as soon as the hold is known (`pending`)."""
        keeper, session_id = self._station.keeper, request.get("session")
        if session_id is not None:
            session, where = keeper.sessions.get(str(session_id)), f"open session {session_id}"
        else:
            session, where = keeper.on_evse(str(request["evse"])), f"session on {request['evse']}"
        if session is None:
            raise ControlRefused(f"STA-018: no {where}; see `voltill status`")
        if session.state is S.UNRESOLVED:  # a foreign hold, too, is a technician's to free
            raise ControlRefused(
                f"STA-018: session {session.id} is {session.state}; there is nothing to stop"
            )
        step = await end(keeper, session.id, stop="local", cancel="local")
        pending = (
            step is not None and bool(step.session.cancel_wish) and step.session.state in PENDING
        )
        if step is None or not (step.taken or pending):
            raise ControlRefused(
                f"STA-018: session {session.id} is {session.state}; there is nothing to stop"
            )
        told = {"session": session.id, "state": str(step.session.state)}
        return told | {"pending": True} if pending else told

    async def limit(self, request: Mapping[str, Any]) -> Any:
        """Limit a session by cost, energy or time, for its driver or for the back end. Asked again with the
        same values it changes nothing. Answers what binds now."""
        keeper, session_id = self._station.keeper, str(request["session"])
        try:
            data = asked(request)
        except ValueError as error:
            raise ControlRefused(f"STA-050: {error}") from None
        session = keeper.sessions.get(session_id)
        state = (
            (await self.session({"id": session_id}))["state"] if session is None else session.state
        )
        if session is None or session.state not in TAKES_LIMITS:
            raise ControlRefused(_over(session_id, state))
        event = Event(E.LIMITED, self._station.clock.stamp(), data)
        changed = changes(session, event)
        if changed:
            step = await keeper.tell(session_id, E.LIMITED, data)
            if not step.taken and changes(step.session, event):
                raise ControlRefused(_over(session_id, step.session.state))
            session, changed = step.session, step.taken
        return {
            "session": session_id,
            "changed": changed,
            "limits": binding(session),
            "supported": list(KINDS),
        }

    async def close(self, request: Mapping[str, Any]) -> Any:
        """Take a session off the list of what stands open, as a person says."""
        keeper, session_id = self._station.keeper, str(request["id"])
        try:
            by = str(request.get("by", ""))
            data = by_hand.data(str(request["how"]), str(request["note"]), by)
            session = keeper.sessions.get(session_id)
            if session is not None:
                by_hand.may_close(session)
                await keeper.left.note(session)
                step = await keeper.tell(session_id, E.CLOSED_BY_HAND, data)
                by_hand.must_be_taken(step.taken, step.session)
                await self._recorded(session_id)
                return summary(step.session)
        except by_hand.NotClosed as error:
            raise ControlRefused(str(error)) from None
        if session_id in keeper.set_aside:
            now = self._station.clock.stamp()
            if self._station.signing.trouble:  # a person does not wait for a token at a socket
                raise ControlRefused(self._station.signing.trouble)
            alone = await self._station.recorder.close_aside(session_id, data, now)
            if alone is not None:
                keeper.closed_aside(alone)
                return summary(alone)
        found = await self.session(request)
        raise ControlRefused(
            f"STA-044: session {session_id} is {found['state']}; nothing stands open"
        )

    async def free(self, request: Mapping[str, Any]) -> Any:
        """A technician's order: free the hold of a listed session. What it was for is still owed."""
        session_id = str(request["id"])
        if session_id in self._freeing:
            raise ControlRefused(
                f"STA-045: session {session_id} is being freed already; see how it ends with"
                f" `voltill sessions show {session_id}`"
            )
        self._freeing.add(session_id)
        try:
            return await self._free(session_id)
        finally:
            self._freeing.discard(session_id)

    async def _free(self, session_id: str) -> Any:
        station = self._station
        keeper = station.keeper
        session = keeper.sessions.get(session_id) or keeper.left.sessions.get(session_id)
        if session_id in keeper.set_aside or (session is not None and session.aside):
            raise ControlRefused(
                f"STA-045: session {session_id} is set aside, and nothing is sent for it; end its hold at"
                " the terminal or the acquirer, then take it off the list: `voltill sessions close`"
            )
        open_ = keeper.sessions.values()
        same = [] if session is None else [s.id for s in open_ if _same_hold(s.hold, session.hold)]
        if session is None or (session_id in keeper.left.sessions and same):
            if session is not None:
                await keeper.left.gone([session_id])
            found = await self.session({"id": session_id})
            same = same or [s.id for s in open_ if _same_hold(s.hold, found["hold"])]
            seen = f"its hold is listed as session {same[0]}" if same else "its hold has ended"
            raise ControlRefused(
                f"STA-045: session {session_id} is {found['state']} ({found['payment']}); {seen}"
            )
        desk = station.parts.desks.get(session.terminal)
        if desk is None or not (desk.linked or desk.trouble == NOT_YET):
            why = "it is not configured" if desk is None else desk.trouble
            raise ControlRefused(f"STA-045: terminal {session.terminal} cannot be told: {why}")
        if session_id in keeper.left.sessions:
            session = await self._listed_again(session)
            session_id = session.id
        step = await keeper.tell(session_id, E.FREE, {"who": "a technician"})
        if not step.taken:
            raise ControlRefused(
                f"STA-045: session {session_id} is {session.state} ({session.payment}); expected one that"
                " is listed as refused, failed, away or foreign, with its hold"
            )
        for _ in range(FREE_LOOKS):
            now = keeper.sessions.get(session_id)
            if now is None or now.state not in (S.RELEASING, S.RELEASE_UNCLEAR, S.SETTLED):
                break
            await asyncio.sleep(FREE_LOOK_S)
        return await self.session({"id": session_id})

    async def _listed_again(self, left: Session) -> Session:
        """A hold that was left open when its session was closed by hand is freed as a session of its own:
        what is closed stays closed."""
        keeper = self._station.keeper
        data = {
            "terminal": left.terminal,
            "terminal_id": left.hold.get("terminal_id"),
            "currency": left.currency,
            "hold": dict(left.hold),
            "held_minor": left.held_minor,
            "why": f"left open when session {left.id} was closed by hand",
        }
        again = (await keeper.tell(new_session_id(), E.FOREIGN, data)).session
        await keeper.left.gone([left.id])
        for _ in range(RECORD_LOOKS):
            now = keeper.sessions.get(again.id)
            if now is None or now.settlement_seq is not None:
                break
            await asyncio.sleep(RECORD_LOOK_S)
        return again

    async def _recorded(self, session_id: str) -> None:
        """Its record takes a moment; one that takes longer is made after a restart at the latest."""
        for _ in range(RECORD_LOOKS):
            if session_id not in self._station.keeper.sessions:
                return
            await asyncio.sleep(RECORD_LOOK_S)

    async def meter_read(self, request: Mapping[str, Any]) -> Any:
        point = self._station.parts.points.get(str(request.get("evse", "")))
        if point is None:
            known = ", ".join(self._station.parts.points)
            raise ControlRefused(
                f"STA-013: no EVSE {request.get('evse')!r}; expected one of {known}"
            )
        reading = await point.register.read()
        return {
            "model": point.register.model,
            "serial": reading.serial,
            "energy_import_wh": reading.energy_import_wh,
            "power_w": reading.power_w,
            "state": str(reading.state),
            "why": reading.why,
        }
