"""Raises of holds beside other people's payments: what the terminal's last result tells is never lost to
them, and nobody waits for it for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.fake_terminal import Hold
from support.fake_terminal_money import TerminalDriver
from support.station_world import CARD, E1, E2, OTHER_CARD, TARIFF, World, one_end_each

from agent.ledger import AsyncLedger
from agent.ports import EodHolds
from agent.session import S
from agent.session.raises import R

Make = Callable[..., World]
WITHOUT_IDLE = TARIFF.replace('idle_time:\n  - price_minute: "0.10"\n', "")
HOUR_S = 3_600


def world(make: Make, count: int = 1, **options: object) -> World:
    w = make(hold="1.50", raising=("1.00", "2.50", count), evses=(E1, E2), **options)
    for plant in w.evses.values():
        plant.load_w = 22_000
    return w


def tap(w: World, evse: str = E1, card: bytes = CARD) -> str:
    """The session of `evse`, charging."""
    count = len(w.sessions())
    w.evses[evse].plug()
    w.run(3)
    w.terminal.tap(card)
    w.until(lambda: len(w.sessions()) == count + 1 and w.session().state is S.CHARGING)
    return w.session().id


def all_leave(w: World, within_s: float = 120) -> None:
    """Everybody unplugs and is charged at once what he had, from his own hold."""
    for plant in w.evses.values():
        plant.unplug()
    w.until(lambda: all(s.state is S.CLOSED for s in w.sessions()), within_s=within_s)
    costs = sorted(s.cost_minor or 0 for s in w.sessions() if s.outcome == "captured")
    assert sorted(w.terminal.amounts("capture")) == costs
    assert all(m.amount_minor <= (s.held_minor or 0) for s in w.sessions() for m in ends(w, s))
    one_end_each(w)


def ends(w: World, session: Any) -> list[Any]:
    receipt = session.hold.get("receipt")
    return [m for m in w.terminal.movements if m.kind == "capture" and m.receipt == receipt]


def head_start(w: World, seconds: float) -> None:
    """Both draw the same since; what E2 has had is ahead of E1 by so long."""
    first, second = w.sessions()[0], w.sessions()[1]
    assert first.started is not None and second.started is not None
    w.evses[E1].draw(0)
    w.run((second.started.boot_ms - first.started.boot_ms) / 1000 + seconds)
    w.evses[E1].draw(22_000)


def forgets(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The terminal cannot repeat its last result, until the function that is returned is called."""
    told = TerminalDriver.last_result

    async def nothing(self: TerminalDriver) -> None:
        return None

    monkeypatch.setattr(TerminalDriver, "last_result", nothing)
    return lambda: monkeypatch.setattr(TerminalDriver, "last_result", told)


def done_and_unheard(w: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The next raise is; the terminal cannot repeat it until the function that is returned is called."""
    w.terminal.script["increment"].append("lost_done")
    remembers = forgets(monkeypatch)
    w.until(lambda: w.session().raising == R.UNCLEAR, within_s=600)
    return remembers


@pytest.mark.parametrize("declined", [1, 5])
@pytest.mark.parametrize("step", ["received", "result_sent", "stored", "answered", "completed"])
def test_declined_cards_before_it(make: Make, declined: int, step: str) -> None:
    """Each of them is a last result, too, and has no receipt."""
    w = world(make)
    tap(w)
    w.evses[E2].plug()
    w.run(3)
    for n in range(declined):
        w.terminal.script["authorize"].append("declined")
        w.terminal.tap(b"poor-%d" % n)
        w.run(8)
    assert w.terminal.last is not None and w.terminal.last.result
    w.until_killed(f"increment:{step}")
    w.passes(3)
    w.start()
    w.run(5)
    assert not w.sessions()[0].raising
    all_leave(w)


def test_declined_itself_and_killed_before_it_was_heard(make: Make) -> None:
    w = world(make)
    tap(w)
    w.terminal.script["increment"].append("declined")
    w.until(lambda: w.session().raising == R.ORDERED, within_s=HOUR_S)
    w.until(lambda: w.terminal.last is not None and w.terminal.last.result != 0, within_s=10)
    w.kill()
    w.passes(3)
    w.start()
    w.run(5)
    assert (w.session().raising, w.session().raises) == ("", 0)
    all_leave(w)


def test_while_one_is_in_doubt_nothing_else_is_booked_there(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither another session's raise nor what it owes: both would replace what tells."""
    w = world(make, tariff=WITHOUT_IDLE)
    first = tap(w)
    tap(w, E2, OTHER_CARD)
    head_start(w, 10)
    remembers = done_and_unheard(w, monkeypatch)
    w.run(40)
    assert w.terminal.amounts("increment") == [100], "its own, a while ago"
    w.evses[E1].unplug()
    w.until(lambda: w.sessions()[0].state is S.CAPTURING)
    w.run(60)
    assert not w.terminal.amounts("capture")
    remembers()
    w.until(lambda: not w.sessions()[1].raising, within_s=70)
    assert w.sessions()[1].held_minor == 250
    w.until(lambda: w.sessions()[0].state is S.CLOSED, within_s=15)
    assert w.sessions()[0].id == first
    all_leave(w)


def test_two_of_equal_cards_are_not_taken_for_each_other(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is done and nobody heard; the other waits for it, and both are killed."""
    w = world(make, tariff=WITHOUT_IDLE)
    tap(w)
    tap(w, E2, OTHER_CARD)
    head_start(w, 10)
    remembers = done_and_unheard(w, monkeypatch)
    w.run(15)
    w.kill()
    remembers()
    w.passes(3)
    w.start()
    w.run(5)
    assert w.sessions()[1].held_minor == 250
    for session, hold in zip(w.sessions(), w.terminal.holds, strict=True):
        assert (session.held_minor or 0) <= hold.amount_minor
    all_leave(w)


def test_what_nobody_can_tell_is_given_up_in_ten_minutes_and_told_late(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(make, tariff=WITHOUT_IDLE)
    tap(w)
    remembers = done_and_unheard(w, monkeypatch)
    w.plant.draw(0)
    w.run(590)
    assert w.session().raising == R.UNCLEAR
    w.run(20)
    assert (w.session().raising, w.session().state) == (R.LOST, S.SUSPENDED)
    w.kill()
    w.passes(3)
    w.start()
    w.run(3)
    assert w.session().raising == R.LOST, "asked, and not told"
    remembers()
    w.until(lambda: not w.session().raising, within_s=70)
    assert w.session().held_minor == 250
    all_leave(w)


def test_killed_while_in_doubt_and_off_for_an_hour_it_is_asked_before_it_is_given_up(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(make, tariff=WITHOUT_IDLE)
    tap(w)
    remembers = done_and_unheard(w, monkeypatch)
    w.plant.draw(0)
    w.kill()
    remembers()
    w.passes(HOUR_S)
    w.start()
    w.run(3)
    assert (w.session().raising, w.session().held_minor) == ("", 250), "before the car is looked at"
    all_leave(w)


@pytest.mark.parametrize(("what", "at_s"), [("recorded", 225), ("tapped", 225)])
def test_a_payment_that_is_being_stored_while_the_limit_comes_near(
    make: Make, monkeypatch: pytest.MonkeyPatch, what: str, at_s: float
) -> None:
    """It goes first; killed behind it, nobody doubts that the hold was not raised."""
    w = world(make, tariff=WITHOUT_IDLE)
    first = tap(w)
    w.evses[E2].load_w = 1_000
    if what == "recorded":
        tap(w, E2, OTHER_CARD)
    w.run(at_s)
    verb = "capture" if what == "recorded" else "authorize"
    real = AsyncLedger.append

    async def slow(self: AsyncLedger, row: Any, **more: Any) -> Any:
        if row.name == what and row.session_id != first:
            await asyncio.sleep(2.9)
        return await real(self, row, **more)

    monkeypatch.setattr(AsyncLedger, "append", slow)
    w.terminal.settle_s = w.terminal.authorize_s = 20.0
    if what == "recorded":
        w.evses[E2].unplug()
    else:
        w.evses[E2].plug()
        w.run(3)
        w.terminal.tap(OTHER_CARD)
    w.until_killed(f"{verb}:answered")
    w.terminal.settle_s = w.terminal.authorize_s = 2.0
    w.passes(3)
    w.start()
    w.run(5)
    assert not w.sessions()[0].raising
    all_leave(w)


@pytest.mark.parametrize("repeats", [True, False])
def test_ordered_only_when_an_end_of_day_is_over(make: Make, repeats: bool) -> None:
    """At a terminal that keeps its holds, and may not repeat how its day ended."""
    w = world(make, tariff=WITHOUT_IDLE, start=False)
    w.terminal.eod_open_holds, w.terminal.repeats_day = EodHolds.KEEPS, repeats
    w.start()
    w.run(3)
    tap(w)
    w.run(140)
    w.terminal.settle_s = 150.0
    w.terminal.eod_due = True
    w.until(lambda: "end_of_day" in w.terminal.commands, within_s=120)
    w.until_killed("end_of_day:answered", within_s=300)
    w.terminal.settle_s = 2.0
    if not repeats:
        w.terminal.last = None
    w.passes(3)
    w.start()
    w.run(5)
    assert not w.logged("outcome_still_unknown")
    all_leave(w)


def test_its_own_raise_is_no_proof_of_its_capture(make: Make) -> None:
    """The hold is gone before the capture came, and the last result has the very amount."""
    w = world(make, tariff=WITHOUT_IDLE)
    tap(w)
    w.until(lambda: w.session().raises == 1, within_s=600)
    w.terminal.settle_s = 60.0
    w.until(lambda: w.session().state is S.CAPTURING, within_s=HOUR_S)
    cost_minor = w.session().cost_minor
    last = w.terminal.last
    assert last is not None and last.evidence.amount is not None
    same = replace(last.evidence, amount=replace(last.evidence.amount, amount_minor=cost_minor))
    w.terminal.last = replace(last, evidence=same)
    w.kill()
    w.terminal.holds[0].open = False
    w.passes(3)
    w.start()
    w.run(30)
    assert w.session().state is S.UNRESOLVED
    assert w.session().captured_minor == 0


def test_a_hold_in_doubt_at_a_terminal_that_was_exchanged_keeps_nobody_waiting(make: Make) -> None:
    w = make(evses=(E1, E2))
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_killed("authorize:received")
    w.passes(3)
    w.terminal.terminal_id, w.terminal.last = "99999999", None
    w.terminal.holds.append(Hold(replace(w.terminal.next_ref(), receipt=17), 5000))
    w.start()
    w.run(10)
    assert w.logged("holds_matched")[-1]["foreign"] == [17], "it is looked at as any terminal"
    w.evses[E2].plug()
    w.run(3)
    w.terminal.tap(OTHER_CARD)
    w.run(10)
    assert [s.evse for s in w.sessions() if s.state is S.CHARGING] == [E2]
