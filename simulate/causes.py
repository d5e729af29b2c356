"""The cause rule: whatever does not end as it usually does needs something in that world that explains it, at
that terminal and after the session began. And when everything works again, nothing is left that could be
settled by asking or by trying again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hil.terminal.cards import CARDS
from simulate.chronicle import Story
from simulate.doubt import (
    IN_DOUBT,
    MINUTE_MS,
    UNCLEAR,
    Asked,
    can_hide,
    had_to_be_told,
    open_hold,
    tells,
)
from simulate.till import SimTerminal
from simulate.troubles import Trouble
from simulate.world import World

# Trouble is felt a while longer: a host that answers late (T4 of PA00P015 is three minutes, a slow host here
# needs 64 s), a link that is made anew, a question that is asked again after a minute.
AFTER_MS = 90_000
# A question to a terminal that cannot tell is asked again after a minute, a command tried again after one.
LATE_MS = MINUTE_MS + 30_000
# Tries a minute apart; what has had more is tried by the hour, or by the day (design §2 rule 5).
BY_MINUTE = 5
# How often an outcome that stayed unknown is asked for.
HOUR_MS = 60 * MINUTE_MS
# Who is billed, and who pays nothing; simulate.service looks whether he was to have energy.
USUAL = ("captured", "released", "cancelled")
DUE = ("capture_due", "release_due")
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
        asked = _asked(world, session, sessions)
        if asked is None:
            continue  # it died before it could tell anything: its kill is the cause
        terminal, story = asked.terminal, asked.story
        found = _troubles(world, session, story)
        kinds = ", ".join(sorted({t.kind for t in found})) or "nothing"
        word = session["payment"]
        name = f"{session['id']} is {session['state']} ({word})"
        waits = word == "away" and _unclear_at(terminal, sessions)
        if not waits and not _explained(asked, found):
            yield "no_cause", f"{name}, and {kinds} went wrong at {terminal.name}: {session['why']}"
        left = "" if session["state"] == "closed" else _left(asked)
        if left:
            yield "left_over", f"{name}: {left}"


def open_questions(world: World, sessions: list[dict[str, Any]]) -> bool:
    """Somebody is listed as unknown, and his terminal could tell: it has an hour to be asked."""
    unknown = [s for s in sessions if (s["state"], s["payment"]) == ("unresolved", "unknown")]
    asked = [_asked(world, session, sessions) for session in unknown]
    return any(tells(each) for each in asked if each is not None)


def _asked(world: World, session: dict[str, Any], sessions: list[dict[str, Any]]) -> Asked | None:
    story = world.chronicle.story(session["id"])
    terminal = next(t for t in world.terminals if t.name == session["terminal"])
    others = [s for s in sessions if s is not session]
    return None if story is None else Asked(world, session, story, terminal, others)


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


def _explained(asked: Asked, found: list[Trouble]) -> bool:
    session, terminal = asked.session, asked.terminal
    word, closed = session["payment"], session["state"] == "closed"
    if closed and word in USUAL:
        return True
    if word == "unknown":
        return can_hide(asked, found)
    money = [t for t in found if t.where or _cuts_a_dialogue(asked.story, t)]
    if word == "refused" and closed:
        return session["refusal"].get("code") in CARD_CODES or bool(money)
    if word == "refused":
        return any(t.kind.startswith(REFUSALS) for t in money)
    if word == "away":
        made_at = session["hold"].get("terminal_id")
        here = (terminal.acquirer.memory.tid, _last_heard(asked.world, terminal))
        return bool(made_at) and here != (made_at, made_at)
    if word == "foreign":
        strange = {(tid, receipt) for tid, _, receipt, _ in terminal.strange}
        hold = session["hold"]
        return (hold.get("terminal_id"), hold.get("receipt")) in strange or bool(money)
    # What fails is longer on its schedule than any world.
    return word != "failed" and bool(money)


def _last_heard(world: World, terminal: SimTerminal) -> str:
    """Which device the agent has met last. One that was exchanged behind a quiet cable is met at the next
    link."""
    met = [
        line["tid"]
        for line in world.logs
        if line["event"] == "terminal_connected" and line["terminal"] == terminal.name
    ]
    return str(met[-1]) if met else ""


def _cuts_a_dialogue(story: Story, trouble: Trouble) -> bool:
    if not trouble.kind.startswith(OF_THE_BOARD):
        return False
    return trouble.kind.startswith("disk") or story.state_at(trouble.from_ms) in SAID


# --- What is left ---------------------------------------------------------------------------------


def _left(asked: Asked) -> str:
    """Why it should have gone on by now; empty when it need not."""
    world, session, terminal = asked.world, asked.session, asked.terminal
    state, word = session["state"], session["payment"]
    if terminal.strange:
        return ""  # whose is whose, only a person can tell
    waited_ms = world.time.ms - max(asked.story.steps[-1].at_ms, world.peace_ms)
    if state in DUE:
        tries = len(asked.story.entered(*DUE))
        bound_ms = LATE_MS if tries <= BY_MINUTE else HOUR_MS + LATE_MS
        return f"{tries} tries, none for {waited_ms // 1000} s" if waited_ms > bound_ms else ""
    if word == "away" and waited_ms > HOUR_MS + LATE_MS and open_hold(session, terminal):
        return f"the terminal that has its hold is back for {waited_ms // 1000} s"
    known = tells(asked) if word == "unknown" or state in IN_DOUBT else ""
    if not known:
        return ""
    if waited_ms > (LATE_MS if state in IN_DOUBT else HOUR_MS + LATE_MS):
        return f"{known} for {waited_ms // 1000} s"
    if state == "unresolved" and had_to_be_told(asked):
        return f"{known}, and nobody has acted on it"
    return ""
