"""The state table as a page for people: `python -m agent.session.diagram > docs/session.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from agent.session import table
from agent.session.deadlines import Policy, deadlines
from agent.session.events import E
from agent.session.session import Session
from agent.session.states import FINAL, MEANING, OCCUPIES_EVSE, OWED, S, energy_allowed
from agent.session.table import TABLE, TABLE_VERSION, Row
from agent.values import Quality, Stamp

COMMAND = "python -m agent.session.diagram > docs/session.md"
INTRODUCTION = f"""\
# The session

<!-- Made by `{COMMAND}`; a test keeps it equal to the table. -->

A session is the fold of its stored events. Each event is decided by one table
(`agent/session/table.py`, version {TABLE_VERSION}) and by nothing else: what the table does not name in a
state is refused there and changes nothing. A state implies what it still **owes** to the world, so
after a restart the state alone says what to do next. No command that moves money follows from a
restart: it leads into a state that asks the terminal first.

In the pictures an edge is an event; `[...]` is its guard (explained below), `[else]` what happens when
no guard before it holds. Events that leave a session in its state stand in a table of their own.
"""
PICTURES: tuple[tuple[str, str, Sequence[Row]], ...] = (
    (
        "From the tap to a hold",
        "What the card terminal is asked for before any energy.",
        table.HOLD,
    ),
    ("Energy", "From the begin reading to the priced session.", table.ENERGY),
    (
        "Raising the hold",
        "Runs beside these states while energy flows under the old limit; only a session that has ended"
        " waits for its outcome, because a wrong total would be charged wrongly.",
        table.RAISE,
    ),
    (
        "Settlement",
        "One capture or one release, and what happens when its outcome is not known.",
        table.SETTLEMENT,
    ),
    (
        "Listed for a person",
        "What cannot end at the terminal that is there, and how a person takes it off the list.",
        table.LISTED,
    ),
)


SET_ASIDE = f"""\
## Set aside

A session that was salvaged from a damaged ledger, or that this version's table does not lead to its stored
state, is listed and left alone. `{E.CLOSED_UNREAD}`, the word of a person, leads it from any state to
`{S.CLOSED}`; nothing is sent.
"""
_ORDER = {state: n for n, state in enumerate(S)}


def words(name: str) -> str:
    return name.replace("_", " ")


def guard(row: Row, rows: Sequence[Row] = TABLE) -> str:
    """The guard of a row in words; "else" behind guarded rows of the same event and state."""
    if row.when is not None:
        return words(row.when.__name__)
    others = [r for r in rows if (r.event, r.source) == (row.event, row.source) and r.when]
    return "else" if others else ""


def label(row: Row) -> str:
    said = guard(row)
    return f"{row.event} [{said}]" if said else str(row.event)


def picture(rows: Iterable[Row]) -> str:
    """A mermaid state diagram without the rows that stay where they are."""
    edges: dict[tuple[S, S], list[str]] = {}
    for row in rows:
        if row.source is not row.dest:
            edges.setdefault((row.source, row.dest), []).append(label(row))
    lines = ["```mermaid", "stateDiagram-v2"]
    for (source, dest), labels in edges.items():
        start = "[*]" if source is S.NEW else source
        lines.append(f"    {start} --> {dest}: {'<br/>'.join(labels)}")
        if dest in FINAL:
            lines.append(f"    {dest} --> [*]")
    return "\n".join([*lines, "```"])


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def states() -> str:
    def after_restart(state: S) -> str:
        found = [r for r in TABLE if r.event is E.RESTARTED and r.source is state]
        return ", ".join(f"{r.dest} [{said}]" if (said := guard(r)) else r.dest for r in found)

    def by_itself(state: S) -> str:
        held_at = Stamp(0, 0, "", Quality.UNKNOWN)
        due = deadlines(Session("", state=state, held_at=held_at), Policy(1, 1))
        return ", ".join(dict.fromkeys(str(d.event) for d in due))

    return grid(
        ["state", "meaning", "owes", "energy", "keeps the connector", "in time", "after a restart"],
        [
            [
                f"`{state}`",
                MEANING[state],
                words(OWED[state]) if state in OWED else "",
                "released" if energy_allowed(state) else "",
                "yes" if state in OCCUPIES_EVSE else "",
                by_itself(state),
                after_restart(state),
            ]
            for state in S
        ],
    )


def transitions(rows: Iterable[Row]) -> str:
    return grid(
        ["state", "event", "guard", "leads to", "does"],
        [
            [f"`{r.source}`", r.event, guard(r), f"`{r.dest}`", words(r.do.__name__)]
            for r in sorted(rows, key=lambda r: _ORDER[r.source])
        ],
    )


def stays(rows: Iterable[Row]) -> str:
    found: dict[tuple[E, str, str], list[str]] = {}
    for row in sorted(rows, key=lambda r: (r.event, _ORDER[r.source])):
        key = (row.event, guard(row), words(row.do.__name__))
        found.setdefault(key, []).append(f"`{row.source}`")
    return grid(
        ["event", "guard", "in the states", "does"],
        [[event, said, ", ".join(where), do] for (event, said, do), where in found.items()],
    )


def guards() -> str:
    used = {row.when.__name__: row.when for row in TABLE if row.when is not None}
    return grid(
        ["guard", "holds when"],
        [[words(name), " ".join((used[name].__doc__ or "").split())] for name in sorted(used)],
    )


def document() -> str:
    moving = [r for r in TABLE if r.source is not r.dest]
    staying = [r for r in TABLE if r.source is r.dest]
    parts = [INTRODUCTION, "## States\n", states(), ""]
    for title, line, rows in PICTURES:
        parts += [f"## {title}\n", f"{line}\n", picture(rows), ""]
    parts += [SET_ASIDE]
    parts += ["## Guards\n", guards(), ""]
    parts += ["## Every row that moves a session\n"]
    parts += [
        "Rows of one event in one state are tried from top to bottom.\n",
        transitions(moving),
        "",
    ]
    parts += ["## Every row that leaves a session in its state\n", stays(staying)]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
