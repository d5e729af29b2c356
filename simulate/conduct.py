"""What people rely on beside the money: their orders are carried out, and nobody else's are. A card cancels
or stops its own session and no other, an emergency stop stops, an outage that was too long ends a session, a
part of a hold is taken or not as the operator has it, and what nobody was billed for is told.

Where something was in the way nothing is asked: other rules look at how such a session ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hil.backend.jose import payload_of
from hil.verify.sessions import resolution_wh
from simulate.backend import RECORDS_MAX
from simulate.chronicle import RUNNING, Act, Story
from simulate.energy import METER_STEP_WH, check_energy
from simulate.links import given_up
from simulate.world import World

# From the card's touch until it is read, and from there until the session has moved: two turns of the desk
# and of the connector, two commits.
READ_MS = 3_000
OBEYED_MS = 15_000
# Of two cards that are held up within this either may be the one that was read.
TOGETHER_MS = 1_000
# So long after a hold the card may still lie at the terminal.
LASTS_MS = 5_000
# Trouble that ended so shortly before an order may still delay it.
BEFORE_MS = 5_000
# How much longer than the truth an outage may look: the agent dies, and a moment later it is ready again.
OUTAGE_SLACK_MS = 2_000
# A hold is there, and energy does not flow yet, or does.
CARD_ENDS = frozenset({"held", "beginning", *RUNNING})
# A terminal that is at work has to end that first, within the time its host may take.
PENDING_MS = 60_000
GOES_ON = frozenset({"authorizing", "approved", *CARD_ENDS})


def check_conduct(world: World, sessions: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    served = {s["id"] for s in sessions if s["energy_wh"]}
    for session in sessions:
        story = world.chronicle.story(session["id"])
        if story is None or not story.whole:
            continue
        yield from _by_card(world, session, story)
        yield from _car_before(world, session, story, served)
        yield from _emergency(world, session, story)
        yield from _ordered(world, session, story)
        yield from _resumed(world, session, story)
        yield from _part(world, session)
    yield from _told_apart(world, sessions)


# --- Cards ----------------------------------------------------------------------------------------


def _begun_by(world: World, session: dict[str, Any], story: Story) -> list[Act]:
    """The touches that may have begun it: the last before it, and what came together with that."""
    taps = [act for act in world.chronicle.taps if act.where == session["terminal"]]
    before = [tap for tap in taps if tap.at_ms <= story.began_ms]
    return [tap for tap in before if tap.at_ms > before[-1].at_ms - TOGETHER_MS]


def _by_card(world: World, session: dict[str, Any], story: Story) -> Iterator[tuple[str, str]]:
    cards = {tap.what for tap in _begun_by(world, session, story)}
    if not cards:
        return
    taps = [act for act in world.chronicle.taps if act.where == session["terminal"]]
    ended = story.at("stop" if session["stop_reason"] == "tap" else "cancelled")
    if session["stop_reason"] == "tap" and ended is not None:
        since_ms = max(ended - OBEYED_MS, story.began_ms + 1)
        just = [t.what for t in taps if since_ms <= t.at_ms <= ended]
        if not cards.intersection(just) and not _busy(world, ended, session["terminal"]):
            yield "stopped_by_another", f"{session['id']} of {sorted(cards)}, stopped by {just}"
    if len(cards) > 1:
        return  # whose it is cannot be said
    (card,) = cards
    lasts_until_ms = (story.at("held") or 0) + LASTS_MS
    for tap in taps:
        state = story.state_at(tap.at_ms)
        if tap.what != card or tap.at_ms <= lasts_until_ms or state not in CARD_ENDS:
            continue
        if any(t.what == card and 0 < tap.at_ms - t.at_ms <= LASTS_MS for t in taps):
            continue  # still the touch before
        if _shared(world, session, story, card) or _busy(world, tap.at_ms, session["terminal"]):
            continue
        if story.state_at(tap.at_ms + OBEYED_MS) in CARD_ENDS:
            yield "card_ignored", f"{session['id']}: {card} was held up in {state}, and it went on"


def _car_before(
    world: World, session: dict[str, Any], story: Story, served: set[str]
) -> Iterator[tuple[str, str]]:
    """Nobody pays for the car that stood at another connector, charged and done, when he held up his card."""
    meant = _begun_by(world, session, story)
    if not meant or session["evse"] is None or not session["energy_wh"]:
        return
    if len({tap.connector for tap in meant}) > 1:
        return  # who it is for cannot be said
    connector = world.place.evses.index(session["evse"])
    came = [p for p in world.chronicle.plugs[connector] if p.at_ms <= meant[-1].at_ms]
    if connector == meant[-1].connector or not came or not came[-1].plugged:
        return
    began_ms = story.at("began") or story.began_ms
    if any(meant[-1].at_ms < p.at_ms <= began_ms for p in world.chronicle.plugs[connector]):
        return  # that one left before, and another came
    for name in served - {session["id"]}:
        other = world.chronicle.story(name)
        if other is None or other.evse != session["evse"]:
            continue
        # What was plugged in after it had begun is another car, for all that anybody can see.
        plugged = came[-1].at_ms <= (other.at("began") or 0)
        if plugged and other.steps[-1].at_ms <= meant[-1].at_ms:
            yield "car_before", f"{session['id']} pays for the car of {name}"


def _shared(world: World, session: dict[str, Any], story: Story, card: str) -> bool:
    """The same card began another one at this terminal, so that a tap may mean either."""
    taps = [t for t in world.chronicle.taps if t.where == session["terminal"] and t.what == card]
    others = [
        other
        for name in world.chronicle.sessions
        if name != session["id"] and (other := world.chronicle.story(name)) is not None
    ]
    return any(
        t.at_ms <= other.began_ms <= t.at_ms + READ_MS and other.steps[-1].at_ms > story.began_ms
        for t in taps
        for other in others
    )


def _busy(world: World, at_ms: int, terminal: str) -> bool:
    """Anything was wrong there or on the board, so that this may have gone another way."""
    found = world.troubles.during(at_ms - BEFORE_MS, at_ms + OBEYED_MS, terminal)
    anew = relinked(world, at_ms, terminal)
    return any(True for _ in found) or anew or world.place.variant.ends_days


def relinked(world: World, at_ms: int, terminal: str) -> bool:
    """The link is made anew meanwhile, for a trouble that was over before it was noticed."""
    return bool(given_up(world, terminal, at_ms - BEFORE_MS, at_ms + OBEYED_MS))


# --- Stops ----------------------------------------------------------------------------------------


def _emergency(world: World, session: dict[str, Any], story: Story) -> Iterator[tuple[str, str]]:
    for press in world.chronicle.stops:
        if press.where != session["evse"] or story.state_at(press.at_ms) not in RUNNING:
            continue
        disturbed = any(
            True for _ in world.troubles.during(press.at_ms - BEFORE_MS, press.at_ms + OBEYED_MS)
        )
        if not disturbed and story.state_at(press.at_ms + OBEYED_MS) in RUNNING:
            yield "emergency_stop_ignored", f"{session['id']} is {story.state_at(press.at_ms)}"


def _ordered(world: World, session: dict[str, Any], story: Story) -> Iterator[tuple[str, str]]:
    for order in world.chronicle.orders:
        end_ms = order.at_ms + PENDING_MS
        if order.where != session["id"] or end_ms > world.time.ms:
            continue
        disturbed = world.troubles.during(order.at_ms - BEFORE_MS, end_ms, session["terminal"])
        if not any(True for _ in disturbed) and story.state_at(end_ms) in GOES_ON:
            yield "order_forgotten", f"{session['id']} was ordered to stop and went on"


def _resumed(world: World, session: dict[str, Any], story: Story) -> Iterator[tuple[str, str]]:
    """After an outage longer than the operator allows no energy flows any more."""
    allowed_ms = world.place.variant.resume_s * 1_000 + OUTAGE_SLACK_MS
    for at_ms, away_ms in world.outages:
        clock = any(t.kind.startswith("clock") for t in world.troubles.during(0, at_ms + away_ms))
        if away_ms <= allowed_ms or clock or story.state_at(at_ms) not in RUNNING:
            continue
        if any(s.at_ms >= at_ms + away_ms and s.state in RUNNING for s in story.steps):
            yield "resumed_too_late", f"{session['id']} went on after {away_ms // 1_000} s"


# --- Parts and rests ------------------------------------------------------------------------------


def _part(world: World, session: dict[str, Any]) -> Iterator[tuple[str, str]]:
    asked = session["events"][0]["data"].get("amount_minor")
    if world.place.variant.partial != "release" or not asked or session["increments"]:
        return
    if 0 < session["held_minor"] < asked and (session["energy_wh"] or session["captured_minor"]):
        text = f"{session['id']}: {session['held_minor']} of {asked} was approved"
        yield "part_not_released", f"{text}, and {session['energy_wh']} Wh were sold on it"


def _told_apart(world: World, sessions: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """What flowed behind the last durable reading of a bill has a record of its own, and whoever is listed
    has one that says so."""
    rows = world.backend.intake.database.records(None, 1, RECORDS_MAX)
    bodies = [payload_of(row["jws"]) for row in rows if row["type"] == "unmeasured"]
    told = {body["session_id"]: body["energy_wh"] for body in bodies}
    for difference in check_energy(world, sessions):
        if difference.excuse and difference.behind:
            yield from _told(difference.behind, difference.energy_wh, told)
    for session in sessions:
        if session["state"] == "unresolved" and session["settlement_seq"] is None:
            yield "listed_without_record", f"{session['id']}: {session['payment']}"


def _told(behind: Sequence[str], energy_wh: int, told: dict[str, int]) -> Iterator[tuple[str, str]]:
    bound = resolution_wh(1) + 2 * METER_STEP_WH
    if energy_wh <= bound:
        return
    words = [told[name] for name in behind if name in told]
    if not words or abs(max(words) - energy_wh) > bound:
        who = ", ".join(behind)
        yield "unmeasured_not_told", f"{energy_wh} Wh behind {who}, and records of {words}"
