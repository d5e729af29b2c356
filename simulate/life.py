"""Drivers: they tap, plug, leave, come back. They see the terminal, the cable and the car, nothing else."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from simulate.chronicle import Act
from simulate.fate import DAY_END
from simulate.plan import Visit
from simulate.world import World

LOOK_S = 0.5
WAIT_FOR_TERMINAL_S = 50.0
WAIT_FOR_ENERGY_S = 45.0
WAIT_FOR_STOP_S = 40.0
LIMIT_S = 240.0
DAY_END_S = 240.0  # the batch is closed behind all visits
CANCELLED_S = 20.0  # a driver who has cancelled looks whether his hold is gone
AFTERWARDS_S = 70.0  # a capture that was not possible is tried again after a minute


class Driver:
    def __init__(self, world: World, visit: Visit) -> None:
        self._world, self._visit = world, visit
        self._plant = world.charger.connectors[visit.connector].plant

    async def live(self) -> None:
        visit = self._visit
        await asyncio.sleep(visit.gap_s)
        self._world.trace("driver", f"comes: {visit}")
        if visit.order == "plug_first":
            await self._plug()
            await asyncio.sleep(2.0)
            await self._tap(visit.card)
        elif visit.order == "tap_first":
            await self._tap(visit.card)
            await asyncio.sleep(3.0)
            await self._plug()
        elif visit.order == "no_tap":
            await self._plug()
            await asyncio.sleep(visit.charge_s)
        elif visit.order == "tap_twice":
            await self._tap(visit.card)
            await asyncio.sleep(8.0)
            await self._tap(visit.card)
            await asyncio.sleep(CANCELLED_S)
        elif visit.order == "tap_stop":
            await self._plug()
            await asyncio.sleep(2.0)
            if await self._tap(visit.card):
                await asyncio.sleep(1.0)
                self._ask_of_session(self._stop)
            await asyncio.sleep(CANCELLED_S)
        else:
            await self._tap(visit.card)
            await asyncio.sleep(34.0)
        if visit.order in ("plug_first", "tap_first"):
            await self._charge()
        await self._leave()

    # --- acts -------------------------------------------------------------------------------------

    async def _plug(self) -> None:
        self._do("plugs in", plugged=True, load_w=self._visit.load_w)

    def _do(self, what: str, **values: bool | int) -> None:
        self._world.trace("driver", what)
        self._world.charger.change(self._visit.connector, **values)

    async def _tap(self, card: str) -> bool:
        """When the terminal asks for a card; False when it never does."""
        terminal = self._world.terminal_of(self._visit.connector)
        if not await self._until(lambda: terminal.waits_for_card, WAIT_FOR_TERMINAL_S):
            return False
        await asyncio.sleep(0.2)
        if not terminal.powered:
            return False
        self._world.trace("driver", f"taps {card}")
        terminal.verbs.tap(card)
        tap = Act(self._world.time.ms, terminal.name, card, self._visit.connector)
        self._world.chronicle.taps.append(tap)
        return True

    async def _until(self, seen: Callable[[], Any], within_s: float) -> bool:
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        while not seen():
            if loop.time() >= end:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    def _draws(self) -> bool:
        self._world.charger.look()
        return self._plant.power_mw > 0

    # --- a visit with energy ----------------------------------------------------------------------

    async def _charge(self) -> None:
        visit = self._visit
        if visit.early == "unplug":
            await asyncio.sleep(1.5)
            self._do("unplugs early", plugged=False)
            await asyncio.sleep(4.0)
            self._do("plugs in again", plugged=True)
        elif visit.early == "tap":
            await asyncio.sleep(5.0)
            await self._tap(visit.card)
        if not await self._until(self._draws, WAIT_FOR_ENERGY_S):
            self._world.trace("driver", "sees no energy and gives up")
            return
        if visit.limit:
            self._set_limit(*visit.limit.split())
        await asyncio.sleep(visit.charge_s / 2)
        if visit.stray_tap:
            await self._tap(visit.card if visit.stray_tap == "same" else visit.stray_tap)
        await asyncio.sleep(visit.charge_s / 2)
        await self._end()

    def _set_limit(self, kind: str, value: str) -> None:
        world = self._world

        def answered(session: str, answer: dict[str, Any]) -> None:
            if answer.get("ok"):
                world.limits[session] = (kind, int(value))
            world.trace("driver", f"limits {session} to {kind} {value}: {answer.get('ok')}")

        def limit(session: str) -> None:
            if world.process is not None:
                told = functools.partial(answered, session)
                world.process.ask(told, "limit", session=session, **{kind: int(value)})

        self._ask_of_session(limit)

    def _stop(self, session: str) -> None:
        world = self._world

        def answered(answer: dict[str, Any]) -> None:
            world.trace("driver", f"stops {session}: {answer.get('ok')}")
            if answer.get("ok"):
                world.chronicle.orders.append(Act(world.time.ms, session, "stop"))

        if world.process is not None:
            world.process.ask(answered, "stop", session=session)

    def _ask_of_session(self, then: Callable[[str], None]) -> None:
        """As an app would, over the control socket: first, which session is on this connector."""
        world, evse = self._world, self._world.place.evses[self._visit.connector]

        def seen(answer: dict[str, Any]) -> None:
            evses = answer["result"]["evses"] if answer.get("ok") else ()
            session = next((e["session"] for e in evses if e["id"] == evse), None)
            if session is not None:
                then(session)

        if world.process is not None:
            world.process.ask(seen, "status")

    async def _end(self) -> None:
        world, visit = self._world, self._visit
        if visit.end == "tap":
            await self._tap(visit.card)
        elif visit.end == "other_card":
            await self._tap("jcb")
            return
        elif visit.end == "control" and world.process is not None:
            evse = world.place.evses[visit.connector]
            world.trace("person", f"stops {evse} over the control socket")
            world.process.ask(lambda _: None, "stop", evse=evse)
        elif visit.end == "estop":
            self._do("presses the emergency stop", estop=True)
            evse = world.place.evses[visit.connector]
            world.chronicle.stops.append(Act(world.time.ms, evse, "emergency stop"))
        elif visit.end == "sigterm" and world.process is not None:
            world.trace("person", "stops the service")
            world.terminate()
        elif visit.end == "full":
            self._do("car is full", load_w=0)
            await asyncio.sleep(20.0)
            return
        elif visit.end == "unplug":
            return
        within_s = LIMIT_S if visit.end == "limit" else WAIT_FOR_STOP_S
        await self._until(lambda: not self._draws(), within_s)

    async def _leave(self) -> None:
        await asyncio.sleep(self._visit.stays_s)
        self._do("unplugs and leaves", plugged=False, load_w=0)
        self._world.watch.car_left()
        if self._plant.estop:
            await asyncio.sleep(3.0)
            self._do("the emergency stop is released", estop=False)
        await asyncio.sleep(1.0)


async def live_all(world: World, visits: tuple[Visit, ...]) -> None:
    """The visits of each connector one after the other, connectors side by side."""
    lanes: dict[int, list[tuple[int, Visit]]] = {}
    for number, visit in enumerate(visits, 1):
        lanes.setdefault(visit.connector, []).append((number, visit))

    async def lane(those: list[tuple[int, Visit]]) -> None:
        for number, visit in those:
            world.fate.visit = max(world.fate.visit, number)
            world.visit_begins(number)
            world.aim()
            await Driver(world, visit).live()
            await _until_met(world, number)
            world.fate.visit_ended(number)
            world.aim()

    await asyncio.gather(*(lane(those) for those in lanes.values()))


async def _until_met(world: World, number: int) -> None:
    """A session goes on when its driver has gone: so long its kill is waited for."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() < began + DAY_END_S:
        world.aim()
        kill = world.fate.next
        if kill is None or kill.visit != number:
            return
        late = loop.time() > began + AFTERWARDS_S or (world.ready and not world.states())
        if late and kill.state != DAY_END:
            return
        await asyncio.sleep(LOOK_S)
