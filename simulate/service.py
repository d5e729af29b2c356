"""Who comes with a good card is served: his touch begins a session, and a session that has its hold and a car
gives energy to it. Where anything is in the way, or anybody, nothing is asked here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from simulate.causes import AFTER_MS
from simulate.chronicle import RUNNING, Act, Story
from simulate.conduct import relinked
from simulate.doubt import IN_DOUBT, LISTED_AFTER_MS
from simulate.energy import BLIND
from simulate.kills import GOOD_CARDS
from simulate.world import World

GOOD = frozenset({*GOOD_CARDS, "visa2", "jcb"})
# A card is read, the terminal is asked for its last result and who it is, and the tap is stored.
BEGINS_MS = 6_000
# The same where the disk, the terminal or its host takes its time over every step of that.
BEGINS_SLOWLY_MS = 40_000
SLOW = ("disk_stall", "terminal_slow", "host_slow")
# An agent that is back has found its terminals and its bus after so long; other trouble is felt for AFTER_MS.
FOUND_MS = 25_000
# Just before or after it another card was read, or the terminal had something else to do.
MEANWHILE_MS = 4_000
# The same card again so shortly after what it has done is one tap that lasts.
SAME_TAP_MS = 8_000
# An emergency stop is released when its driver has left.
PRESSED_MS = 180_000
# From a hold and a plug until energy flows: two equal readings, the release, the car; with four on a bus.
FLOWS_MS = 25_000
# The longest that a driver with a hold is waited for, less a moment.
COMES_MS = 25_000
NS_PER_MS = 1_000_000
# States in which a session has its connector to itself.
HAS_CONNECTOR = frozenset(
    {
        *("authorizing", "approved", "hold_unclear", "held", "beginning"),
        *(*RUNNING, "stopping", "ending"),
    }
)
# ... and in which its terminal is at work for it, or is about to be.
AT_WORK = frozenset({"authorizing", "approved", "recording", "capturing", "releasing", "settled"})


class Known(NamedTuple):
    """A session and what is known of its time."""

    session: dict[str, Any]
    story: Story


# What only trouble ends a session by: with the bus, its devices, or the board.
BY_TROUBLE = (
    "meter lost",
    "meter exchanged",
    "charge controller lost",
    "fault of the charge controller",
    "restart",
)


def check_service(world: World, sessions: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Stations that end their days have their own judge (simulate.days): a drain sends people away."""
    if world.place.variant.ends_days:
        return
    stories = [(s, world.chronicle.story(s["id"])) for s in sessions]
    known = [Known(session, story) for session, story in stories if story is not None]
    for tap in world.chronicle.taps:
        here = [each for each in known if each.session["terminal"] == tap.where]
        if _had_to_begin(world, tap, here):
            at_s = tap.at_ms / 1000
            yield (
                "not_served",
                f"{tap.what} was held up at {tap.where} at {at_s:.1f} s, for nothing",
            )
    for each in known:
        yield from _no_energy(world, each)
        yield from _stopped(world, each)


def _in_the_way(
    world: World, from_ms: int, to_ms: int, terminal: str, but: tuple[str, ...] = ()
) -> bool:
    """Trouble there, on the board or the bus, from a while before, as it is felt longer than it lasts."""
    for trouble in world.troubles.during(from_ms - AFTER_MS, to_ms, terminal):
        over = trouble.kind == "outage" and trouble.to_ms < from_ms - FOUND_MS
        if not over and not (but and trouble.kind.startswith(but)):
            return True
    return relinked(world, from_ms, terminal)


# --- A tap ----------------------------------------------------------------------------------------


def _had_to_begin(world: World, tap: Act, here: list[Known]) -> bool:
    slow = _in_the_way(world, tap.at_ms, tap.at_ms + BEGINS_MS, tap.where)
    end_ms = tap.at_ms + (BEGINS_SLOWLY_MS if slow else BEGINS_MS)
    if tap.what not in GOOD or end_ms + MEANWHILE_MS > world.time.ms:
        return False
    if any(tap.at_ms < each.story.began_ms <= end_ms for each in here):
        return False  # it has
    but = SLOW if slow else ()
    if _in_the_way(world, tap.at_ms, end_ms, tap.where, but) or _in_doubt(world, tap, here):
        return False
    return not (_means_another(world, tap, here) or _no_room(world, tap, here))


def _in_doubt(world: World, tap: Act, here: list[Known]) -> bool:
    """A hold is asked about, or may have to be: nobody else's is made before that is known. What is in doubt
    while a session charges is seen from outside by what went wrong before only."""
    if any(each.story.state_at(tap.at_ms) in IN_DOUBT for each in here):
        return True
    before = world.troubles.during(tap.at_ms - LISTED_AFTER_MS, tap.at_ms, tap.where)
    return world.place.variant.raises and any(True for _ in before)


def _means_another(world: World, tap: Act, here: list[Known]) -> bool:
    """The card's own session is there, or just was; or another card was held up at that moment, or the
    terminal had something to do that took the reader."""
    near = [t for t in world.chronicle.taps if t.where == tap.where and t is not tap]
    if any(abs(t.at_ms - tap.at_ms) <= MEANWHILE_MS for t in near):
        return True
    same = [t.at_ms for t in near if t.what == tap.what and t.at_ms < tap.at_ms]
    for each in here:
        story, began_ms = each.story, each.story.began_ms
        if began_ms > tap.at_ms:
            continue
        own = any(began_ms - BEGINS_MS <= at_ms <= began_ms for at_ms in same)
        if own and story.steps[-1].at_ms > tap.at_ms - SAME_TAP_MS:
            return True
        moved = any(abs(step.at_ms - tap.at_ms) <= MEANWHILE_MS for step in story.steps)
        if moved or story.state_at(tap.at_ms) in AT_WORK:
            return True
    return False


def _no_room(world: World, tap: Act, here: list[Known]) -> bool:
    """Every connector of that terminal has a session, or somebody is there who has none yet, so that the next
    car may be either's."""
    taken: set[str | None] = set()
    for each in here:
        if each.story.state_at(tap.at_ms) in HAS_CONNECTOR:
            taken.add(each.story.evse_at(tap.at_ms))
    stopped = [s.where for s in world.chronicle.stops if 0 <= tap.at_ms - s.at_ms <= PRESSED_MS]
    connectors = [
        name
        for n, name in enumerate(world.place.evses)
        if world.terminal_of(n).name == tap.where and name not in stopped
    ]
    return None in taken or taken.issuperset(connectors)


# --- Energy ---------------------------------------------------------------------------------------


def _no_energy(world: World, known: Known) -> Iterator[tuple[str, str]]:
    session, story = known
    held_ms, evse = story.at("held"), session["evse"]
    if held_ms is None or evse is None or not story.whole:
        return
    n = world.place.evses.index(evse)
    from_ms = _came_ms(world, story, n, held_ms)
    if from_ms is None or from_ms - held_ms > COMES_MS:
        return
    to_ms = from_ms + FLOWS_MS
    # One that was pulled as the hold was being made may be seen behind it only, and ends it.
    left = world.chronicle.unplugged_between(n, story.began_ms - MEANWHILE_MS, to_ms)
    if left or not world.chronicle.wants(n, from_ms, to_ms) or to_ms > world.time.ms:
        return
    if _called_off(world, known, to_ms) or _in_the_way(world, from_ms, to_ms, session["terminal"]):
        return
    connector = world.charger.connectors[n]
    flowed_mwh = connector.energy_mwh_at(to_ms * NS_PER_MS) - connector.energy_mwh_at(
        from_ms * NS_PER_MS
    )
    if not flowed_mwh:
        yield "no_energy", f"{session['id']} has its hold and its car, and got nothing"


def _came_ms(world: World, story: Story, n: int, held_ms: int) -> int | None:
    """From when on it has both; None when no car came."""
    if world.chronicle.plugged_at(n, held_ms) and story.evse_at(held_ms) is not None:
        return held_ms
    return next(
        (p.at_ms for p in world.chronicle.plugs[n] if p.plugged and p.at_ms > held_ms), None
    )


def _called_off(world: World, known: Known, to_ms: int) -> bool:
    """By its driver, by an app, by an emergency stop; or too little was approved to begin with."""
    session, story = known
    asked = session["events"][0]["data"].get("amount_minor")
    taps = [t for t in world.chronicle.taps if t.where == session["terminal"]]
    cards = {t.what for t in taps if story.began_ms - BEGINS_SLOWLY_MS <= t.at_ms <= story.began_ms}
    return (
        not asked
        or session["held_minor"] < asked
        or any(story.began_ms < t.at_ms <= to_ms and t.what in cards for t in taps)
        or any(
            order.where == session["id"] and order.at_ms <= to_ms
            for order in world.chronicle.orders
        )
        or any(
            s.where == session["evse"] and to_ms - PRESSED_MS <= s.at_ms <= to_ms
            for s in world.chronicle.stops
        )
    )


def _stopped(world: World, known: Known) -> Iterator[tuple[str, str]]:
    """A session ends early by what has happened, not by what might have."""
    session, story = known
    reason, stops = session["stop_reason"], story.entered("stopping")
    if not stops or session["evse"] is None:
        return
    n, since_ms = world.place.evses.index(session["evse"]), story.began_ms - AFTER_MS
    if any(t.kind.startswith(BLIND) for t in world.troubles.during(since_ms, stops[0])):
        return
    pressed = [s for s in world.chronicle.stops if s.where == session["evse"]]
    gone = world.chronicle.unplugged_between(n, story.began_ms - MEANWHILE_MS, stops[0])
    if (
        reason in BY_TROUBLE
        or (reason == "unplugged" and not gone)
        or (reason == "emergency stop" and not any(s.at_ms <= stops[0] for s in pressed))
    ):
        yield "stopped_for_nothing", f"{session['id']}: {reason}"
