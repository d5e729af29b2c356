"""What is unknown must be unknowable: whether a terminal could tell how a dialogue of a session has ended,
and what can keep it from that. That the agent died is no reason: the terminal is asked when it is back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from hil.terminal.store import Hold, Memory
from simulate.chronicle import Story
from simulate.till import SimTerminal
from simulate.troubles import Trouble
from simulate.world import World

MINUTE_MS = 60_000
# So long the station waits for a terminal that cannot tell of a hold, before it lists it.
LISTED_AFTER_MS = 10 * MINUTE_MS
UNCLEAR = ("capture_unclear", "release_unclear", "hold_unclear")
# Its session still runs, or waits for nothing else than the word on its raise.
IN_DOUBT = frozenset({*UNCLEAR, "raise_open"})
HOLD, RAISE, END = "hold", "raise", "end"
# Words that a raise ends by, whichever they are.
RAISE_ENDS = ("raised", "raise_found", "raise_absent", "raise_failed")
# It answers late, or not to this command, and tells when it is asked.
TELLS = ("terminal_slow", "terminal_loses", "host_slow")
# The last result is a no: of a raise, it may be the raise's or another's.
SAYS_NO = ("refused", "host_offline")


class Asked(NamedTuple):
    """A session in doubt and where it is asked about."""

    world: World
    session: dict[str, Any]
    story: Story
    terminal: SimTerminal
    others: list[dict[str, Any]]


def question(session: dict[str, Any]) -> str:
    """What is not known of it."""
    names = [event["name"] for event in session["events"]]
    if "held" not in names and "hold_found" not in names:
        return HOLD
    raises = [name for name in names if name.startswith("raise")]
    return RAISE if raises and raises[-1] not in RAISE_ENDS else END


def can_hide(asked: Asked, found: Iterable[Trouble]) -> bool:
    """Something of this may have kept it from being told for as long as it could be: a terminal that is gone
    or silent, that was exchanged, or whose last result is another one."""
    harmless = TELLS if question(asked.session) == RAISE else (*TELLS, *SAYS_NO)
    if any(t.where and not t.kind.startswith(harmless) for t in found):
        return True
    return _day_ended(asked) or _taken_back(asked) or disputed(asked)


def tells(asked: Asked) -> str:
    """What the device that is there knows, if it knows how the dialogue has ended; else empty."""
    memory = asked.terminal.acquirer.memory
    made_at = asked.session["events"][0]["data"].get("terminal_id")
    if asked.terminal.strange or disputed(asked) or made_at not in (None, memory.tid):
        return ""  # whose is whose, only a person can tell
    hold = open_hold(asked.session, asked.terminal)
    what = question(asked.session)
    if what == HOLD and hold is None:
        return _of_nobody(asked, memory)
    if hold is None:
        return ""
    if what == RAISE and not _tells_of_raise(asked, memory, hold):
        return ""
    return f"the terminal lists its hold {hold.receipt} as open"


def had_to_be_told(asked: Asked) -> bool:
    """It was listed after its terminal was there, and works, and knew."""
    listed_ms, where = asked.story.settled_ms, asked.terminal.name
    before = list(asked.world.troubles.during(listed_ms - LISTED_AFTER_MS, listed_ms, where))
    away = any(
        t.to_ms - t.from_ms >= LISTED_AFTER_MS - MINUTE_MS and not t.kind.startswith(TELLS)
        for t in before
    )
    return not away and not any(t.kind == "terminal_replaced" for t in before)


def open_hold(session: dict[str, Any], terminal: SimTerminal) -> Hold | None:
    """Its hold, where the device that is there now has it and it is open."""
    known = session["hold"] or {}
    for hold in terminal.acquirer.memory.holds:
        ours = (known.get("terminal_id"), known.get("receipt"), known.get("trace"))
        if ours == (hold.tid, hold.receipt, hold.trace):
            return hold
    return None


def disputed(asked: Asked) -> bool:
    """Another device has given the same number: whose it is cannot be told by asking."""
    receipt = (asked.session["hold"] or {}).get("receipt")
    memories = [*asked.terminal.former, asked.terminal.acquirer.memory]
    return len([m for m in memories if any(h.receipt == receipt for h in m.holds)]) > 1


def _of_nobody(asked: Asked, memory: Memory) -> str:
    """Of a hold whose answer was never heard: it is not there, or it is the last that was made there."""
    if asked.session["hold"]:
        return ""  # it was heard, and is gone since: that is another question
    explained = {
        (s["hold"].get("terminal_id"), s["hold"].get("receipt"), s["hold"].get("trace"))
        for s in asked.others
        if s["hold"]
    }
    left = [h for h in memory.holds if (h.tid, h.receipt, h.trace) not in explained]
    if not left:
        return "the terminal lists no hold that may be its"
    newest = _repeated(memory)
    asked_before = asked.session["events"][0]["data"].get("last") is not None
    if len(left) == 1 and asked_before and newest is not None and newest.key == left[0].key:
        return f"the last result of the terminal is hold {newest.receipt}"
    return ""


def _tells_of_raise(asked: Asked, memory: Memory, hold: Hold) -> bool:
    """The last result is the hold's own, or was there before the raise was ordered: nothing came after it."""
    newest = _repeated(memory)
    if newest is not None and newest.key == hold.key:
        return True
    return asked.terminal.acquirer.last_ms < _ordered_ms(asked)


def _repeated(memory: Memory) -> Hold | None:
    """The hold that the last result is about, where that is a transaction."""
    last = memory.last
    return None if last is None or last.result != memory.last_result else last.hold


def _ordered_ms(asked: Asked) -> int:
    """When the raise was ordered that is in doubt."""
    stamp = [e for e in asked.session["events"] if e["name"] == "raise"][-1]["stamp"]
    boot, boot_ms = int(stamp["boot_id"].removeprefix("boot-")), int(stamp["boot_ms"])
    return asked.world.booted[boot - 1] + boot_ms


def _taken_back(asked: Asked) -> bool:
    """Its approval was stored, and the terminal never heard so: the hold is gone, and a terminal that tells
    its last result only does not say by what (design §2 rule 2)."""
    known = asked.session["hold"] or {}
    return any(
        row["kind"] == "auto_reversal"
        and row["reverses"] == "hold"
        and (row["tid"], row["trace"]) == (known.get("terminal_id"), known.get("trace"))
        for row in asked.terminal.acquirer.booked
    )


def _day_ended(asked: Asked) -> bool:
    """A batch was closed meanwhile: what a terminal repeats is a payment of it no more."""
    acquirer, story = asked.terminal.acquirer, asked.story
    booked = zip(acquirer.booked, acquirer.booked_ms, strict=True)
    return any(
        row["kind"] == "end_of_day" and story.began_ms <= at_ms <= story.settled_ms
        for row, at_ms in booked
    )
