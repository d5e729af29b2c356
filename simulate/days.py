"""The judge of ends of day, and of holds that were made at the terminal by somebody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from hil.verify import Finding
from hil.verify.acquirer import group
from simulate.till import SimTerminal, name_of
from simulate.world import World

# What cannot be told of a hold that the agent has not made: only its receipt is known.
NOT_OURS = ("held_differs", "captured_differs", "released_differs")
# The last column of a batch's totals, as the agent calls it.
NAMES = {"others": "other"}
# The agent's word for an end of day that it has heard to its end.
COMPLETED = "completed by the terminal"
# How an order ended, by its own last word, although the acquirer has closed the batch.
DENIED = ("refused", "not_sent", "not_done")


def strange(world: World, sessions: list[dict[str, Any]], finding: Finding) -> bool:
    """Whether a finding only says that a hold is not this station's."""
    if finding.code in NOT_OURS:
        ours = {s["id"] for s in sessions if not is_foreign(s)}
        return finding.where not in ours and world.has_strange_holds
    names = {"hold " + "/".join(map(str, name)) for t in world.terminals for name in t.strange}
    return finding.code == "hold_without_session" and finding.where in names


def is_foreign(session: dict[str, Any]) -> bool:
    return any(event["name"] == "foreign" for event in session["events"])


def check_days(
    world: World, status: dict[str, Any], sessions: list[dict[str, Any]], disturbed: frozenset[str]
) -> Iterator[tuple[str, str]]:
    """(code, text) of each violation."""
    latest = {day["terminal"]: day for day in status["ends_of_day"]}
    for terminal in world.terminals:
        yield from _wiped(terminal, sessions)
        yield from _closed(world, terminal, latest.get(terminal.name), disturbed)
        told = next(t for t in status["terminals"] if t["id"] == terminal.name)
        yield from _strange(world, terminal, sessions, set(told["strange_holds"]))
    for told in status["terminals"]:
        if told["closing"] and not _blocked(world, told, sessions, latest):
            yield "day_stuck", f"{told['id']} still ends its day ({told['closing']})"


def day_classes(world: World) -> Counter[str]:
    found: Counter[str] = Counter()
    for terminal in world.terminals:
        found["day closed"] += sum(1 for row in terminal.acquirer.booked if _is_day(row))
        found["hold of somebody else"] += len(terminal.strange)
    return +found


def _is_day(row: dict[str, Any]) -> bool:
    return bool(row["kind"] == "end_of_day")


def _wiped(terminal: SimTerminal, sessions: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """No hold is ended by an end of day; but what is listed as owed may be cancelled by it."""
    listed = {
        (s["hold"]["receipt"], s["hold"]["terminal_id"])
        for s in sessions
        if s["hold"] and not is_foreign(s) and (s["state"] == "unresolved" or s["owed_minor"])
    }
    for rows, _ in terminal.acquirer.wiped:
        for row in rows:
            if row["kind"] == "capture" or (row["hold_receipt"], row["tid"]) not in listed:
                text = f"hold {row['hold_receipt']} was open at an end of day: {row['kind']}"
                yield "hold_wiped", f"{text} of {row['amount_minor']}"


def _orders(world: World, name: str) -> list[tuple[int, list[dict[str, Any]]]]:
    """When the agent has begun each, and its steps, by its log."""
    found: list[tuple[int, list[dict[str, Any]]]] = []
    for line in world.logs:
        if line["event"] == "day_end" and line["terminal"] == name:
            if line["step"] == "intent":
                found.append((line["at_ms"], []))
            elif found:
                found[-1][1].append(line)
    return found


def _closed(
    world: World, terminal: SimTerminal, latest: dict[str, Any] | None, disturbed: frozenset[str]
) -> Iterator[tuple[str, str]]:
    """Each batch that the acquirer has closed was ordered once, and is told as it was."""
    orders = _orders(world, terminal.name)
    taken: set[int] = set()
    for row, at_ms in zip(terminal.acquirer.booked, terminal.acquirer.booked_ms, strict=True):
        if not _is_day(row):
            continue
        begun = [n for n, (ms, _) in enumerate(orders) if ms <= at_ms]
        if not begun:
            yield "day_unordered", f"{terminal.name} has closed a batch that nobody has ordered"
            continue
        if begun[-1] in taken:
            yield "day_closed_twice", f"one order has closed two batches of {terminal.name}"
        taken.add(begun[-1])
        steps = orders[begun[-1]][1]
        told = [s["total_minor"] for s in steps if s.get("total_minor") is not None]
        if any(minor != row["amount_minor"] for minor in told):
            yield "day_totals_differ", f"{told} told, {row['amount_minor']} at the acquirer"
        asked_again = steps and any(
            t.kind == "day_due" and t.from_ms > at_ms
            for t in world.troubles.during(at_ms, steps[-1]["at_ms"], terminal.name)
        )  # closed, and due once more before the agent could look
        if steps and steps[-1]["step"] in DENIED and not asked_again:
            yield "day_denied", f"{terminal.name}: {steps[-1]['step']}, but the batch is closed"
        if begun[-1] == len(orders) - 1 and latest is not None:
            yield from _stored(row, latest, disturbed)


def _stored(
    row: dict[str, Any], latest: dict[str, Any], disturbed: frozenset[str]
) -> Iterator[tuple[str, str]]:
    """What the ledger says of the last one."""
    where, totals = latest["terminal"], latest["totals"]
    if totals is None and latest["why"] == COMPLETED:
        yield "day_not_stored", f"{where}: completed, and no totals are kept"
        return
    if latest["outcome"] != "done" or totals is None:
        if not disturbed & {"terminal", "outage", "disk", "clock"}:
            yield "day_not_stored", f"{where}: {latest['outcome']}, totals {totals}"
        return
    told = {b["brand"]: [b["count"], b["amount_minor"]] for b in totals["brands"]}
    true = {NAMES.get(name, name): found for name, found in row["totals"].items() if found[0]}
    if told != true:
        yield "day_totals_differ", f"{where} says {told}, the acquirer {true}"


def _blocked(
    world: World,
    told: dict[str, Any],
    sessions: list[dict[str, Any]],
    latest: dict[str, dict[str, Any]],
) -> bool:
    """Something that a person has to end keeps the day open."""
    here = [s for s in sessions if s["terminal"] == told["id"] and s["state"] != "closed"]
    day = latest.get(told["id"])
    unclear = day is not None and day["outcome"] in ("unknown", "ordered")
    terminal = next(t for t in world.terminals if t.name == told["id"])
    open_ = {name_of(hold) for hold in terminal.holds}
    return bool(here or unclear or open_ & terminal.strange.keys())


def _strange(
    world: World, terminal: SimTerminal, sessions: list[dict[str, Any]], known: set[int]
) -> Iterator[tuple[str, str]]:
    """A hold of somebody else is let alone and listed, or released where the operator says so. `known`:
    receipts that are reported, and no more than that while one of them may be a session's."""
    holds, _ = group(world.movements() if terminal.strange else ())
    listed = known | {s["hold"].get("receipt") for s in sessions if is_foreign(s) and s["hold"]}
    for hold in holds:
        start = hold.start
        made_ms = terminal.strange.get((start.tid, start.turnover, start.receipt, start.trace))
        if made_ms is None:
            continue
        for end in hold.ends:
            if end.kind != "release" or world.place.variant.foreign != "release":
                yield "strange_hold_touched", f"{hold.start.name}: {end.name}"
        seen = any(
            line["event"] in ("terminal_connected", "device_back")
            and line["terminal"] == terminal.name
            and line["at_ms"] > made_ms
            for line in world.logs
            if line["event"] in ("terminal_connected", "device_back") and "terminal" in line
        )
        here = start.tid == terminal.acquirer.memory.tid
        if seen and here and not hold.ends and hold.start.receipt not in listed:
            yield "strange_hold_not_listed", hold.start.name
