"""The judge of energy and time: connector after connector, what the meter truly measured against the sessions
on it. `hil.verify` compares the same from outside; here it is known when a plug was pulled, when the agent
was dead, and what stood in its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hil.verify.sessions import resolution_wh
from simulate.charger import START_WH, Connector
from simulate.chronicle import Plugged, Story
from simulate.world import World

# How much longer than the truth the idle time of one session may be told: polls and commits.
IDLE_SLACK_MS = 6_000
# A controller that cannot be told for longer ends the session.
EVSE_LOST_MS = 60_000
# How much less than the time of its offer an undisturbed session may be told: the same at both ends.
TIME_SLACK_MS = 6_000
# From its start on until the agent has seen controller and meter, and counts time again.
RESUMED_MS = 20_000
# What was counted in the last minute before a death is not stored: only proven time is charged.
DURABLE_MS = 60_000
MWH_PER_WH = 1_000
TURN_WH = 31  # five seconds of 22 kW: polls, a reading, the contactor
WH_MINOR, MINUTE_MINOR = 4, 300  # 39.00 a kWh; 2.40 a minute of charging and 0.60 of standing
# A plug that was away for less may have been missed, and so may one that nobody could ask for.
SEEN_MS = 5_000
# What a meter with the coarsest register may count late; the agent takes so much for the driver's own.
METER_STEP_WH = 10
BY_LAST = "billed by the last durable reading"
WHILE_DEAD = "flowed while the agent was dead, charged to nobody"
# What may keep the agent from a reading.
BLIND = ("outage", "bus", "meter", "evse", "disk")


@dataclass(frozen=True, slots=True)
class Difference:
    """`excuse`: the class of one that is as it must be; empty for a violation. `behind`: the closed sessions
    whose bills end by their last durable reading where this much energy begins."""

    code: str
    text: str
    excuse: str = ""
    behind: tuple[str, ...] = ()
    energy_wh: int = 0


def check_energy(world: World, sessions: list[dict[str, Any]]) -> Iterator[Difference]:
    world.charger.look()
    for n, connector in enumerate(world.charger.connectors):
        mine = [s for s in sessions if s["evse"] == connector.name]
        yield from _registers(world, n, mine)
        for session in mine:
            yield from _of_another(world, n, session)


def _registers(world: World, n: int, sessions: list[dict[str, Any]]) -> Iterator[Difference]:
    """In the order of the register, as the wall clock may have jumped: what is between two sessions, and
    behind the last one."""
    measured = [s for s in sessions if s["begin_wh"] is not None]
    measured.sort(key=lambda s: (s["begin_wh"], s["end_wh"] or 0))
    at, before = Fraction(START_WH), list[dict[str, Any]]()
    for session in measured:
        begin, end = session["begin_wh"], session["end_wh"]
        yield from _gap(world, n, before, at, Fraction(begin), session["id"])
        if end is None:
            return  # still running, which is a violation by itself
        if session["energy_wh"] != end - begin or end < begin:
            text = f"{session['id']}: {session['energy_wh']} Wh billed from {begin} to {end}"
            yield Difference("energy_differs", text)
        # One that took nothing may stand there as well.
        before = [*(s for s in before if s["end_wh"] == end), session]
        at = Fraction(end)
    energy_mwh = world.charger.connectors[n].plant.energy_mwh
    total = START_WH + Fraction(energy_mwh, MWH_PER_WH)
    yield from _gap(world, n, before, at, total, "the end")


def _gap(
    world: World, n: int, before: list[dict[str, Any]], at: Fraction, to: Fraction, where: str
) -> Iterator[Difference]:
    """Energy that no session accounts for, or two do. Too much is excused by nothing. `before`: the sessions
    that ended where it begins."""
    bound = resolution_wh(int(to))
    if abs(to - at) <= bound:
        return
    who = ", ".join(s["id"] for s in before) or "the begin"
    text = f"{float(to - at):.3f} Wh between {who} and {where}"
    if to < at:
        yield Difference("energy_overbilled", text)
        return
    excuse, behind = "", tuple[str, ...]()
    if to - at - _flowed_dead(world, n, at, to) <= bound:
        excuse = WHILE_DEAD
    elif any(s["end_quality"] == "last_durable" and _blind(world, s) for s in before):
        excuse = BY_LAST
        by_last = [s for s in before if s["end_quality"] == "last_durable"]
        behind = tuple(s["id"] for s in by_last if s["state"] == "closed")
    code = "energy_truth_differs" if where == "the end" else "energy_outside_session"
    yield Difference(code, text, excuse, behind, int(to - at))


def _flowed_dead(world: World, n: int, at: Fraction, to: Fraction) -> Fraction:
    """What of this flowed into a car that came when the one before had gone, on a release that nobody could
    withdraw."""
    bound = resolution_wh(int(to))
    left = [p for p in world.chronicle.plugs[n] if not p.plugged]
    if not any(abs(_register(p.energy_mwh) - at) <= bound for p in left):
        return Fraction(0)
    found = Fraction(0)
    for span in world.chronicle.dead[n]:
        until = to if span.to_mwh is None else min(to, _register(span.to_mwh))
        found += max(Fraction(0), until - max(at, _register(span.from_mwh)))
    return found


def _register(energy_mwh: int) -> Fraction:
    return START_WH + Fraction(energy_mwh, MWH_PER_WH)


def _blind(world: World, session: dict[str, Any]) -> bool:
    story = world.chronicle.story(session["id"])
    if story is None:
        return False
    found = world.troubles.during(story.began_ms, story.settled_ms)
    return any(t.kind.startswith(BLIND) for t in found)


def _of_another(world: World, n: int, session: dict[str, Any]) -> Iterator[Difference]:
    """Whoever pulls the plug pays for nothing that flows afterwards, as far as the agent could see it."""
    begin, end = session["begin_wh"], session["end_wh"]
    if begin is None or end is None:
        return
    bound = resolution_wh(end)
    story = world.chronicle.story(session["id"])
    plugs = world.chronicle.plugs[n]
    for at, left in enumerate(plugs):
        register = _register(left.energy_mwh)
        if left.plugged or not begin + bound < register < end - bound - METER_STEP_WH:
            continue
        came = plugs[at + 1] if at + 1 < len(plugs) else None
        if story is not None and _seen(world, story, left, came):
            text = f"{session['id']}: {float(end - register):.3f} Wh after its plug was pulled"
            yield Difference("energy_of_another", text)


def _seen(world: World, story: Story, left: Plugged, came: Plugged | None) -> bool:
    """The agent has said so, or nothing has kept it from seeing it. What it says behind the next plug, while
    its controller answers late or not at all, is news of before."""
    until_ms = world.time.ms if came is None else came.at_ms
    told_ms = [s.at_ms for s in story.steps if s.event == "unplugged" and left.at_ms <= s.at_ms]
    said = any(at_ms <= until_ms for at_ms in told_ms)
    just = any(at_ms <= until_ms + SEEN_MS for at_ms in told_ms)
    hidden = any(
        t.kind.startswith(BLIND) for t in world.troubles.during(left.at_ms - SEEN_MS, until_ms)
    )
    return said or (not hidden and (just or until_ms - left.at_ms > SEEN_MS))


def unwatched_minor(world: World, session: dict[str, Any]) -> int:
    """The most that the hold may be passed by because the agent was dead: what flowed on until it was back,
    and one turn more, at the dearest tariff of the simulation."""
    connector = world.place.evses.index(session["evse"])
    dead = world.chronicle.dead[connector]
    energy_mwh = sum(0 if s.to_mwh is None else s.to_mwh - s.from_mwh for s in dead)
    energy_wh = energy_mwh // MWH_PER_WH + TURN_WH * (1 + len(dead))
    away_ms = sum(away_ms for _, away_ms in world.outages)
    return energy_wh * WH_MINOR + away_ms * MINUTE_MINOR // 60_000


# --- Time -----------------------------------------------------------------------------------------


def check_time(world: World, sessions: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Nobody pays for more idle time than there was, nor for more time than energy was offered; where nothing
    was in the way, nor for less."""
    for connector in world.charger.connectors:
        mine = [s for s in sessions if s["evse"] == connector.name]
        told_ms = sum(s["idle_ms"] for s in mine)
        true_ms = connector.idle_ns // 1_000_000
        if told_ms > true_ms + IDLE_SLACK_MS * len(mine) + sum(_untold_ms(world, s) for s in mine):
            yield "idle_time", f"{told_ms} ms of idle time are billed, {true_ms} ms were"
        offered_ms = connector.offered_ns // 1_000_000
        for s in mine:
            slack_ms = IDLE_SLACK_MS + _untold_ms(world, s)
            if s["charging_ms"] + s["idle_ms"] > offered_ms + slack_ms:
                text = f"{s['id']}: {s['charging_ms']} + {s['idle_ms']} ms"
                yield "time", f"{text}; energy was offered for {offered_ms}"
        hidden = [t for t in world.troubles.during(0, world.time.ms) if t.kind.startswith(BLIND)]
        if all(t.kind == "outage" for t in hidden):
            lost_ms = sum(t.to_ms - t.from_ms + DURABLE_MS + RESUMED_MS for t in hidden)
            yield from _not_less(connector, mine, lost_ms)


def _untold_ms(world: World, session: dict[str, Any]) -> int:
    """A session that was resumed counts from there, although a disturbed bus keeps the release from the
    controller for a while (docs/limits.md)."""
    resumed_ms = [
        line["at_ms"]
        for line in world.logs
        if line["event"] == "session_resumed" and line["session"] == session["id"]
    ]
    return sum(
        EVSE_LOST_MS
        for at_ms in resumed_ms
        if any(t.kind.startswith("bus") for t in world.troubles.during(at_ms, at_ms))
    )


def _not_less(
    connector: Connector, sessions: list[dict[str, Any]], lost_ms: int
) -> Iterator[tuple[str, str]]:
    """`lost_ms`: outages, which are charged to nobody."""
    charging_ms = (connector.offered_ns - connector.idle_ns) // 1_000_000
    for what, true_ms in (
        ("charging_ms", charging_ms),
        ("idle_ms", connector.idle_ns // 1_000_000),
    ):
        told_ms = sum(s[what] for s in sessions)
        if told_ms < true_ms - lost_ms - TIME_SLACK_MS * len(sessions):
            yield "time_lost", f"{connector.name}: {told_ms} {what} are billed, {true_ms} were"
