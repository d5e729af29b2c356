"""(a) The acquirer's ledger by itself, and against what the agent says about each hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hil.verify.evidence import NOTE, Evidence, Finding, Movement

ENDS = ("capture", "release", "auto_reversal", "reversal", "expiry")
# Taking these back touches no hold.
NO_HOLD = ("payment", "refund")
# How a person takes a session off the list, and the events that say so.
BY_HAND = ("paid", "written_off")
CLOSING_EVENTS = {"closed_by_hand", "closed_unread"}
# Closes a batch; its totals are the reconciliation's business.
NO_MOVEMENT = ("end_of_day",)


@dataclass(slots=True)
class Hold:
    """A hold and everything that was booked on it. `raises`: increments that were not taken back."""

    start: Movement
    ends: list[Movement] = field(default_factory=list)
    raises: list[Movement] = field(default_factory=list)

    @property
    def amount_minor(self) -> int:
        return self.start.amount_minor + sum(each.amount_minor for each in self.raises)

    @property
    def captured_minor(self) -> int:
        """What the card is charged in the end."""
        charged = sum(end.amount_minor for end in self.ends if end.kind == "capture")
        return charged - sum(end.amount_minor for end in self.ends if end.kind == "reversal")

    def add(self, movement: Movement) -> None:
        if movement.kind == "increment":
            self.raises.append(movement)
        elif movement.reverses == "increment":
            self.raises = [each for each in self.raises if each.trace != movement.trace]
        elif movement.kind == "auto_reversal" and movement.reverses in ("capture", "release"):
            # The terminal undid its last end by itself: the hold is open again.
            self.ends = [each for each in self.ends if each.trace != movement.trace]
        else:
            self.ends.append(movement)

    @property
    def taken_back(self) -> bool:
        return bool(self.ends) and all(end.kind == "auto_reversal" for end in self.ends)


def check_acquirer(evidence: Evidence) -> Iterator[Finding]:
    holds, orphans = group(evidence.movements)
    for movement in orphans:
        yield Finding("movement_without_hold", movement.name, "no hold of this receipt before it")
    matched = [(hold, _sessions_of(hold, evidence.sessions)) for hold in holds]
    for hold, sessions in matched:
        yield from _check_hold(hold)
        if len(sessions) > 1:
            ids = ", ".join(str(s["id"]) for s in sessions)
            yield Finding("hold_shared", hold.start.name, f"claimed by sessions {ids}")
        if not sessions:
            yield from _unknown_hold(hold)
        for session in sessions:
            yield from _compare(hold, session)
    claimed = {str(s["id"]) for _, sessions in matched for s in sessions}
    for session in evidence.sessions:
        if session["held_minor"] and str(session["id"]) not in claimed:
            yield Finding(
                "session_without_hold",
                str(session["id"]),
                f"says {session['held_minor']} held; the acquirer knows no such hold",
            )


def group(movements: Iterable[Movement]) -> tuple[list[Hold], list[Movement]]:
    """Holds with their ends, in order. A receipt number is reused, so an end belongs to the latest
    hold of its number at that terminal."""
    holds: list[Hold] = []
    latest: dict[tuple[str, int], Hold] = {}
    orphans = []
    for movement in movements:
        key = (movement.tid, movement.hold_receipt)
        if movement.kind == "hold":
            latest[key] = Hold(movement)
            holds.append(latest[key])
        elif (
            movement.kind in (*ENDS, "increment")
            and movement.reverses not in NO_HOLD
            and key in latest
        ):
            latest[key].add(movement)
        elif movement.kind not in NO_MOVEMENT:
            orphans.append(movement)
    return holds, orphans


def _check_hold(hold: Hold) -> Iterator[Finding]:
    start, name = hold.start, hold.start.name
    final = [end for end in hold.ends if end.kind != "reversal"]
    if len(final) > 1:
        what = ", ".join(f"{end.kind} {end.amount_minor}" for end in final)
        yield Finding("hold_ended_twice", name, f"ended {len(final)} times: {what}")
    if hold.captured_minor > hold.amount_minor:
        text = f"captured {hold.captured_minor} of {hold.amount_minor}"
        yield Finding("captured_over_held", name, text)
    for end in final:
        if end.currency != start.currency:
            yield Finding("currency_differs", name, f"{start.currency}, ended in {end.currency}")
        back = end.released_minor if end.kind == "capture" else end.amount_minor
        captured = end.amount_minor if end.kind == "capture" else 0
        if back is None or captured + back != hold.amount_minor:
            text = f"{end.kind}: {captured} captured and {back} released of {hold.amount_minor}"
            yield Finding("split_differs", name, text)


def _unknown_hold(hold: Hold) -> Iterator[Finding]:
    name = hold.start.name
    if hold.taken_back:
        text = "taken back by the terminal itself; no session knows it"
        yield Finding("hold_taken_back", name, text, NOTE)
    else:
        how = hold.ends[0].kind if hold.ends else "still open"
        yield Finding("hold_without_session", name, f"no session knows it ({how})")


def _compare(hold: Hold, session: dict[str, Any]) -> Iterator[Finding]:
    where, start = str(session["id"]), hold.start
    if hold.taken_back and session["payment"] == "not_held":
        # The agent had the approval, its answer got lost, and the terminal undid it: nothing was held.
        if session["held_minor"] or session["captured_minor"]:
            yield Finding("held_differs", where, "says it was not held, and names amounts")
        return
    if session["currency"] != start.currency:
        yield Finding("currency_differs", where, f"{session['currency']}, held in {start.currency}")
    if session["held_minor"] != hold.amount_minor:
        text = f"agent says {session['held_minor']}, acquirer {hold.amount_minor}"
        yield Finding("held_differs", where, text)
    closed = session["state"] == "closed"
    if closed and _by_hand(session):
        yield from _as_a_person_said(hold, session)
        return
    if not hold.ends:
        if closed:
            yield Finding("hold_open", where, f"{start.name} never ended, the session is closed")
        return
    if not closed:
        return  # the agent still works on it, and lists it
    captured = hold.captured_minor
    if session["captured_minor"] != captured:
        text = f"agent says {session['captured_minor']}, acquirer {captured}"
        yield Finding("captured_differs", where, text)
    released = hold.amount_minor - captured
    if session["released_minor"] != released:
        text = f"agent says {session['released_minor']}, acquirer {released}"
        yield Finding("released_differs", where, text)


def _by_hand(session: dict[str, Any]) -> bool:
    """A person's word ended it, as one of its events; the word alone could stand there for another reason."""
    names = {event["name"] for event in session.get("events", ())}
    return session["payment"] in BY_HAND and bool(names & CLOSING_EVENTS)


def _as_a_person_said(hold: Hold, session: dict[str, Any]) -> Iterator[Finding]:
    """What became of the hold is the person's affair: named, and no fault of the station. That the station
    claims to have moved what the acquirer does not know would be one."""
    where = str(session["id"])
    if hold.ends:
        freed = hold.amount_minor - hold.captured_minor
        became = f"{hold.captured_minor} captured and {freed} released"
    else:
        became = "still open"
    word = f"closed by hand as {session['payment']}: {session.get('why') or 'no reason given'}"
    yield Finding("closed_by_hand", where, f"{hold.start.name} is {became}; {word}", NOTE)
    captured = hold.captured_minor
    if session["captured_minor"] > captured:
        text = f"agent says {session['captured_minor']}, acquirer {captured}"
        yield Finding("captured_differs", where, text)
    released = hold.amount_minor - captured if hold.ends else 0
    if session["released_minor"] > released:
        text = f"agent says {session['released_minor']}, acquirer {released}"
        yield Finding("released_differs", where, text)


def _sessions_of(hold: Hold, sessions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By terminal, batch, receipt and trace together; what a terminal does not tell matches anything."""
    start = hold.start
    seen = {
        "terminal_id": start.tid,
        "receipt": start.receipt,
        "turnover": start.turnover,
        "trace": start.trace,
    }
    found = []
    for session in sessions:
        known = session.get("hold") or {}
        if known.get("receipt") is not None and all(
            known.get(key) in (None, value) for key, value in seen.items()
        ):
            found.append(session)
    return found
