"""The judge of time: what follows at once has to follow at once, what is tried again has its schedule, and a
terminal that is left alone is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from simulate.causes import BY_MINUTE, DUE, HOUR_MS
from simulate.chronicle import Story
from simulate.doubt import MINUTE_MS
from simulate.links import given_up
from simulate.till import SimTerminal
from simulate.world import World

# From the moment at which it is clear what is to be charged or released, until it stands at the acquirer: two
# equal readings, a record, a card read that is called off, and a dialogue; twice that where others wait.
PROMPT_MS = 25_000
# What went wrong so long before is over: links are up, questions are answered.
SETTLED_MS = 30_000
# The same when something was in the way: from its end on, T4 of PA00P015 where a terminal has restarted
# behind a quiet cable, a new link, a question and the try that follows it, each after a minute.
RECOVERED_MS = 180_000 + 150_000
# A day that is being ended makes everybody wait.
DAY_MS = 60_000
# A plug that goes is seen after two rounds of the bus.
SEEN_MS = 4_000
# Between its step into one of these and the next a session has the terminal.
IN_DIALOGUE = frozenset({"authorizing", "capturing", "releasing"})
CONNECTION_MS = 30_000  # connection_timeout_s of simulate.place
HOLD_MS = 23 * HOUR_MS  # valid_h less the hour that a capture may take
# A deadline is a timer of the event loop; what it orders waits for nobody.
TIMER_SLACK_MS = 3_000
# A step on a stalled disk is stored so much later than it happened: a flush may take six seconds.
STORED_MS = 15_000
# Questions for one session that cannot be told come a minute apart, and each asks the last result once; a
# link that is made anew asks, too. More in an hour is more than one chain of questions.
ASKS_AN_HOUR = 75


class Ended(NamedTuple):
    """A hold at the acquirer, and what ended it."""

    held_ms: int
    ended_ms: int
    kind: str


def check_promptness(world: World, sessions: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for session in sessions:
        story = world.chronicle.story(session["id"])
        if story is None or not story.whole:
            continue
        terminal = next(t for t in world.terminals if t.name == session["terminal"])
        yield from _schedule(world, session, story)
        yield from _too_early(world, session, story)
        ended = _ended(session, terminal)
        if ended is not None:
            due = _due_ms(world, session, story, ended)
            others = _others(world, sessions, session)
            late = due is not None and _late(
                world, story, terminal, _free_ms(others, due, ended), ended
            )
            if late:
                yield "late", f"{session['id']}: {late}"
    yield from _asked(world, sessions)


def _others(world: World, sessions: list[dict[str, Any]], session: dict[str, Any]) -> list[Story]:
    """The other sessions of its terminal."""
    names = [s["id"] for s in sessions if s["terminal"] == session["terminal"] and s is not session]
    return [story for name in names if (story := world.chronicle.story(name)) is not None]


def _ended(session: dict[str, Any], terminal: SimTerminal) -> Ended | None:
    known = session["hold"] or {}
    held_ms = None
    acquirer = terminal.acquirer
    for row, at_ms in zip(acquirer.booked, acquirer.booked_ms, strict=True):
        if row["tid"] != known.get("terminal_id"):
            continue
        if row["kind"] == "hold" and row["trace"] == known.get("trace"):
            held_ms = at_ms
            continue
        same = row["hold_receipt"] == known.get("receipt")
        if held_ms is not None and same and row["kind"] in ("capture", "release"):
            return Ended(held_ms, at_ms, row["kind"])
    return None


def _due_ms(world: World, session: dict[str, Any], story: Story, ended: Ended) -> int | None:
    """From when on nothing but the end of the hold was left to do."""
    stopping = story.entered("stopping")
    releasing = story.entered("releasing")
    found = [*stopping[:1], *releasing[:1]]
    connector = next(
        (n for n, c in enumerate(world.charger.connectors) if c.name == session["evse"]), None
    )
    begun = story.entered("starting")
    if connector is not None and begun:
        left = world.chronicle.unplugged_between(connector, begun[0], ended.ended_ms)
        found += [left[0].at_ms + SEEN_MS] if left else []
    if len(world.charger.connectors) == 1 and not begun:
        plugs = world.chronicle.plugs[0]
        there = any(p.plugged and p.at_ms <= ended.ended_ms for p in plugs) and not all(
            p.at_ms < ended.held_ms for p in plugs
        )
        if not there and not (plugs and plugs[-1].plugged):
            found.append(ended.held_ms + CONNECTION_MS)
    return min(found, default=None)


def _late(world: World, story: Story, terminal: SimTerminal, due_ms: int, ended: Ended) -> str:
    prompt_ms = PROMPT_MS + (DAY_MS if world.place.variant.ends_days else 0)
    took_ms = ended.ended_ms - due_ms
    if took_ms <= prompt_ms:
        return ""
    text = f"its {ended.kind} came {took_ms // 1000} s after it was due"
    before_ms = due_ms - SETTLED_MS
    if not any(world.troubles.during(before_ms, ended.ended_ms, terminal.name)):
        links = given_up(world, terminal.name, due_ms, ended.ended_ms)
        if not links:
            return text
        # What waited for that terminal is a try that failed with it: the next one comes a minute later.
        failed = any(abs(at_ms - links[-1]) <= TIMER_SLACK_MS for at_ms in story.entered(*DUE))
        prompt_ms += MINUTE_MS if failed else 0
        return "" if ended.ended_ms - links[-1] <= prompt_ms else text
    asked = sum(step.event == "still_open" and step.state not in DUE for step in story.steps)
    if asked + len(story.entered(*DUE)) > BY_MINUTE:
        return ""  # by the hour, see _schedule
    found = list(world.troubles.during(due_ms, ended.ended_ms, terminal.name))
    since_ms = ended.ended_ms - max([due_ms, *(t.to_ms for t in found)])
    return f"{text}, {since_ms // 1000} s after all worked again" if since_ms > RECOVERED_MS else ""


def _free_ms(stories: list[Story], due_ms: int, ended: Ended) -> int:
    """Until when their terminal was in a dialogue that one of these sessions had begun before: one that broke
    keeps it for T4. That session is asked whether it came late, too."""
    free_ms = due_ms
    for story in stories:
        for step, then in zip(story.steps, story.steps[1:], strict=False):
            if step.state in IN_DIALOGUE and step.at_ms < due_ms < then.at_ms <= ended.ended_ms:
                free_ms = max(free_ms, then.at_ms)
    return free_ms


# --- The schedule ---------------------------------------------------------------------------------


def _schedule(world: World, session: dict[str, Any], story: Story) -> Iterator[tuple[str, str]]:
    """Tries of what was not done: five a minute apart, then by the hour, for a day."""
    tries = 0
    for due, after in zip(story.steps, story.steps[1:], strict=False):
        # Asked, not executed, and sent again at once: that one was a try as well.
        tries += due.event == "still_open" and due.state not in DUE
        if due.state not in DUE or due.event == "restarted":
            continue
        tries += 1
        if after.event != "retry_due":
            continue
        wanted_ms = MINUTE_MS if tries <= BY_MINUTE else HOUR_MS
        waited_ms = after.at_ms - due.at_ms
        # The wait counts from before the last step was stored, and ends when the next one is.
        since_ms, hurt = due.at_ms - STORED_MS, ("outage", "disk_stall")
        if any(t.kind in hurt for t in world.troubles.during(since_ms, after.at_ms)):
            continue
        if abs(waited_ms - wanted_ms) > TIMER_SLACK_MS:
            text = f"try {tries + 1} came after {waited_ms // 1000} s, not {wanted_ms // 1000}"
            yield "off_schedule", f"{session['id']}: {text}"


def _too_early(world: World, session: dict[str, Any], story: Story) -> Iterator[tuple[str, str]]:
    """Waits that the agent has ended before their time. Across a reboot only the wall clock can tell."""
    waits = {"connection timeout": CONNECTION_MS, "hold expires": HOLD_MS}
    why = {"connection_timeout": "connection timeout"}
    held = story.entered("held", "beginning")
    for step in story.steps:
        reason = why.get(step.event, session["stop_reason"] if step.event == "stop" else "")
        wait_ms = waits.get(reason)
        if wait_ms is None or not held or step.at_ms - held[0] >= wait_ms - TIMER_SLACK_MS:
            continue
        # The wait counts from before the hold was stored on a stalled disk, which is when it is told of.
        since_ms, hurt = held[0] - STORED_MS, ("outage", "disk_stall")
        if not any(t.kind in hurt for t in world.troubles.during(since_ms, step.at_ms)):
            text = f"{reason} after {(step.at_ms - held[0]) // 1000} s, not {wait_ms // 1000}"
            yield "too_early", f"{session['id']}: {text}"


def _asked(world: World, sessions: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """How often a terminal is asked for its last result when nobody is there: in any hour of peace."""
    for name, asked in world.chronicle.asked.items():
        waiting = sum(1 for s in sessions if s["terminal"] == name and s["state"] != "closed")
        most, later = 0, [ms for ms in asked if ms >= world.peace_ms]
        first = 0
        for last, at_ms in enumerate(later):
            while later[first] < at_ms - HOUR_MS:
                first += 1
            most = max(most, last - first + 1)
        if most > ASKS_AN_HOUR * max(1, waiting):
            yield "asks_too_often", f"{name} was asked {most} times in an hour of peace"
