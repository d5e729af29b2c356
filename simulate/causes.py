"""The cause rule: whatever does not end as it usually does needs something in that world that explains it, at
that terminal and after the session began. And when everything works again, nothing is left that could be
settled by asking or by trying again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hil.terminal.cards import CARDS
from hil.terminal.store import Hold
from simulate.chronicle import RUNNING, Story
from simulate.till import SimTerminal
from simulate.troubles import Trouble
from simulate.world import World

# Trouble is felt a while longer: a host that answers late (T4 of PA00P015 is three minutes, a slow host here
# needs 64 s), a link that is made anew, a question that is asked again after a minute.
AFTER_MS = 90_000
# A question to a terminal that cannot tell is asked again after a minute, a command tried again after one.
MINUTE_MS = 60_000
LATE_MS = MINUTE_MS + 30_000
# Tries a minute apart; what has had more is tried by the hour, or by the day (design §2 rule 5).
BY_MINUTE = 5
# How often an outcome that stayed unknown is asked for.
HOUR_MS = 60 * MINUTE_MS
# So long the station waits for a terminal that cannot tell of a hold, before it lists it.
LISTED_AFTER_MS = 10 * MINUTE_MS
USUAL = ("captured", "released", "cancelled")
DUE = ("capture_due", "release_due")
UNCLEAR = ("capture_unclear", "release_unclear", "hold_unclear")
# At one of these a dead agent has not heard what became of its command, or may have sent one that it had
# stored and not told of yet.
SAID = frozenset(
    {
        *("", "authorizing", "approved", "held", "beginning", "recording", "raise_open"),
        *("capturing", "releasing", "unresolved", *DUE, *UNCLEAR),
    }
)
# What a terminal says no by.
REFUSALS = ("refused", "host_offline", "terminal_lock", "day_", "down")
OF_THE_BOARD = ("outage", "disk")
CARD_CODES = frozenset(f"{card.result:02x}" for card in CARDS.values() if card.result)


def check_causes(world: World, sessions: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for session in sessions:
        story = world.chronicle.story(session["id"])
        if story is None:
            continue  # it died before it could tell anything: its kill is the cause
        terminal = next(t for t in world.terminals if t.name == session["terminal"])
        found = _troubles(world, session, story)
        kinds = ", ".join(sorted({t.kind for t in found})) or "nothing"
        word = session["payment"]
        name = f"{session['id']} is {session['state']} ({word})"
        waits = word == "away" and _unclear_at(terminal, sessions)
        if not waits and not _explained(world, session, story, terminal, found):
            yield "no_cause", f"{name}, and {kinds} went wrong at {terminal.name}: {session['why']}"
        left = "" if session["state"] == "closed" else _left(world, session, story, terminal)
        if left:
            yield "left_over", f"{name}: {left}"


def _troubles(world: World, session: dict[str, Any], story: Story) -> list[Trouble]:
    """What went wrong at its terminal or on the board, from a while before its tap (what a terminal does not
    answer after that takes three minutes) until it came to where it stands."""
    taps = [t.at_ms for t in world.chronicle.taps if t.where == session["terminal"]]
    began_ms = max((at_ms for at_ms in taps if at_ms <= story.began_ms), default=story.began_ms)
    told = story.steps[-1].state == session["state"]  # else it died right after it had stored that
    until_ms = story.settled_ms if told else world.time.ms
    return list(world.troubles.during(began_ms - AFTER_MS, until_ms, session["terminal"]))


def _unclear_at(terminal: SimTerminal, sessions: list[dict[str, Any]]) -> bool:
    """While another session's hold is in doubt, those of a device that is back are not matched."""
    return any(s["terminal"] == terminal.name and s["state"] in UNCLEAR for s in sessions)


# --- Causes ---------------------------------------------------------------------------------------


def _explained(
    world: World, session: dict[str, Any], story: Story, terminal: SimTerminal,
    found: list[Trouble],
) -> bool:  # fmt: skip
    word, closed = session["payment"], session["state"] == "closed"
    if closed and word in USUAL:
        return True
    money = [t for t in found if t.where or _cuts_a_dialogue(world, story, t)]
    if word == "refused" and closed:
        return session["refusal"].get("code") in CARD_CODES or bool(money)
    if word == "refused":
        return any(t.kind.startswith(REFUSALS) for t in money)
    if word == "away":
        made_at = session["hold"].get("terminal_id")
        here = (terminal.acquirer.memory.tid, _last_heard(world, terminal))
        return bool(made_at) and here != (made_at, made_at)
    if word == "foreign":
        strange = {(tid, receipt) for tid, _, receipt, _ in terminal.strange}
        hold = session["hold"]
        return (hold.get("terminal_id"), hold.get("receipt")) in strange or bool(money)
    if word == "failed":
        return False  # the schedule is longer than any world
    # How much is held is only in doubt while it is being raised.
    return bool(money)


def _last_heard(world: World, terminal: SimTerminal) -> str:
    """Which device the agent has met last. One that was exchanged behind a quiet cable is met at the next
    link."""
    met = [
        line["tid"]
        for line in world.logs
        if line["event"] == "terminal_connected" and line["terminal"] == terminal.name
    ]
    return str(met[-1]) if met else ""


def _cuts_a_dialogue(world: World, story: Story, trouble: Trouble) -> bool:
    if not trouble.kind.startswith(OF_THE_BOARD):
        return False
    raising = world.place.variant.raises
    state = story.state_at(trouble.from_ms)
    lasts = trouble.kind.startswith("disk")
    return lasts or state in SAID or (raising and state in (*RUNNING, "stopping", "ending"))


# --- What is left ---------------------------------------------------------------------------------


def _left(world: World, session: dict[str, Any], story: Story, terminal: SimTerminal) -> str:
    """Why it should have gone on by now; empty when it need not."""
    state, word = session["state"], session["payment"]
    if terminal.strange:
        return ""  # whose is whose, only a person can tell
    waited_ms = world.time.ms - max(story.steps[-1].at_ms, world.peace_ms)
    if state in DUE:
        tries = len(story.entered(*DUE))
        bound_ms = LATE_MS if tries <= BY_MINUTE else HOUR_MS + LATE_MS
        return f"{tries} tries, none for {waited_ms // 1000} s" if waited_ms > bound_ms else ""
    hold = _open_hold(session, terminal)
    if word == "away" and hold is not None and waited_ms > HOUR_MS + LATE_MS:
        return f"the terminal that has its hold is back for {waited_ms // 1000} s"
    asked_ms = LATE_MS if state in UNCLEAR else HOUR_MS + LATE_MS
    if word != "unknown" or waited_ms <= asked_ms or _disputed(world, session):
        if word == "unknown" and hold is not None and _had_to_be_told(world, session, story):
            return f"the terminal lists its hold {hold.receipt} as open, and nobody has acted on it"
        return ""
    if hold is not None:
        return f"the terminal lists its hold {hold.receipt} as open for {waited_ms // 1000} s"
    here = session["events"][0]["data"].get("terminal_id") in (None, terminal.acquirer.memory.tid)
    if (
        state == "unresolved"
        and not session["hold"]
        and here
        and not terminal.acquirer.memory.holds
    ):
        return f"the terminal lists no hold at all for {waited_ms // 1000} s"
    return ""


def _had_to_be_told(world: World, session: dict[str, Any], story: Story) -> bool:
    """It was listed at a moment at which its terminal was there and works, and knew the hold."""
    if session["state"] != "unresolved" or _disputed(world, session):
        return False
    lost_raise = any(e["name"].startswith("raise") for e in session["events"])
    before = list(
        world.troubles.during(
            story.settled_ms - LISTED_AFTER_MS, story.settled_ms, session["terminal"]
        )
    )
    away = any(t.to_ms - t.from_ms >= LISTED_AFTER_MS - MINUTE_MS for t in before)
    replaced = any(t.kind == "terminal_replaced" for t in before)
    return not (lost_raise or away or replaced)


def _open_hold(session: dict[str, Any], terminal: SimTerminal) -> Hold | None:
    """Its hold, where the device that is there now has it and it is open."""
    known = session["hold"] or {}
    for hold in terminal.acquirer.memory.holds:
        ours = (known.get("terminal_id"), known.get("receipt"), known.get("trace"))
        if ours == (hold.tid, hold.receipt, hold.trace):
            return hold
    return None


def _disputed(world: World, session: dict[str, Any]) -> bool:
    """Another device has given the same number: whose it is cannot be told by asking."""
    terminal = next(t for t in world.terminals if t.name == session["terminal"])
    receipt = (session["hold"] or {}).get("receipt")
    memories = [*terminal.former, terminal.acquirer.memory]
    return len([m for m in memories if any(h.receipt == receipt for h in m.holds)]) > 1
