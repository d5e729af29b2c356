"""The end of a terminal's day through the running service: when it is refused, what it leaves behind, and
what follows when the agent dies or the dialogue breaks in the middle of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from support.fake_terminal import Hold
from support.fake_terminal_money import TerminalDriver
from support.station_world import CARD, E1, E2, OTHER_CARD, World, charge

from agent.ledger import LedgerError, UpkeepOrder, UpkeepRow
from agent.ports import EodHolds, Evidence, HoldRef, LastResult, Need, TerminalIdentity
from agent.session import S, Session
from agent.session.raises import R
from agent.station.control import ControlRefused
from agent.station.day_end import TASK, DayEndRefused, Step, judge, refuse_held
from agent.values import Quality, Stamp

Make = Callable[..., World]


def order(w: World, **request: Any) -> dict[str, Any]:
    found: dict[str, Any] = w.request("terminal_end_of_day", terminal="t1", **request)
    return found


def steps(w: World) -> list[str]:
    """What the ledger has of the newest order."""
    orders = w.agent.ledger._ledger.upkeep(TASK)
    return [row.step for row in orders[0].steps] if orders else []


def sent(w: World) -> int:
    return w.terminal.commands.count("end_of_day")


def listed(w: World) -> dict[str, Any]:
    found: dict[str, Any] = w.request("status")["ends_of_day"][0]
    return found


def paid(w: World) -> int:
    """One charged and captured session; what it cost."""
    charge(w, seconds=120)
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    w.plant.unplug()
    w.run(20)
    return done.captured_minor


# --- ordering ---------------------------------------------------------------------------------------


def test_the_day_is_closed_once_with_its_totals(make: Make) -> None:
    w = make()
    cost = paid(w)
    found = order(w)
    assert found["outcome"] == "done"
    assert found["totals"]["total_minor"] == cost > 0
    assert found["totals"]["brands"] == [{"brand": "girocard", "count": 1, "amount_minor": cost}]
    assert w.terminal.amounts("end_of_day") == [cost] and sent(w) == 1
    assert steps(w) == ["intent", "evidence", "done"]
    assert listed(w) == found
    w.run(40)
    assert "Tap card" in w.terminal.screen, "the terminal is open again"
    charge(w, OTHER_CARD)
    assert order_refused(w).startswith("STA-034")


def order_refused(w: World, **request: Any) -> str:
    before = sent(w)
    with pytest.raises(ControlRefused) as refused:
        order(w, **request)
    assert sent(w) == before, "nothing was sent"
    return str(refused.value)


def test_it_is_refused_while_a_session_holds_money(make: Make) -> None:
    w = make()
    session = charge(w)
    assert f"{session.id} (charging)" in order_refused(w)
    assert steps(w) == [] and w.session().state is S.CHARGING
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    assert order(w)["outcome"] == "done"


def test_a_hold_that_nobody_explains_is_not_put_at_risk(make: Make) -> None:
    w = make()
    w.terminal.holds.append(Hold(HoldRef("52523535", 17), 5000))
    why = order_refused(w)
    assert why.startswith("STA-034") and "0017" in why and steps(w) == []
    w.terminal.holds.clear()
    w.terminal.complete_list = False
    assert "does not say which" in order_refused(w)
    w.terminal.eod_open_holds = EodHolds.KEEPS
    w.terminal.holds.append(Hold(HoldRef("52523535", 17), 5000))
    assert order(w)["outcome"] == "done"
    assert [h.ref.receipt for h in w.terminal.open_holds()] == [17]


def test_a_terminal_that_keeps_its_holds_is_closed_beside_a_session(make: Make) -> None:
    w = make()
    w.terminal.eod_open_holds = EodHolds.KEEPS
    charge(w)
    assert order(w)["outcome"] == "done"
    w.terminal.tap(CARD)
    assert w.until_state(S.CLOSED).captured_minor > 0


@pytest.mark.parametrize("what", ["hold", "capture", "release"])
def test_where_holds_are_kept_it_waits_for_a_payment_in_doubt_beside_a_session(
    make: Make, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Its totals would replace the last result, which may be all that tells."""
    w = make(evses=(E1, E2))
    w.terminal.eod_open_holds = EodHolds.KEEPS
    charge(w, seconds=20)
    told, forgets = TerminalDriver.last_result, False

    async def last_result(self: TerminalDriver) -> LastResult | None:
        return None if forgets else await told(self)

    monkeypatch.setattr(TerminalDriver, "last_result", last_result)
    w.terminal.script["authorize" if what == "hold" else what].append("lost_done")
    if what != "release":
        w.evses[E2].plug()
        w.run(3)
    w.terminal.tap(OTHER_CARD)
    if what != "hold":
        w.until_state(S.HELD if what == "release" else S.CHARGING)
        w.until(lambda: len(w.sessions()) == 2)
        w.run(30)
        w.terminal.tap(OTHER_CARD)
    w.until(lambda: w.terminal.count(what) == (2 if what == "hold" else 1))
    forgets, w.terminal.complete_list = True, False
    state = {"hold": S.HOLD_UNCLEAR, "capture": S.CAPTURE_UNCLEAR, "release": S.RELEASE_UNCLEAR}
    w.until_state(state[what])
    w.run(10)
    assert w.session().state is state[what]
    assert w.session().id in order_refused(w) and sent(w) == 0
    forgets, w.terminal.complete_list = False, True
    w.until(lambda: w.session().state not in state.values())
    assert order(w)["outcome"] == "done", "beside the session that charges"
    assert w.sessions()[0].state is S.CHARGING


@pytest.mark.parametrize("state", sorted(S))
def test_beside_which_states_a_day_may_end_where_holds_are_kept(state: S) -> None:
    """Pure. Not while the terminal is being told something, nor while that is in doubt."""
    at_work = {
        *(S.AUTHORIZING, S.APPROVED, S.HOLD_UNCLEAR, S.RAISE_OPEN),
        *(S.CAPTURING, S.CAPTURE_UNCLEAR, S.RELEASING, S.RELEASE_UNCLEAR),
    }
    session = Session("A", state, terminal="t1")
    with pytest.raises(DayEndRefused) if state in at_work else nullcontext():
        refuse_held("t1", [session], keeps=True)
    running = replace(session, state=S.CHARGING, raising=R.UNCLEAR)
    with pytest.raises(DayEndRefused, match="STA-034"):
        refuse_held("t1", [running], keeps=True)
    refuse_held("t1", [replace(running, raising=R.LOST)], keeps=True)


@pytest.mark.parametrize("rule", [EodHolds.CHARGES_FULL, EodHolds.CANCELS, EodHolds.REFUSES])
def test_no_other_rule_lets_it_through(make: Make, rule: EodHolds) -> None:
    w = make()
    w.terminal.eod_open_holds = rule
    charge(w)
    assert order_refused(w).startswith("STA-034")


def test_an_unresolved_session_without_an_open_hold_is_no_hindrance(make: Make) -> None:
    w = make()
    charge(w)
    w.terminal.script["capture"].append("declined")
    w.terminal.tap(CARD)
    left = w.until_state(S.UNRESOLVED)
    assert f"{left.hold['receipt']:04d}" in order_refused(w), "its hold is open"
    w.terminal.holds[0].open = False  # a person ended it at the terminal
    assert order(w)["outcome"] == "done"


def test_a_card_that_comes_meanwhile_starts_afterwards(make: Make) -> None:
    w = make()
    w.terminal.settle_s = 30.0
    w.plant.plug()
    w.run(3)
    asking = w.loop.create_task(_ordered(w))  # type: ignore[union-attr]
    w.run(3)
    assert "Back in a moment" in w.terminal.screen
    w.terminal.tap(CARD)
    w.run(10)
    assert w.sessions() == [], "no hold while the batch is closed"
    w.until(asking.done)
    w.until_state(S.CHARGING)
    names = [m.kind for m in w.terminal.movements]
    assert names == ["end_of_day", "hold"]


async def _ordered(w: World) -> Any:
    from agent.station.requests import Requests

    return await Requests(w.agent).handlers["terminal_end_of_day"]({})


def test_a_refusal_of_the_terminal_is_told(make: Make) -> None:
    w = make()
    w.terminal.script["end_of_day"].append("declined")
    found = order(w)
    assert (found["outcome"], found["code"]) == ("refused", "05")
    assert steps(w) == ["intent", "refused"]
    w.terminal.script["end_of_day"].append("not_sent")
    assert order(w)["outcome"] == "not_sent"
    assert order(w)["outcome"] == "done", "both are definite: it may be ordered again"


# --- what breaks ------------------------------------------------------------------------------------

POINTS = [
    ("end_of_day:received", "not_done"),
    ("end_of_day:result_sent", "done"),
    ("end_of_day:stored", "done"),
    ("end_of_day:answered", "done"),
    ("end_of_day:completed", "done"),
]


@pytest.mark.parametrize("due", [True, False], ids=["due", "not due"])
@pytest.mark.parametrize(("point", "ends"), POINTS)
def test_a_killed_agent_asks_and_never_sends_again(
    make: Make, point: str, ends: str, due: bool
) -> None:
    w = make()
    cost = paid(w)
    w.terminal.eod_due = due
    w.loop.create_task(_ordered(w))  # type: ignore[union-attr]
    w.until_killed(point)
    w.start()
    w.until(lambda: steps(w)[-1] == ends)
    assert steps(w)[0] == "intent", "durable before the first byte"
    assert sent(w) == 1
    assert w.terminal.amounts("end_of_day") == ([cost] if ends == "done" else [])
    assert listed(w)["outcome"] == ends
    w.run(30)
    if ends == "not_done":
        assert order(w)["outcome"] == "done"
    w.terminal.eod_due = False
    charge(w)


@pytest.mark.parametrize("how", ["lost", "lost_done", "lost_after"])
def test_a_broken_dialogue_is_asked_for(make: Make, how: str) -> None:
    w = make()
    paid(w)
    w.terminal.script["end_of_day"].append(how)
    assert order(w)["outcome"] == "unknown"
    assert listed(w)["outcome"] in ("unknown", "done", "not_done")
    w.until(lambda: steps(w)[-1] in ("done", "not_done"))
    assert steps(w)[-1] == ("not_done" if how == "lost" else "done")
    assert sent(w) == 1


def silent(w: World) -> None:
    """Nothing at the terminal tells whether its batch was closed."""
    w.terminal.tells_totals = w.terminal.repeats_day = False


def test_what_cannot_be_told_stays_listed_and_is_not_sent_again(make: Make) -> None:
    w = make()
    paid(w)
    silent(w)
    w.terminal.script["end_of_day"].append("lost_done")
    assert order(w)["outcome"] == "unknown"
    w.run(30)
    assert listed(w)["outcome"] == "unknown" and steps(w) == ["intent", "unknown"]
    assert order_refused(w).startswith("STA-035")
    charge(w)  # the station goes on
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    w.stop()
    w.start()
    w.run(10)
    assert listed(w)["outcome"] == "unknown" and order_refused(w).startswith("STA-035")
    assert order(w, again=True)["outcome"] == "done" and sent(w) == 2


def test_it_is_asked_again_every_hour(make: Make) -> None:
    w = make()
    paid(w)
    silent(w)
    w.terminal.script["end_of_day"].append("lost_done")
    order(w)
    w.run(60)
    w.terminal.tells_totals = True
    w.run(1800)
    assert listed(w)["outcome"] == "unknown"
    w.run(1900)
    assert listed(w)["outcome"] == "done" and sent(w) == 1


def test_another_terminal_tells_nothing(make: Make) -> None:
    w = make()
    paid(w)
    w.terminal.script["end_of_day"].append("lost_done")
    w.loop.create_task(_ordered(w))  # type: ignore[union-attr]
    w.until(lambda: steps(w)[-1:] == ["unknown"])
    w.terminal.terminal_id = "99999999"
    w.run(30)
    assert listed(w)["outcome"] == "unknown"


def test_totals_that_cannot_be_stored_are_not_answered(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make()
    paid(w)
    ledger = w.agent.ledger
    real = ledger.add_upkeep

    async def fails(row: UpkeepRow, order: int | None = None) -> int:
        if row.step == "evidence":
            raise LedgerError("LED-008", "the disk is full")
        return await real(row, order)

    monkeypatch.setattr(ledger, "add_upkeep", fails)
    assert order(w)["outcome"] == "unknown"
    assert any(line.get("id") == "STA-026" for line in w.errors())
    w.until(lambda: steps(w)[-1] == "done", within_s=4000)


def test_an_intent_that_cannot_be_stored_sends_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make()

    async def fails(*_: object) -> int:
        raise LedgerError("LED-008", "the disk is full")

    monkeypatch.setattr(w.agent.ledger, "add_upkeep", fails)
    with pytest.raises(LedgerError, match="LED-008"):
        order(w)
    assert sent(w) == 0
    w.run(5)
    charge(w)


# --- judging: pure ----------------------------------------------------------------------------------

STAMP = Stamp(1, 1, "boot", Quality.TRUSTED)
TID = "52523535"


def begun(*more: str, due: bool, bookings: int | None = None, tid: str = TID) -> UpkeepOrder:
    intent = {"terminal_id": tid, "due": due, "bookings": bookings, "last": [7, 70]}
    data: dict[str, Any] = {step: {} for step in more}
    rows = [UpkeepRow("t1", TASK, "intent", intent, STAMP)]  # type: ignore[arg-type]
    return UpkeepOrder(1, (*rows, *(UpkeepRow("t1", TASK, s, d, STAMP) for s, d in data.items())))


def said(*needs: str) -> TerminalIdentity:
    return TerminalIdentity(TID, None, None, None, not needs, "00", "", needs)


def result(receipt: int, trace: int, **details: int | str) -> LastResult:
    return LastResult(0, Evidence(HoldRef(TID, receipt, None, trace), None, details))


PAYMENT, DAY = result(7, 70), result(0, 71, total_visa_count=3, total_visa_minor=300)


@pytest.mark.parametrize(
    ("order_", "identity", "last", "now", "ends"),
    [
        (begun(due=True), said(Need.END_OF_DAY), PAYMENT, None, Step.NOT_DONE),
        (begun(due=True), said(), PAYMENT, None, Step.DONE),
        (begun(due=True), said(Need.INITIALISATION), PAYMENT, None, None),
        (begun(due=True), said(Need.MAINTENANCE), PAYMENT, None, None),
        (begun(due=False), said(Need.END_OF_DAY), PAYMENT, None, None),
        (begun(due=False), said(), PAYMENT, None, None),
        (begun(due=False), said(), None, None, None),
        (begun(due=False), said(), DAY, None, Step.DONE),
        (begun(due=False, bookings=3), said(), PAYMENT, 3, Step.NOT_DONE),
        (begun(due=False, bookings=3), said(), PAYMENT, 0, Step.DONE),
        (begun(due=False, bookings=3), said(), PAYMENT, 1, None),
        (begun(due=False, bookings=3), said(), result(9, 90), 3, None),  # others since
        (begun("evidence", due=False), said(), PAYMENT, None, Step.DONE),
        (begun("evidence", due=False), said(Need.MAINTENANCE), PAYMENT, None, None),
        (begun("evidence", due=True), said(Need.END_OF_DAY), DAY, None, Step.NOT_DONE),
        (begun(due=True, tid="99999999"), said(), DAY, 0, None),
    ],
)
def test_what_the_terminal_says_afterwards(
    order_: UpkeepOrder,
    identity: TerminalIdentity,
    last: LastResult | None,
    now: int | None,
    ends: Step | None,
) -> None:
    judged = judge(order_, identity, last, now)
    assert (None if judged is None else judged[0]) is ends


def test_the_last_day_before_is_no_proof() -> None:
    """The terminal repeats the end of day of yesterday."""
    intent = {"terminal_id": TID, "due": False, "bookings": None, "last": [0, 71]}
    row = UpkeepRow("t1", TASK, "intent", intent, STAMP)  # type: ignore[arg-type]
    assert judge(UpkeepOrder(1, (row,)), said(), DAY, None) is None
