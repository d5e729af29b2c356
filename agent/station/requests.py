"""What the running service answers on its control socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.session import E, Event, energy_allowed
from agent.session.limits import KINDS, TAKES_LIMITS, asked, binding, changes
from agent.station import queries
from agent.station.control import ControlRefused, Handler
from agent.station.terminal_requests import TerminalRequests

if TYPE_CHECKING:
    from agent.station.station import Station


def _no_session(session_id: object) -> ControlRefused:
    return ControlRefused(
        f"STA-012: no session {session_id} in the ledger; see `voltill sessions list`"
    )


class Requests:
    def __init__(self, station: Station) -> None:
        self._station = station
        self.handlers: dict[str, Handler] = {
            "status": self.status,
            "sessions": self.sessions,
            "session": self.session,
            "events": self.events,
            "outbox": self.outbox,
            "records": self.records,
            "stop": self.stop,
            "limit": self.limit,
            "meter_read": self.meter_read,
            **TerminalRequests(station).handlers,
        }

    async def status(self, _: Mapping[str, Any]) -> dict[str, Any]:
        station = self._station
        ports = {point.id: point.port for point in station.settings.terminals}
        return {
            "running": True,
            "station": station.settings.station.id,
            "time": station.clock.stamp().to_json(),
            "terminals": [
                {
                    "id": desk.id,
                    "port": ports[desk.id],
                    "tid": None if desk.identity is None else desk.identity.terminal_id,
                    "trouble": desk.trouble,
                    "strange_holds": list(desk.strange_holds),
                }
                for desk in station.parts.desks.values()
            ],
            "evses": [point.describe() for point in station.parts.points.values()],
            "uplink": None if station.parts.uplink is None else station.parts.uplink.status(),
            "open": await station.ledger.use(queries.open_money),
            "ends_of_day": await station.ledger.use(queries.ends_of_day),
            "set_aside": dict(station.keeper.set_aside),
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
        """End the session on a connector, as the person at the station asks."""
        evse = str(request["evse"])
        session = self._station.keeper.on_evse(evse)
        if session is None:
            raise ControlRefused(f"STA-018: no session on {evse}; see `voltill status`")
        charging = energy_allowed(session.state)
        event, data = (E.STOP, {"reason": "local"}) if charging else (E.CANCELLED, {"why": "local"})
        step = await self._station.keeper.tell(session.id, event, data)
        if not step.taken:
            raise ControlRefused(
                f"STA-018: session {session.id} is {session.state}; there is nothing to stop"
            )
        return {"session": session.id, "state": str(step.session.state)}

    async def limit(self, request: Mapping[str, Any]) -> Any:
        """Limit a session by cost, energy or time, for its driver or for the back end. Asked again with the
        same values it changes nothing. Answers what binds now."""
        keeper, session_id = self._station.keeper, str(request["session"])
        try:
            data = asked(request)
        except ValueError as error:
            raise ControlRefused(f"STA-050: {error}") from None
        session = keeper.sessions.get(session_id)
        if session is None:
            raise _no_session(session_id)
        if session.state not in TAKES_LIMITS:
            raise ControlRefused(
                f"STA-050: session {session_id} is {session.state}; expected one whose energy may still flow"
            )
        event = Event(E.LIMITED, self._station.clock.stamp(), data)
        changed = changes(session, event)
        if changed:
            step = await keeper.tell(session_id, E.LIMITED, data)
            session, changed = step.session, step.taken
        return {
            "session": session_id,
            "changed": changed,
            "limits": binding(session),
            "supported": list(KINDS),
        }

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
