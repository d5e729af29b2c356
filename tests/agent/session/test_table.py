"""Every state against every event. The expectation is written by hand from the rules of money, not read
from the table: a row that is added, lost or bent shows here."""

from dataclasses import replace
from typing import Any

import pytest
from support.session_events import DATA, HOLD, PRICE, RESULT, reach

from agent.session import E, Effect, Event, S, Session, energy_allowed, step
from agent.session.states import BEFORE_ENERGY, FINAL, IN_MOTION, MEANING, OCCUPIES_EVSE, OWED
from agent.session.table import TABLE

# state -> event -> where it may lead, every guard considered. What is not here is refused.
MATRIX: dict[str, dict[str, str]] = {
    "new": {"tapped": "authorizing", "foreign": "unresolved"},
    "authorizing": {
        "approved": "approved",
        "refused": "settled",
        "not_sent": "settled",
        "unclear": "hold_unclear",
        "restarted": "hold_unclear",
        "bound": "authorizing",
        "plugged": "authorizing",
        "unplugged": "authorizing",
        "cancelled": "authorizing",
    },
    "approved": {
        "held": "held beginning releasing",
        "refused": "hold_unclear",
        "not_sent": "hold_unclear",
        "unclear": "hold_unclear",
        "restarted": "hold_unclear",
        "bound": "approved",
        "plugged": "approved",
        "unplugged": "approved",
        "cancelled": "approved",
    },
    "hold_unclear": {
        "hold_found": "held releasing",
        "hold_absent": "settled",
        "vanished": "unresolved",
        "bound": "hold_unclear",
        "plugged": "hold_unclear",
        "unplugged": "hold_unclear",
        "cancelled": "hold_unclear",
        "restarted": "hold_unclear",
    },
    "held": {
        "plugged": "beginning",
        "bound": "held",
        "unplugged": "held",
        "connection_timeout": "releasing",
        "cancelled": "releasing",
        "restarted": "held",
    },
    "beginning": {
        "signing": "beginning",
        "began": "starting",
        "begin_failed": "releasing",
        "unplugged": "releasing",
        "cancelled": "releasing",
        "restarted": "beginning",
    },
    "starting": {
        "energy_flows": "charging",
        "progress": "starting",
        "stop": "stopping",
        "unplugged": "stopping",
        "restarted": "starting stopping",
    },
    "charging": {
        "suspended": "suspended",
        "progress": "charging",
        "stop": "stopping",
        "unplugged": "stopping",
        "restarted": "charging stopping",
    },
    "suspended": {
        "energy_flows": "charging",
        "progress": "suspended",
        "stop": "stopping",
        "unplugged": "stopping",
        "restarted": "suspended stopping",
    },
    "stopping": {
        "progress": "stopping",
        "stopped": "ending",
        "restarted": "stopping",
    },
    "ending": {"ended": "recording raise_open", "restarted": "ending"},
    "raise_open": {
        "raise_approved": "raise_open",
        "raised": "recording raise_open",
        "raise_failed": "recording raise_open",
        "raise_unclear": "raise_open",
        "raise_found": "recording",
        "raise_absent": "recording",
        "vanished": "recording",
        "restarted": "raise_open",
    },
    "recording": {"recorded": "capturing releasing unresolved", "restarted": "recording"},
    "capturing": {
        "evidence": "capturing",
        "settled": "settled unresolved",
        "not_sent": "capture_due capture_unclear",
        "unclear": "capture_unclear",
        "refused": "unresolved capture_unclear",
        "away": "unresolved",
        "restarted": "capture_unclear",
    },
    "capture_due": {
        "retry_due": "capturing",
        "gave_up": "unresolved",
        "away": "unresolved",
        "restarted": "capture_due",
    },
    "capture_unclear": {
        "still_open": "capturing capture_due",
        "confirmed": "settled",
        "vanished": "unresolved",
        "away": "unresolved",
        "restarted": "capture_unclear",
    },
    "releasing": {
        "evidence": "releasing",
        "settled": "settled unresolved",
        "not_sent": "release_due release_unclear unresolved",
        "unclear": "release_unclear",
        "refused": "unresolved release_unclear",
        "away": "unresolved",
        "restarted": "release_unclear",
    },
    "release_due": {
        "retry_due": "releasing",
        "gave_up": "unresolved",
        "away": "unresolved",
        "restarted": "release_due",
    },
    "release_unclear": {
        "still_open": "releasing release_due",
        "confirmed": "settled unresolved",
        "vanished": "unresolved",
        "away": "unresolved",
        "restarted": "release_unclear",
    },
    "settled": {"recorded": "closed", "restarted": "settled"},
    "unresolved": {
        "recorded": "unresolved",
        "hold_found": "releasing",
        "hold_absent": "settled",
        "still_open": "capturing releasing",
        "confirmed": "settled unresolved",
        "raise_found": "capturing",
        "raise_absent": "capturing",
        "vanished": "settled",
        "cancelled": "releasing",
        "free": "releasing",
        "closed_by_hand": "settled",
        "restarted": "unresolved",
    },
    "closed": {"unmeasured": "closed"},
}
# A person's word on a session that was set aside ends it wherever its fold stands.
for _state, _cell in MATRIX.items():
    if _state != "closed":
        _cell["closed_unread"] = "closed"
# Raising the hold runs beside these states.
TOLD_OF_A_RAISE = (
    "raise_approved",
    "raised",
    "raise_failed",
    "raise_unclear",
    "raise_found",
    "raise_absent",
)
for _state in ("starting", "charging", "suspended"):
    MATRIX[_state] |= {"raise": _state}
# A limit binds while energy may still flow.
for _state in (
    *("authorizing", "approved", "hold_unclear", "held"),
    *("beginning", "starting", "charging", "suspended"),
):
    MATRIX[_state] |= {"limited": _state}
for _state in ("starting", "charging", "suspended", "stopping", "ending"):
    MATRIX[_state] |= dict.fromkeys((*TOLD_OF_A_RAISE, "vanished"), _state)

# What a state that has just been entered orders.
ORDERS = {
    "authorizing": "authorize",
    "hold_unclear": "ask_hold",
    "beginning": "meter_begin",
    "ending": "meter_end",
    "recording": "record_session",
    "capturing": "capture",
    "capture_unclear": "ask_capture",
    "releasing": "release",
    "release_unclear": "ask_release",
    "settled": "record_settlement",
    "unresolved": "record_settlement",
}

# Everything that a guard looks at, turned both ways.
SESSION_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"plugged": False},
    {"plugged": True},
    {"plugged": True, "evse": None},
    {"end_quality": "last_durable"},
    {"held_minor": None},
    {"held_minor": 0},
    {"attempts": 0},
    {"attempts": 1},
    {"cost_minor": None, "price": {}},
    {"cost_minor": 0},
    {"cost_minor": 480, "held_minor": 5000, "price": PRICE},
    {"result": RESULT},
    {"booked_minor": 4891, "cost_minor": 109, "held_minor": 5000},
    {"outcome": "unknown", "cost_minor": 480, "held_minor": 5000},
    {"outcome": "unknown", "cost_minor": 0, "held_minor": 5000},
    {"outcome": "unknown", "cost_minor": None},
    {"outcome": "unknown", "hold_doubted": True, "cost_minor": None},
    {"outcome": "refused", "cost_minor": 480},
    {"outcome": "away", "cost_minor": 480, "held_minor": 5000},
    {"outcome": "foreign", "cost_minor": None},
    {"outcome": "foreign", "cost_minor": None, "settlement_seq": 9},
    {"settlement_seq": 9},
    {"outcome": "failed", "settlement_seq": 9, "held_minor": 5000, "hold": HOLD},
    {"freeing": "away", "cost_minor": 480, "held_minor": 5000},
    {"freeing": "away", "cost_minor": 0, "held_minor": 5000},
    {"freeing": "refused", "outcome": "unknown", "cost_minor": 480, "settlement_seq": 9},
    {"accept_partial": False, "held_minor": 4999},
    {"cost_minor": 480, "held_minor": 5000, "least_capture_minor": 481},
    *({"raising": word} for word in ("", "ordered", "approved", "unclear", "lost")),
    {"raising": "approved", "raised_to_minor": 7000},
    {"raise_over": True},
    {"raising": "lost", "cost_minor": 480, "held_minor": 5000},
    {"raising": "lost", "cost_minor": 0, "held_minor": 5000},
)
EVENT_VARIANTS: dict[E, tuple[dict[str, Any], ...]] = {
    E.TAPPED: ({}, {"plugged": False}, {"evse": None}),
    E.APPROVED: ({}, {"approved_minor": None}),
    E.HOLD_FOUND: ({}, {"approved_minor": None}, {"approved_minor": 0}),
    E.REFUSED: ({}, {"reason": "unknown_hold"}),
    E.RAISE: ({}, {"add_minor": 0}),
    E.RAISE_FAILED: ({}, {"again": True}),
    E.RESTARTED: ({}, {"resume": True}),
}
CELLS = [(state, event) for state in S for event in E]


def variants(state: S, event: E) -> list[tuple[Session, Event]]:
    story = reach(state)
    sessions = [replace(story.session, **change) for change in SESSION_VARIANTS]
    changes = EVENT_VARIANTS.get(event, ({},))
    events = [story.event(event, None, change) for change in changes]
    return [(s, e) for s in sessions for e in events]


@pytest.mark.parametrize(("state", "event"), CELLS, ids=[f"{s}-{e}" for s, e in CELLS])
def test_every_state_against_every_event(state: S, event: E) -> None:
    expected = set(MATRIX[state].get(event, "").split())
    seen = set()
    for session, told in variants(state, event):
        before = repr(session)
        result = step(session, told)
        assert repr(session) == before, "a session is replaced, never changed in place"
        if not result.taken:
            assert result.session is session, "a refused event changes nothing"
            assert result.owed is None
            continue
        after = result.session
        seen.add(str(after.state))
        renewed = session.settlement_seq is not None and after.settlement_seq is None
        entered = after.state is not state or renewed  # the list, with another outcome
        assert result.owed == (ORDERS.get(after.state) if entered else None)
        assert after.entered == (told.stamp if entered else session.entered)
    assert seen == expected


def test_the_matrix_names_every_state_and_only_real_events() -> None:
    assert set(MATRIX) == set(S)
    assert set(DATA) == set(E)
    assert {event for row in MATRIX.values() for event in row} == set(E)


# state, event, what differs in the session, what differs in the event -> where to ("" = refused)
GUARDED: list[tuple[S, E, dict[str, Any], dict[str, Any], str]] = [
    # Energy begins with a plug, a connector and an amount, all three.
    (S.APPROVED, E.HELD, {}, {}, "beginning"),
    (S.APPROVED, E.HELD, {"plugged": False}, {}, "held"),
    (S.APPROVED, E.HELD, {"evse": None}, {}, "held"),
    (S.APPROVED, E.HELD, {"held_minor": None}, {}, "releasing"),
    (S.APPROVED, E.HELD, {"held_minor": 0}, {}, "releasing"),
    (S.APPROVED, E.HELD, {"held_minor": None, "plugged": False}, {}, "releasing"),
    (S.HOLD_UNCLEAR, E.HOLD_FOUND, {}, {}, "held"),
    (S.HOLD_UNCLEAR, E.HOLD_FOUND, {}, {"approved_minor": 1}, "held"),
    (S.HOLD_UNCLEAR, E.HOLD_FOUND, {}, {"approved_minor": None}, "releasing"),
    (S.HOLD_UNCLEAR, E.HOLD_FOUND, {}, {"approved_minor": 0}, "releasing"),
    # What the register says later is told once, and only where the bill had an old reading.
    (S.CLOSED, E.UNMEASURED, {}, {}, ""),
    (S.CLOSED, E.UNMEASURED, {"end_quality": "last_durable"}, {}, "closed"),
    (S.CLOSED, E.UNMEASURED, {"end_quality": "last_durable", "unmeasured_seq": 5}, {}, ""),
    # A wish to cancel is remembered once, and nothing begins with it.
    (S.AUTHORIZING, E.CANCELLED, {"cancel_wish": "local"}, {}, ""),
    (S.APPROVED, E.CANCELLED, {"cancel_wish": "local"}, {}, ""),
    (S.HOLD_UNCLEAR, E.CANCELLED, {"cancel_wish": "local"}, {}, ""),
    (S.BEGINNING, E.BEGAN, {"cancel_wish": "local"}, {}, ""),
    (S.BEGINNING, E.CANCELLED, {"cancel_wish": "local"}, {}, "releasing"),
    (S.HELD, E.CANCELLED, {"cancel_wish": "local"}, {}, "releasing"),
    # Less than was asked for: the new limit, or nothing.
    (S.APPROVED, E.HELD, {"held_minor": 4999}, {}, "beginning"),
    (S.APPROVED, E.HELD, {"held_minor": 4999, "accept_partial": False}, {}, "releasing"),
    (S.APPROVED, E.HELD, {"held_minor": 5000, "accept_partial": False}, {}, "beginning"),
    (
        S.HOLD_UNCLEAR,
        E.HOLD_FOUND,
        {"accept_partial": False},
        {"approved_minor": 4999},
        "releasing",
    ),
    (S.HOLD_UNCLEAR, E.HOLD_FOUND, {"accept_partial": False}, {}, "held"),
    (S.HELD, E.PLUGGED, {}, {}, "beginning"),
    (S.HELD, E.PLUGGED, {"evse": None}, {}, ""),
    # Only a plain yes resumes.
    *(
        (state, E.RESTARTED, {}, {"resume": said}, str(state) if said is True else "stopping")
        for state in (S.STARTING, S.CHARGING, S.SUSPENDED)
        for said in (True, False, None, 1, "true")
    ),
    # One end of the hold: capture when there is something to charge, else release.
    (S.RECORDING, E.RECORDED, {"cost_minor": 1}, {}, "capturing"),
    (S.RECORDING, E.RECORDED, {"cost_minor": 0}, {}, "releasing"),
    (S.RECORDING, E.RECORDED, {"cost_minor": 9999}, {}, "capturing"),
    (S.RECORDING, E.RECORDED, {"cost_minor": 480, "held_minor": 0}, {}, "releasing"),
    # The acquirer takes no smaller amount.
    (S.RECORDING, E.RECORDED, {"cost_minor": 49, "least_capture_minor": 50}, {}, "releasing"),
    (S.RECORDING, E.RECORDED, {"cost_minor": 50, "least_capture_minor": 50}, {}, "capturing"),
    # Nothing is charged from a hold whose amount is not known; nothing to charge is released all the same.
    (S.RECORDING, E.RECORDED, {"raising": "lost"}, {}, "unresolved"),
    (S.RECORDING, E.RECORDED, {"raising": "lost", "cost_minor": 0}, {}, "releasing"),
    (S.UNRESOLVED, E.STILL_OPEN, {"raising": "lost"}, {}, ""),
    (S.UNRESOLVED, E.RAISE_FOUND, {"raising": "lost"}, {}, "capturing"),
    (S.UNRESOLVED, E.RAISE_ABSENT, {"raising": "lost"}, {}, "capturing"),
    (S.UNRESOLVED, E.RAISE_FOUND, {}, {}, ""),
    (S.UNRESOLVED, E.RAISE_FOUND, {"raising": "lost", "cost_minor": 0}, {}, ""),
    (S.UNRESOLVED, E.RAISE_ABSENT, {"raising": "lost", "least_capture_minor": 481}, {}, ""),
    (S.RECORDING, E.RECORDED, {"raising": "lost", "least_capture_minor": 481}, {}, "releasing"),
    # One raise at a time, and none after a refusal for good.
    (S.CHARGING, E.RAISE, {}, {}, "charging"),
    (S.CHARGING, E.RAISE, {}, {"add_minor": 0}, ""),
    *(
        (S.CHARGING, E.RAISE, {"raising": w}, {}, "")
        for w in ("ordered", "approved", "unclear", "lost")
    ),
    (S.CHARGING, E.RAISE, {"raise_over": True}, {}, ""),
    # Given up only what is asked, and what was given up may still be told.
    *(
        (S.CHARGING, E.VANISHED, {"raising": w}, {}, "charging" if w == "unclear" else "")
        for w in ("", "ordered", "approved", "unclear", "lost")
    ),
    *(
        (state, event, {"raising": "lost"}, {}, str(state))
        for state in (S.CHARGING, S.ENDING)
        for event in (E.RAISE_FOUND, E.RAISE_ABSENT)
    ),
    (S.STOPPING, E.RAISE, {}, {}, ""),
    (S.ENDING, E.ENDED, {"raising": "lost"}, {}, "recording"),
    *(
        (S.ENDING, E.ENDED, {"raising": w}, {}, "raise_open")
        for w in ("ordered", "approved", "unclear")
    ),
    # Approved and then refused, or completed without an amount: asked before anything is believed.
    (S.RAISE_OPEN, E.RAISE_FAILED, {"raising": "approved"}, {}, "raise_open"),
    (S.RAISE_OPEN, E.RAISED, {"raising": "approved", "raised_to_minor": None}, {}, "raise_open"),
    (S.RAISE_OPEN, E.RAISED, {"raising": "approved", "raised_to_minor": 7000}, {}, "recording"),
    # A refusal is believed only where nothing speaks against it.
    *(
        row
        for now, due, ask in (
            (S.CAPTURING, "capture_due", "capture_unclear"),
            (S.RELEASING, "release_due", "release_unclear"),
        )
        for row in (
            (now, E.REFUSED, {}, {"reason": "declined"}, "unresolved"),
            (now, E.REFUSED, {}, {"reason": "try_later"}, "unresolved"),
            (now, E.REFUSED, {}, {"reason": "unknown_hold"}, ask),
            (now, E.REFUSED, {"result": RESULT}, {"reason": "declined"}, ask),
            (now, E.NOT_SENT, {}, {}, due),
            (now, E.NOT_SENT, {"result": RESULT}, {}, ask),
        )
    ),
    # Found open: at once the first time, on the schedule afterwards.
    (S.CAPTURE_UNCLEAR, E.STILL_OPEN, {"attempts": 0}, {}, "capturing"),
    (S.CAPTURE_UNCLEAR, E.STILL_OPEN, {"attempts": 1}, {}, "capture_due"),
    (S.RELEASE_UNCLEAR, E.STILL_OPEN, {"attempts": 0}, {}, "releasing"),
    (S.RELEASE_UNCLEAR, E.STILL_OPEN, {"attempts": 9}, {}, "release_due"),
    # Unresolved: an unknown outcome may still be cleared up, a refusal is a person's work.
    (S.UNRESOLVED, E.STILL_OPEN, {}, {}, "capturing"),
    (S.UNRESOLVED, E.STILL_OPEN, {"cost_minor": None}, {}, "releasing"),
    (S.UNRESOLVED, E.STILL_OPEN, {"outcome": "refused"}, {}, ""),
    (S.UNRESOLVED, E.CONFIRMED, {}, {}, "settled"),
    (S.UNRESOLVED, E.CONFIRMED, {"cost_minor": None}, {}, "settled"),
    (S.UNRESOLVED, E.CONFIRMED, {"outcome": "refused"}, {}, ""),
    # The terminal that has the hold is back: nothing was sent before, so it is asked and goes on.
    (S.UNRESOLVED, E.STILL_OPEN, {"outcome": "away"}, {}, "capturing"),
    (S.UNRESOLVED, E.STILL_OPEN, {"outcome": "away", "cost_minor": 0}, {}, "releasing"),
    (S.UNRESOLVED, E.STILL_OPEN, {"outcome": "foreign", "cost_minor": None}, {}, ""),
    # A hold of nobody here is freed by an order alone; one of ours never in this way.
    (S.UNRESOLVED, E.CANCELLED, {"outcome": "foreign"}, {}, "releasing"),
    *(
        (S.UNRESOLVED, event, {"outcome": ours, "settlement_seq": 9}, {}, "")
        for event in (E.CANCELLED, E.VANISHED)
        for ours in ("unknown", "refused", "failed", "away", "captured")
    ),
    (S.UNRESOLVED, E.VANISHED, {"outcome": "foreign", "settlement_seq": 9}, {}, "settled"),
    # A technician frees what the terminal refused or was never told; it is never charged afterwards.
    *(
        (S.UNRESOLVED, E.FREE, {"outcome": o, "settlement_seq": 9}, {}, "releasing")
        for o in ("away", "failed", "refused", "foreign")
    ),
    *(
        (S.UNRESOLVED, E.FREE, {"outcome": o, "settlement_seq": 9}, {}, "")
        for o in ("unknown", "captured")
    ),
    (S.UNRESOLVED, E.FREE, {"outcome": "away", "settlement_seq": None}, {}, ""),
    (S.UNRESOLVED, E.FREE, {"outcome": "away", "settlement_seq": 9, "freed": True}, {}, ""),
    (S.UNRESOLVED, E.STILL_OPEN, {"outcome": "away", "freeing": "away"}, {}, ""),
    (S.UNRESOLVED, E.STILL_OPEN, {"outcome": "unknown", "freeing": "away"}, {}, "releasing"),
    (S.UNRESOLVED, E.CONFIRMED, {"outcome": "unknown", "freeing": "away"}, {}, "unresolved"),
    (S.RELEASING, E.SETTLED, {"freeing": "away", "cost_minor": 480}, {}, "unresolved"),
    (S.RELEASING, E.SETTLED, {"freeing": "away", "cost_minor": 0}, {}, "settled"),
    (S.RELEASING, E.NOT_SENT, {"freeing": "away"}, {}, "unresolved"),
    (S.RELEASING, E.REFUSED, {"freeing": "away"}, {"reason": "unknown_hold"}, "unresolved"),
    # Each outcome has its record, so none is overtaken.
    (S.UNRESOLVED, E.VANISHED, {"outcome": "foreign", "settlement_seq": None}, {}, ""),
    (S.UNRESOLVED, E.CLOSED_BY_HAND, {"settlement_seq": None}, {}, ""),
    (S.UNRESOLVED, E.CLOSED_BY_HAND, {"settlement_seq": 9}, {}, "settled"),
    (S.CAPTURE_DUE, E.CLOSED_BY_HAND, {"settlement_seq": 9}, {}, ""),
]


@pytest.mark.parametrize(
    ("state", "event", "session_change", "event_change", "dest"),
    GUARDED,
    ids=[f"{r[0]}-{r[1]}-{n}" for n, r in enumerate(GUARDED)],
)
def test_guards(
    state: S, event: E, session_change: dict[str, Any], event_change: dict[str, Any], dest: str
) -> None:
    story = reach(state)
    session = replace(story.session, **session_change)
    result = step(session, story.event(event, None, event_change))
    assert (str(result.session.state) if result.taken else "") == dest


def entrances(state: str) -> set[tuple[str, str]]:
    """(state, event) pairs that lead into a state from another one."""
    return {
        (source, event)
        for source, row in MATRIX.items()
        for event, dests in row.items()
        if state in dests.split() and source != state
    }


def test_money_commands_have_few_and_known_entrances() -> None:
    """A hold is asked for once. A capture or release goes out again only after the terminal was not
    reached at all, or after it was asked and lists the hold as open."""
    assert entrances("authorizing") == {("new", "tapped")}
    assert entrances("capturing") == {
        ("recording", "recorded"),
        ("capture_due", "retry_due"),
        ("capture_unclear", "still_open"),
        ("unresolved", "still_open"),
        ("unresolved", "raise_found"),
        ("unresolved", "raise_absent"),
    }
    assert entrances("capture_due") == {
        ("capturing", "not_sent"),
        ("capture_unclear", "still_open"),
    }
    assert entrances("releasing") == {
        ("approved", "held"),
        ("hold_unclear", "hold_found"),
        ("held", "connection_timeout"),
        ("held", "cancelled"),
        ("beginning", "begin_failed"),
        ("beginning", "unplugged"),
        ("beginning", "cancelled"),
        ("recording", "recorded"),
        ("release_due", "retry_due"),
        ("release_unclear", "still_open"),
        ("unresolved", "hold_found"),
        ("unresolved", "still_open"),
        ("unresolved", "cancelled"),
        ("unresolved", "free"),
    }
    assert entrances("release_due") == {
        ("releasing", "not_sent"),
        ("release_unclear", "still_open"),
    }


def test_energy_has_one_entrance_and_no_way_back() -> None:
    running = {"starting", "charging", "suspended"}
    assert {s for s in S if energy_allowed(s)} == running
    outside = {(s, e) for r in running for s, e in entrances(r) if s not in running}
    assert outside == {("beginning", "began")}
    assert {s for s, _ in entrances("beginning")} == {"approved", "held"}


def test_no_capture_before_the_session_record() -> None:
    assert entrances("recording") == {
        ("ending", "ended"),
        ("raise_open", "raised"),
        ("raise_open", "raise_failed"),
        ("raise_open", "raise_found"),
        ("raise_open", "raise_absent"),
        ("raise_open", "vanished"),
    }
    assert entrances("raise_open") == {("ending", "ended")}
    assert entrances("ending") == {("stopping", "stopped")}
    assert {s for s, e in entrances("capturing") if e == "recorded"} == {"recording"}


def test_every_state_can_be_reached_and_can_end() -> None:
    def closure(start: str, forward: bool) -> set[str]:
        found = {start}
        while True:
            more = set()
            for source, row in MATRIX.items():
                for dests in row.values():
                    for dest in dests.split():
                        here, there = (source, dest) if forward else (dest, source)
                        if here in found:
                            more.add(there)
            if more <= found:
                return found
            found |= more

    assert closure("new", forward=True) == set(S)
    assert closure("closed", forward=False) == set(S)


def test_what_states_owe() -> None:
    assert {str(s): str(e) for s, e in OWED.items()} == ORDERS
    beside = {Effect.RAISE, Effect.ASK_RAISE}
    assert set(OWED.values()) | beside == set(Effect)
    assert set(MEANING) == set(S)
    assert frozenset({S.CLOSED}) == FINAL
    assert BEFORE_ENERGY < OCCUPIES_EVSE
    assert {s for s in S if energy_allowed(s)} < OCCUPIES_EVSE
    assert not OCCUPIES_EVSE & {
        S.RAISE_OPEN,
        S.RECORDING,
        S.CAPTURING,
        S.RELEASING,
        S.SETTLED,
        S.UNRESOLVED,
    }
    assert not IN_MOTION & {S.CLOSED, S.UNRESOLVED, S.CAPTURE_DUE, S.RELEASE_DUE}


def test_rows_of_one_cell_are_in_an_order_that_can_be_reached() -> None:
    cells: dict[tuple[E, S], list[bool]] = {}
    for row in TABLE:
        cells.setdefault((row.event, row.source), []).append(row.when is not None)
    for cell, guarded in cells.items():
        assert all(guarded[:-1]), f"{cell}: a row behind an unguarded one is never tried"


@pytest.mark.parametrize("name", ["teleported", "to_CLOSED", "to_closed", "trigger", ""])
def test_an_event_that_is_not_in_the_table_is_refused(name: str) -> None:
    story = reach(S.HELD)
    strange = Event(name, story.session.entered, {})  # type: ignore[arg-type]
    result = step(story.session, strange)
    assert (result.taken, result.owed) == (False, None)
    assert result.session is story.session
    assert HOLD["receipt"] == result.session.hold["receipt"]
