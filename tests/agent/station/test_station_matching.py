"""Open holds at the terminal against the ledger, at every start and whenever the link comes up; and a
terminal that is replaced while it has holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.fake_terminal import Hold
from support.session_events import reach
from support.station_world import (
    CARD,
    E1,
    E2,
    OTHER_CARD,
    World,
    charge,
    one_end_each,
    replace_terminal,
)

from agent.ports import Evidence, HoldRef, LastResult, OpenHolds
from agent.session import E, S, Session
from agent.station import keeper
from agent.station.control import ControlRefused
from agent.station.matching import match
from agent.values import Money

Make = Callable[..., World]
TID, OTHER_TID = "52523535", "99999999"


def relink(w: World) -> None:
    """The terminal was off for a moment."""
    before = len(w.logged("device_back"))
    w.terminal.online = False
    w.until(lambda: bool(w.agent.parts.desks["t1"].trouble), within_s=90)
    w.terminal.online = True
    w.until(lambda: len(w.logged("device_back")) > before, within_s=60)
    w.run(5)


def strange(w: World, receipt: int = 17, tid: str = TID) -> None:
    w.terminal.holds.append(Hold(HoldRef(tid, receipt), 5000))


def foreign(w: World) -> list[Session]:
    return [s for s in w.sessions() if s.hold.get("receipt") == 17]


# --- whose it is ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["kill", "relink"])
def test_a_running_sessions_hold_is_adopted_once(make: Make, way: str) -> None:
    w = make()
    charge(w)
    if way == "kill":
        w.kill()
        w.start()
        w.run(5)
    else:
        relink(w)
    found = w.logged("holds_matched")[-1]
    assert found["adopted"] == [w.session().id] and found["foreign"] == []
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    one_end_each(w)


def test_the_hold_of_a_session_that_is_over_is_finished(make: Make) -> None:
    w = make()
    w.terminal.script["capture"].append("not_sent")
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(S.CAPTURE_DUE)
    w.kill()
    w.start()
    w.run(5)
    assert w.logged("holds_matched")[-1]["finishing"] == [w.session().id]
    w.until_state(S.CLOSED)
    one_end_each(w)


def test_a_hold_of_nobody_is_listed_once_with_a_record_and_left_alone(make: Make) -> None:
    w = make(start=False)
    strange(w)
    w.start()
    w.run(5)
    relink(w)
    w.kill()
    w.start()
    w.run(5)
    (listed,) = foreign(w)
    assert (listed.state, listed.outcome, listed.held_minor) == (S.UNRESOLVED, "foreign", None)
    assert w.records() == [("settlement", listed.id)]
    assert "release" not in w.terminal.commands
    assert [e["id"] for e in w.errors() if e["id"] == "STA-027"] == ["STA-027"]
    assert w.request("status")["open"][0]["payment"] == "foreign"
    assert w.request("terminal_open_holds")["unexplained"] == [17]
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    w.terminal.holds[0].open = False  # its owner ended it
    relink(w)
    (gone,) = foreign(w)
    assert (gone.state, gone.outcome) == (S.CLOSED, "gone")
    assert [kind for kind, owner in w.records() if owner == gone.id] == ["settlement"] * 2


def test_what_a_person_took_off_the_list_stays_off_while_it_is_open(make: Make) -> None:
    w = make(start=False)
    strange(w)
    w.start()
    w.run(5)
    w.request("close", id=foreign(w)[0].id, how="written_off", note="of the shop next door")
    relink(w)
    w.kill()
    w.start()
    w.run(5)
    assert [s.payment for s in foreign(w)] == ["written_off"]
    assert w.request("status")["open"] == []


def test_where_the_terminal_is_ours_alone_it_is_released_once(make: Make) -> None:
    w = make(start=False, terminal_more="foreign_holds: release")
    strange(w)
    w.start()
    w.until(lambda: foreign(w) and foreign(w)[0].state is S.CLOSED)
    assert w.terminal.count("release") == 1 and not w.terminal.open_holds()
    kinds = [kind for kind, owner in w.records() if owner == foreign(w)[0].id]
    assert kinds == ["settlement", "settlement"], "listed first, then how it ended"


@pytest.mark.parametrize("point", ["received", "result_sent", "answered"])
def test_killed_while_it_is_released(make: Make, point: str) -> None:
    w = make(start=False, terminal_more="foreign_holds: release")
    strange(w)
    w.start()
    w.until_killed(f"release:{point}")
    w.start()
    w.until(lambda: foreign(w)[0].state is S.CLOSED)
    assert w.terminal.count("release") == 1 and len(foreign(w)) == 1


def test_a_hold_that_a_tap_has_just_made_is_nobody_elses(make: Make) -> None:
    """The evidence never came: whose the listed hold is, is asked first."""
    w = make(terminal_more="foreign_holds: release")
    w.terminal.script["authorize"].append("lost_done")
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.CHARGING)
    assert len(w.sessions()) == 1 and "release" not in w.terminal.commands


def test_holds_are_not_released_while_a_session_is_set_aside(make: Make) -> None:
    """It may be what explains them."""
    w = make(terminal_more="foreign_holds: release")
    charge(w)
    w.agent.ledger._ledger._db.execute("UPDATE event SET name = 'of_tomorrow' WHERE name = 'began'")
    w.kill()
    w.start()
    w.run(60)
    assert len(w.agent.keeper.set_aside) == 1 and w.terminal.open_holds()
    assert "release" not in w.terminal.commands
    assert not [s for s in w.sessions() if s.outcome == "foreign"], "nor called nobody's"
    assert w.request("status")["terminals"][0]["strange_holds"] == [231]


def strange_result(w: World, receipt: int) -> None:
    """Another till made a hold at this terminal, on a card of its own."""
    ref = HoldRef(TID, receipt, 12, 700 + receipt, "1121", "080000")
    w.terminal.holds.append(Hold(ref, 2000))
    made = Evidence(ref, Money(2000, "EUR"), {"card_last4": "9999"})
    w.terminal.last = LastResult(0, made)


def killed_before_its_hold(w: World) -> None:
    """Nothing has left for the terminal; afterwards its last result is what it was before."""
    w.plant.plug()
    w.run(5)
    w.terminal.tap(CARD)
    w.until_killed("authorize:received")
    w.start()
    w.run(60)


def test_a_hold_made_before_the_tap_is_never_adopted(make: Make) -> None:
    w = make()
    w.run(5)
    strange_result(w, 88)  # since the holds were last looked through
    killed_before_its_hold(w)
    ours = w.sessions()[0]
    assert (ours.state, ours.hold, ours.held_minor) == (S.HOLD_UNCLEAR, {}, None)
    assert "release" not in w.plant.commands and not w.terminal.count("capture")
    w.terminal.holds[0].open = False  # its owner ended it
    done = w.until(lambda: w.sessions()[0].state is S.CLOSED) or w.sessions()[0]
    assert done.outcome == "not_held" and w.terminal.count("hold") == 0


def test_a_terminal_that_cannot_tell_its_last_result_has_nothing_adopted(make: Make) -> None:
    w = make()
    w.run(5)
    w.terminal.script["last_result"].append("unable")
    w.terminal.script["authorize"].append("lost_done")
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.HOLD_UNCLEAR)
    w.run(120)
    assert w.session().state is S.HOLD_UNCLEAR and "release" not in w.plant.commands


@pytest.mark.parametrize("how", ["salvaged", "of_tomorrow", "unreadable"])
def test_the_hold_of_a_session_that_is_set_aside_is_never_another_drivers(
    make: Make, how: str
) -> None:
    """The one who taps next dies before anything is sent; the last result and the open hold are the
    first one's."""
    w = make(evses=(E1, E2))
    first = charge(w)
    change = {
        "salvaged": "UPDATE session SET salvaged = 1",
        "of_tomorrow": "UPDATE event SET name = 'of_tomorrow' WHERE name = 'began'",
        "unreadable": "UPDATE event SET name = 'of_tomorrow' WHERE name = 'tapped'",
    }
    w.agent.ledger._ledger._db.execute(change[how])
    w.kill()
    w.terminal.last = None  # so that only the ledger tells whose it is
    w.start()
    w.run(20)
    assert list(w.agent.keeper.set_aside) == [first.id]
    w.evses[E2].plug()
    w.run(5)
    w.terminal.tap(OTHER_CARD)
    w.until_killed("authorize:received")
    w.terminal.last = LastResult(0, Evidence(w.terminal.holds[0].ref, Money(5000, "EUR")))
    w.start()
    w.run(60)
    found = next(s for s in w.sessions() if s.id != first.id)
    assert (found.state, found.outcome, found.hold) == (S.CLOSED, "not_held", {})
    assert w.terminal.open_holds() and "release" not in w.evses[E2].commands
    assert "release" not in w.terminal.commands


# --- replaced ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_a_terminal_is_replaced_while_it_has_a_hold(make: Make, restart: bool) -> None:
    """Nothing of the old one's is sent to the new one, whose receipts are other people's; new sessions
    begin at once; the old session goes on when the old terminal is back."""
    w = make(evses=(E1, E2))
    charge(w)
    replace_terminal(w, OTHER_TID)
    first = w.sessions()[0].id
    w.plant.unplug()
    w.until(lambda: w.sessions()[0].state is S.UNRESOLVED)
    away = w.sessions()[0]
    assert (away.outcome, away.owed_minor) == ("away", away.cost_minor)
    assert w.request("status")["open"][0]["owed_minor"] == away.cost_minor > 0
    if restart:
        w.kill()
        w.start()
        w.run(5)
    w.evses[E2].plug()
    w.run(3)
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.CHARGING)
    w.run(30)
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.CLOSED)
    ends = [m for m in w.terminal.movements if m.kind == "capture"]
    assert len(ends) == 1 and ends[0].receipt == w.session().hold["receipt"]
    replace_terminal(w, TID)
    w.until(lambda: w.sessions()[0].state is S.CLOSED)
    assert w.sessions()[0].id == first and w.sessions()[0].captured_minor == away.cost_minor
    assert w.terminal.count("capture") == 2 and not w.terminal.open_holds()


@pytest.mark.parametrize(
    ("how", "outcome"), [("not_sent", "away"), ("lost", "unknown"), ("lost_after", "unknown")]
)
def test_it_is_replaced_before_the_capture_was_known(make: Make, how: str, outcome: str) -> None:
    w = make()
    w.terminal.script["capture"].append(how)
    charge(w)
    w.terminal.tap(CARD)
    w.until(lambda: "capture" in w.terminal.commands)
    w.terminal.online = False
    w.until_state(S.CAPTURE_DUE, S.CAPTURE_UNCLEAR)
    last = w.terminal.last
    replace_terminal(w, OTHER_TID)
    assert w.until_state(S.UNRESOLVED).outcome == outcome
    w.run(120)
    assert w.terminal.commands.count("capture") == 1
    replace_terminal(w, TID)
    w.terminal.last = last
    w.until_state(S.CLOSED, within_s=3700)
    one_end_each(w, settlements=2)


def test_the_same_receipt_at_the_new_terminal_is_somebody_elses(make: Make) -> None:
    w = make()
    charge(w)
    receipt = w.session().hold["receipt"]
    w.terminal.holds.append(Hold(HoldRef(OTHER_TID, int(str(receipt))), 700))
    replace_terminal(w, OTHER_TID)
    listed = [s for s in w.sessions() if s.outcome == "foreign"]
    assert [s.hold["terminal_id"] for s in listed] == [OTHER_TID]
    w.plant.unplug()
    w.until(lambda: w.sessions()[0].state is S.UNRESOLVED)
    assert "capture" not in w.terminal.commands


def test_equal_numbers_of_the_terminal_before_explain_no_hold_at_this_one(make: Make) -> None:
    w = make()
    charge(w)
    w.terminal.tap(CARD)
    first = w.until_state(S.CLOSED)
    w.plant.unplug()
    replace_terminal(w, OTHER_TID)
    w.terminal._receipts = itertools.count(int(str(first.hold["receipt"])))
    w.plant.plug()
    w.run(5)
    w.terminal.script["authorize"].append("lost_done")
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.CHARGING)
    again = w.session().hold
    assert (again["receipt"], again["trace"]) == (first.hold["receipt"], first.hold["trace"])
    w.run(30)
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.CLOSED)
    assert not w.terminal.open_holds() and w.terminal.count("capture") == 2


def test_a_terminal_that_came_without_a_word_has_its_holds_looked_at(make: Make) -> None:
    w = make()
    w.terminal.terminal_id = OTHER_TID
    strange(w, tid=OTHER_TID)
    w.until(lambda: bool(foreign(w)), within_s=70)
    assert [row["tid"] for row in w.logged("terminal_connected")] == [TID, OTHER_TID]


def test_one_that_is_exchanged_and_back_without_a_word_goes_on_at_once(make: Make) -> None:
    """A capture meets another one there; a minute later the old one is back."""
    w = make()
    charge(w)
    w.terminal.terminal_id = OTHER_TID
    w.terminal.script["capture"].append("unknown_hold")
    w.plant.unplug()
    assert w.until_state(S.UNRESOLVED).outcome == "unknown"
    w.run(20)
    w.terminal.terminal_id = TID
    w.until_state(S.CLOSED, within_s=90)
    assert [row["tid"] for row in w.logged("terminal_connected")] == [TID, OTHER_TID, TID]
    one_end_each(w, settlements=2)


def test_a_terminal_that_was_exchanged_without_a_word_has_its_hold_listed(make: Make) -> None:
    """For half a minute, between two looks at it; the dialogue breaks, and the old one is back when it is
    asked: that one cannot tell."""
    w = make(start=False)
    w.start()
    w.plant.plug()
    w.run(5)
    w.terminal.terminal_id = OTHER_TID
    w.terminal.script["authorize"].append("lost_done")
    w.terminal.tap(CARD)
    w.until(lambda: bool(w.terminal.holds))
    w.terminal.terminal_id, w.terminal.last = TID, None
    w.terminal.holds.clear()
    done = w.until_state(S.UNRESOLVED, within_s=700)
    assert (done.terminal_id, done.outcome) == (OTHER_TID, "unknown")
    assert [row["id"] for row in w.request("status")["open"]] == [done.id]
    tids = [row["tid"] for row in w.logged("terminal_connected")]
    assert tids[0] == tids[-1] == TID


# --- freed by a technician's order ------------------------------------------------------------------


def away(w: World) -> Session:
    charge(w)
    replace_terminal(w, OTHER_TID)
    w.plant.unplug()
    return w.until_state(S.UNRESOLVED)


def test_nothing_is_freed_without_an_order(make: Make) -> None:
    w = make()
    listed = away(w)
    w.run(600)
    assert "release_foreign" not in w.terminal.commands
    found = w.request("free", id=listed.id)
    assert w.terminal.amounts("release_foreign") == [5000] and not w.terminal.open_holds()
    assert (found["payment"], found["released_minor"]) == ("away", 5000)
    assert found["owed_minor"] == listed.cost_minor, "what was delivered is still owed"
    with pytest.raises(ControlRefused, match="STA-045"):
        w.request("free", id=listed.id)
    replace_terminal(w, TID)
    w.run(120)
    assert "capture" not in w.terminal.commands, "never charged afterwards"
    closed = w.request("close", id=listed.id, how="paid", note="by transfer")
    assert closed["closed_minor"] == listed.cost_minor
    assert [kind for kind, _ in w.records()] == ["session"] + ["settlement"] * 3


@pytest.mark.parametrize(
    ("how", "payment"), [("declined", "away"), ("not_sent", "away"), ("lost", "unknown")]
)
def test_an_order_that_fails_leaves_it_listed(make: Make, how: str, payment: str) -> None:
    w = make()
    listed = away(w)
    w.terminal.script["release_foreign"].append(how)
    found = w.request("free", id=listed.id)
    assert (found["payment"], found["released_minor"]) == (payment, 0)
    w.run(200)
    assert w.terminal.commands.count("release_foreign") == 1, "ordered once, sent once"
    if payment == "away":
        assert w.request("free", id=listed.id)["released_minor"] == 5000


@pytest.mark.parametrize("point", ["received", "result_sent", "stored", "answered", "completed"])
def test_killed_while_it_is_freed(make: Make, point: str) -> None:
    """Nobody can ask the new terminal how it ended, so it stays listed; it is never sent again."""
    w = make()
    listed = away(w)
    w.loop.create_task(w.agent.keeper.tell(listed.id, E.FREE))  # type: ignore[union-attr]
    w.until_killed(f"release_foreign:{point}")
    w.start()
    found = w.until_state(S.UNRESOLVED)
    w.run(120)
    assert found.outcome == "unknown" and found.to_capture_minor > 0
    assert w.terminal.commands.count("release_foreign") == 1
    replace_terminal(w, TID)
    w.run(60)
    assert "capture" not in w.terminal.commands


@pytest.mark.parametrize("done", [False, True], ids=["not_executed", "executed"])
@pytest.mark.parametrize("hours", [0, 2])
def test_an_order_that_broke_ends_when_the_old_terminal_is_back(
    make: Make, done: bool, hours: int
) -> None:
    """A refused capture, freed by order; the dialogue breaks and the terminal is exchanged before it could
    be asked. The old one knows; nothing is charged, and what was delivered is still owed."""
    w = make()
    w.terminal.script["capture"].append("declined")
    charge(w)
    w.terminal.tap(CARD)
    listed = w.until_state(S.UNRESOLVED)
    w.run(5)
    w.terminal.script["release"].append("lost_done" if done else "lost")
    w.loop.create_task(w.agent.keeper.tell(listed.id, E.FREE))  # type: ignore[union-attr]
    w.until_state(S.RELEASE_UNCLEAR)
    last = w.terminal.last
    replace_terminal(w, OTHER_TID)
    assert w.until_state(S.UNRESOLVED).outcome == "unknown"
    w.run(hours * 3600)
    w.terminal.online = False
    w.run(90)
    w.terminal.terminal_id, w.terminal.last, w.terminal.online = TID, last, True
    w.until(lambda: w.session().freed)
    w.run(30)
    found = w.session()
    assert (found.state, found.outcome, found.owed_minor) == (
        S.UNRESOLVED,
        "refused",
        listed.cost_minor,
    )
    assert w.terminal.amounts("release") == [0] and not w.terminal.open_holds()
    assert w.terminal.commands.count("capture") == 1 and not w.logged("event_refused")
    assert w.terminal.commands.count("release") == (1 if done else 2)
    assert [kind for kind, _ in w.records()] == ["session"] + ["settlement"] * 3
    assert w.request("close", id=listed.id, how="paid", note="by transfer")["closed_minor"]


def test_a_hold_of_the_same_terminal_is_freed_there(make: Make) -> None:
    w = make()
    w.terminal.script["capture"].append("declined")
    charge(w)
    w.terminal.tap(CARD)
    listed = w.until_state(S.UNRESOLVED)
    found = w.request("free", id=listed.id)
    assert w.terminal.count("release") == 1 and found["owed_minor"] == listed.cost_minor
    assert found["payment"] == "refused"


def test_a_running_session_is_not_freed(make: Make) -> None:
    w = make()
    session = charge(w)
    with pytest.raises(ControlRefused, match="STA-045"):
        w.request("free", id=session.id)
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)
    with pytest.raises(ControlRefused, match=r"STA-045: .* is closed \(captured\)"):
        w.request("free", id=session.id)
    with pytest.raises(ControlRefused, match="STA-012"):
        w.request("free", id="NOBODY")


# --- closed by hand while the hold is open -----------------------------------------------------------


def left_open(w: World) -> Session:
    """Its capture is refused, its cost is paid in another way."""
    w.terminal.script["capture"].append("declined")
    charge(w)
    w.terminal.tap(CARD)
    listed = w.until_state(S.UNRESOLVED)
    w.plant.unplug()
    w.run(10)
    w.request("close", id=listed.id, how="paid", note="by transfer")
    assert w.terminal.open_holds()
    return listed


@pytest.mark.parametrize("way", ["kill", "relink", "rename"])
def test_a_hold_that_was_left_open_stays_explained(make: Make, way: str) -> None:
    w = make()
    left_open(w)
    if way == "relink":
        relink(w)
    else:
        w.kill()
        if way == "rename":
            path = w.folder / "station.yaml"
            path.write_text(path.read_text().replace("id: t1", "id: t2"))
            w.terminals["t2"] = w.terminals["t1"]
        w.start()
        w.run(30)
    assert len(w.sessions()) == 1 and w.request("status")["open"] == []
    found = w.request("terminal_open_holds")
    assert (found["unexplained"], found["missing"]) == ([], [])
    assert found["holds"][0]["session"] == w.session().id
    assert found["holds"][0]["state"] == "closed"
    w.terminal.holds[0].open = False
    assert w.request("terminal_open_holds")["missing"] == [], "nobody counts on it"


def test_however_many_sessions_have_ended_since(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "CLOSED_KEPT", 2)
    w = make(start=False)
    strange(w)
    w.start()
    w.run(5)
    w.request("close", id=foreign(w)[0].id, how="written_off", note="of the shop next door")
    for _ in range(3):
        charge(w)
        w.terminal.tap(CARD)
        w.until_state(S.CLOSED)
        w.plant.unplug()
        w.run(10)
    w.kill()
    w.start()
    w.run(20)
    assert len(foreign(w)) == 1
    w.terminal.holds[0].open = False
    relink(w)
    strange(w)  # the number is used again, by somebody
    relink(w)
    assert [s.state for s in foreign(w)] == [S.CLOSED, S.UNRESOLVED]


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_what_was_left_open_is_freed_by_order_as_a_session_of_its_own(
    make: Make, restart: bool
) -> None:
    w = make(terminal_more="end_of_day: {drain_min: 5}")
    closed = left_open(w)
    if restart:
        w.kill()
        w.start()
        w.run(10)
    w.terminal.eod_due = True
    w.run(600)
    assert w.terminal.count("end_of_day") == 0, "a hold is open"
    w.terminal.script["release"].append("declined")
    found = w.request("free", id=closed.id)
    assert (found["payment"], found["released_minor"]) == ("foreign", 0)
    with pytest.raises(ControlRefused, match=f"STA-045: .* listed as session {found['id']}"):
        w.request("free", id=closed.id)
    found = w.request("free", id=found["id"])
    assert (found["state"], found["payment"], found["released_minor"]) == (
        *("closed", "cancelled"),
        5000,
    )
    assert len(w.sessions()) == 2 and found["id"] == w.session().id != closed.id
    assert closed.id in found["events"][0]["data"]["why"]
    assert w.terminal.count("release") == 1 and not w.terminal.open_holds()
    kinds = [kind for kind, owner in w.records() if owner == found["id"]]
    assert kinds == ["settlement"] * 3, "listed, refused, freed"
    w.until(lambda: w.terminal.count("end_of_day") == 1, within_s=4000)
    for _ in range(2):
        with pytest.raises(ControlRefused, match=r"STA-045: .* its hold has ended"):
            w.request("free", id=closed.id)
        w.kill()
        w.start()
        w.run(10)
    assert w.session().id == found["id"], "nothing new is listed"


def test_a_hold_of_nobody_is_freed_by_order(make: Make) -> None:
    w = make(start=False)
    strange(w)
    w.start()
    w.run(5)
    found = w.request("free", id=foreign(w)[0].id)
    assert (found["state"], found["payment"]) == ("closed", "cancelled")
    assert w.terminal.count("release") == 1 and not w.terminal.open_holds()


# --- pure -------------------------------------------------------------------------------------------


def at(state: S, receipt: int, tid: str = TID) -> Session:
    session = reach(state).session
    return replace(session, id=f"{state}", hold={"terminal_id": tid, "receipt": receipt})


def test_every_listed_hold_has_one_place() -> None:
    sessions = [at(S.CHARGING, 1), at(S.CAPTURE_DUE, 2), at(S.UNRESOLVED, 3)]
    found = match(TID, OpenHolds((1, 2, 3, 4)), [*sessions, at(S.HELD, 4, OTHER_TID)])
    assert (found.adopted, found.finishing) == (("charging",), ("capture_due",))
    assert (found.listed, found.foreign, found.gone) == (("unresolved",), (4,), ())


def test_a_list_that_is_not_whole_says_nothing_of_what_is_missing() -> None:
    listed = replace(reach(S.NEW).tell(E.FOREIGN).session, settlement_seq=1)
    assert match(TID, OpenHolds((), complete=True), [listed]).gone == (listed.id,)
    assert match(TID, OpenHolds((), complete=False), [listed]).gone == ()
    assert match(OTHER_TID, OpenHolds(()), [listed]).gone == ()
