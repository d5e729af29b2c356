"""When the dialogue with the terminal breaks, or the disk is slow: nothing is sent twice, nothing is
forgotten, every hold ends once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from support.station_world import CARD, OTHER_CARD, World, charge, one_end_each

from agent.ledger import LedgerError
from agent.session import E, S

Make = Callable[..., World]
HOUR_S = 3600.0


def tap_to_stop(w: World) -> None:
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(S.CAPTURING, S.CAPTURE_DUE, S.CAPTURE_UNCLEAR)


# --- rule 14: a commit that fails or is late while the terminal waits -----------------------------------


class SlowAppend:
    """The ledger's append of one event, made slow or failing."""

    def __init__(self, w: World, event: E, monkeypatch: pytest.MonkeyPatch) -> None:
        self.delay_s, self.error = 0.0, None
        self.calls = 0
        real = w.agent.ledger.append

        async def append(row: Any, **more: Any) -> None:
            if row.name == event:
                self.calls += 1
                if self.error is not None:
                    error, self.error = self.error, None
                    raise error
                delay_s, self.delay_s = self.delay_s, 0.0
                if delay_s:
                    await asyncio.sleep(delay_s)
            await real(row, **more)

        monkeypatch.setattr(w.agent.ledger, "append", append)


def test_the_evidence_of_a_hold_cannot_be_stored(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make()
    slow = SlowAppend(w, E.APPROVED, monkeypatch)
    slow.error = LedgerError("LED-012", "refused for this test")
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert slow.calls == 1
    assert done.outcome == "not_held" and "release" not in w.plant.commands
    assert [m.kind for m in w.terminal.movements] == ["hold", "auto_reversal"]
    asked = [c for c in w.terminal.commands if c != "identify"]
    asked = asked[asked.index("authorize") :]
    assert asked[:4] == ["authorize", "connect", "last_result", "open_holds"], "not guessed"
    assert w.terminal.commands.count("authorize") == 1
    assert {"STA-026", "TRM-003"} <= {e["id"] for e in w.errors()}
    one_end_each(w)


def test_the_evidence_of_a_hold_is_stored_too_late(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit that was given up still happens: memory and disk must agree on it."""
    w = make()
    SlowAppend(w, E.APPROVED, monkeypatch).delay_s = 5.0
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    names = w.event_names()
    assert names[:3] == ["tapped", "approved", "unclear"]
    assert done.outcome == "cancelled"
    one_end_each(w)


def test_the_evidence_of_a_capture_is_stored_too_late(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make()
    charge(w)
    SlowAppend(w, E.EVIDENCE, monkeypatch).delay_s = 5.0
    w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert "still_open" in w.event_names(), "the terminal undid it, so it was sent again"
    assert w.terminal.amounts("capture") == [done.cost_minor]
    one_end_each(w)


def test_a_cancelled_tell_still_commits(make: Make) -> None:
    w = make()
    charge(w)

    async def give_up() -> None:
        task = asyncio.ensure_future(
            w.agent.keeper.tell(w.session().id, E.STOP, {"reason": "test"})
        )
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert w.loop is not None
    w.loop.run_until_complete(give_up())
    w.run(0.1)
    assert w.session().state is S.STOPPING
    assert w.agent.keeper.sessions[w.session().id].state is S.STOPPING


# --- authorize ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "ends"),
    [("lost", "not_held"), ("lost_done", "captured"), ("lost_after", "captured")],
)
def test_a_hold_whose_dialogue_broke(make: Make, how: str, ends: str) -> None:
    w = make()
    w.terminal.script["authorize"].append(how)
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until(lambda: "unclear" in w.event_names() if w.sessions() else False)
    if ends == "captured":
        w.until_state(S.CHARGING)
        w.run(30)
        w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED)
    assert done.outcome == ends
    assert w.terminal.commands.count("authorize") == 1
    one_end_each(w)


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize(
    ("how", "ends"), [("lost", "not_held"), ("lost_done", "cancelled"), ("lost_after", "cancelled")]
)
def test_a_hold_in_doubt_at_a_terminal_that_is_long_away(
    make: Make, how: str, ends: str, restart: bool
) -> None:
    """It is listed after ten minutes. When the terminal is back, what it made is released, once and as the
    hold of its own session; nothing is charged."""
    w = make()
    w.terminal.script["authorize"].append(how)
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_state(S.HOLD_UNCLEAR)
    w.terminal.online = False
    w.until_state(S.UNRESOLVED, within_s=900)
    assert w.session().outcome == "unknown"
    w.run(10)
    if restart:
        w.kill()
        w.start()
    w.terminal.online = True
    done = w.until_state(S.CLOSED)
    assert len(w.sessions()) == 1 and done.outcome == ends
    assert w.terminal.amounts("release") == ([] if how == "lost" else [0])
    assert not w.terminal.count("capture") and "release" not in w.plant.commands
    one_end_each(w, settlements=2)


def test_a_hold_taken_back_while_the_terminal_was_away(make: Make) -> None:
    """Its evidence is stored, was never answered, and the terminal undid it."""
    w = make()
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.until_killed("authorize:stored")
    w.terminal.online = False
    w.start()
    w.until_state(S.UNRESOLVED, within_s=900)
    w.terminal.online = True
    assert w.until_state(S.CLOSED).outcome == "cancelled"
    one_end_each(w, settlements=2)


def test_a_hold_that_may_be_ours_is_not_called_nobodys_as_well(make: Make) -> None:
    """One hold, one place on the list; when a person took the session off, the hold stands there."""
    w = make()
    w.plant.plug()
    w.run(3)
    w.terminal.script["authorize"].append("lost_done")
    w.terminal.tap(CARD)
    w.until_state(S.HOLD_UNCLEAR)
    w.terminal.online = False
    w.until_state(S.UNRESOLVED, within_s=900)
    w.terminal.last = None  # nothing tells whose the open hold is
    w.terminal.online = True
    w.run(120)
    (listed,) = w.sessions()
    assert listed.state is S.UNRESOLVED and w.terminal.open_holds()
    assert w.request("status")["terminals"][0]["strange_holds"] == [231]
    w.request("close", id=listed.id, how="written_off", note="nobody came back")
    w.run(60)
    assert [(s.outcome, s.hold.get("receipt")) for s in w.sessions()[1:]] == [("foreign", 231)]


def test_the_driver_reads_that_the_payment_is_checked(make: Make) -> None:
    w = make()
    w.terminal.script["authorize"].append("lost_after")
    w.terminal.tap(CARD)
    w.until_state(S.HOLD_UNCLEAR)
    w.terminal.online = False
    w.run(20)
    w.terminal.online = True
    w.until(lambda: any("Checking payment" in " ".join(s) for s in w.terminal.screens) or True)
    w.until_state(S.HELD)
    assert w.terminal.commands.count("authorize") == 1


# --- capture and release --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["lost", "lost_done", "lost_after"])
@pytest.mark.parametrize("verb", ["capture", "release"])
def test_an_end_whose_dialogue_broke(make: Make, verb: str, how: str) -> None:
    w = make()
    w.terminal.script[verb].append(how)
    if verb == "capture":
        tap_to_stop(w)
    else:
        w.terminal.tap(CARD)
        w.until_state(S.HELD)
        w.terminal.tap(CARD)
    done = w.until_state(S.CLOSED, within_s=300)
    assert done.outcome == ("captured" if verb == "capture" else "cancelled")
    assert w.terminal.commands.count(verb) == (2 if how == "lost" else 1)
    assert w.terminal.count(verb) == 1
    one_end_each(w)


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_the_result_of_a_session_that_is_closed_confirms_no_other(
    make: Make, restart: bool
) -> None:
    """Two drivers, one amount. The second one's capture was never executed, and its hold is gone; what the
    terminal repeats is the first one's."""
    w = make()
    charge(w)
    w.terminal.tap(CARD)
    first, of_the_first = w.until_state(S.CLOSED), w.terminal.last
    w.plant.unplug()
    w.run(10)
    w.terminal.script["capture"].append("lost")
    charge(w, OTHER_CARD)
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.CAPTURING)
    assert w.session().to_capture_minor == first.captured_minor
    w.until(lambda: w.terminal.commands.count("capture") == 2)
    if restart:
        w.kill()
    w.terminal.holds[1].open, w.terminal.last = False, of_the_first
    if restart:
        w.start()
    second = w.until_state(S.UNRESOLVED)
    assert (second.outcome, second.captured_minor) == ("unknown", 0)
    assert w.terminal.count("capture") == 1


def test_not_executed_is_tried_again_on_the_schedule(make: Make) -> None:
    w = make()
    w.terminal.script["capture"].extend(["not_sent"] * 6)
    tap_to_stop(w)
    due = w.until_state(S.CAPTURE_DUE)
    began_ms = w.now_ms
    w.until(lambda: w.terminal.commands.count("capture") == 5, within_s=6 * 60)
    assert (w.now_ms - began_ms) // 60_000 == 4, "a minute apart"
    assert due.attempts == 1
    w.until_state(S.CLOSED, within_s=2 * HOUR_S)
    assert w.now_ms - began_ms > HOUR_S * 1000, "then hourly"
    assert w.terminal.commands.count("capture") == 7
    one_end_each(w)


def test_the_terminal_is_gone_before_the_capture(make: Make) -> None:
    w = make()
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(S.ENDING, S.RECORDING)
    w.terminal.online = False
    w.until_state(S.CAPTURING)
    w.run(45)
    assert w.agent.parts.desks["t1"].trouble
    assert len(w.logged("device_lost")) == 1
    w.terminal.online = True
    w.until_state(S.CLOSED, within_s=180)
    assert [line["after_ms"] // 10_000 for line in w.logged("device_back")] in ([4], [5], [6])
    assert w.terminal.commands.count("capture") == 1
    one_end_each(w)


def test_the_terminal_is_gone_during_the_capture(make: Make) -> None:
    w = make()
    charge(w)
    w.terminal.tap(CARD)
    w.until(lambda: "capture" in w.terminal.commands)
    w.terminal.online = False
    w.until_state(S.CAPTURE_UNCLEAR)
    w.run(45)
    w.terminal.online = True
    w.until_state(S.CLOSED, within_s=180)
    assert "still_open" in w.event_names()
    one_end_each(w)


def test_a_refused_capture_is_owed_and_not_sent_again(make: Make) -> None:
    w = make()
    w.terminal.script["capture"].append("declined")
    tap_to_stop(w)
    w.until_state(S.UNRESOLVED)
    w.run(HOUR_S + 60)
    found = w.session()
    assert found.outcome == "refused" and found.owed_minor == found.cost_minor
    assert w.terminal.commands.count("capture") == 1
    assert w.records()[-1] == ("settlement", found.id)


def test_a_vanished_hold_is_listed_and_asked_for_every_hour(make: Make) -> None:
    w = make()
    w.terminal.script["capture"].append("lost")
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(S.CAPTURING)
    w.terminal.holds[0].open = False  # somebody ended it at the terminal
    found = w.until_state(S.UNRESOLVED)
    assert found.outcome == "unknown"
    w.run(10)  # the open holds of the new link are looked through
    before = Counter(w.terminal.commands)["open_holds"]
    warnings = len(w.errors())
    w.run(2 * HOUR_S + 60)
    assert Counter(w.terminal.commands)["open_holds"] == before + 2
    assert len(w.errors()) == warnings, "no news is not told every hour"
    assert w.request("status")["open"][0]["payment"] == "unknown"
    w.terminal.holds[0].open = True
    w.until_state(S.CLOSED, within_s=HOUR_S + 60)
    one_end_each(w, settlements=2)


def test_a_terminal_that_does_not_name_every_hold_is_asked_until_it_can_be_told(make: Make) -> None:
    w = make()
    w.terminal.complete_list = False
    w.terminal.script["capture"].append("lost")
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(S.CAPTURING)
    w.terminal.holds[0].open = False
    w.until_state(S.CAPTURE_UNCLEAR)
    w.run(600)
    assert w.session().state is S.CAPTURE_UNCLEAR, "a short list proves nothing"
    assert 8 <= w.terminal.commands.count("open_holds") <= 12
    w.terminal.holds[0].open = True
    w.until_state(S.CLOSED)
    one_end_each(w)


@pytest.mark.parametrize("verb", ["capture", "authorize"])
def test_what_nobody_can_tell_is_asked_for_once_an_hour(make: Make, verb: str) -> None:
    """The terminal was exchanged: it answers, and knows nothing of it. One question is pending at a time,
    however often the link came up."""
    w = make()
    w.plant.plug()
    w.run(3)
    w.terminal.script[verb].append("lost")
    w.terminal.tap(CARD)
    if verb == "capture":
        w.until_state(S.CHARGING)
        w.run(30)
        w.terminal.tap(CARD)
    w.until(lambda: verb in w.terminal.commands)
    for _ in range(3):
        w.terminal.online = False
        w.until(lambda: bool(w.agent.parts.desks["t1"].trouble), within_s=90)
        w.terminal.terminal_id, w.terminal.online = "99999999", True
        w.until(lambda: not w.agent.parts.desks["t1"].trouble, within_s=90)
        w.run(90)
    w.until_state(S.UNRESOLVED, within_s=900)
    w.run(90)
    for _ in range(4):
        before = len(w.logged("outcome_still_unknown"))
        w.run(HOUR_S)
        assert len(w.logged("outcome_still_unknown")) == before + 1


def test_another_terminal_gets_no_capture_of_the_first_ones_hold(make: Make) -> None:
    """Receipt numbers are reused: at another terminal the same one may be somebody else's hold."""
    w = make()
    charge(w)
    w.terminal.online = False
    w.until(lambda: bool(w.agent.parts.desks["t1"].trouble), within_s=90)
    w.terminal.terminal_id, first = "99999999", w.terminal.terminal_id
    w.terminal.online = True
    w.plant.unplug()
    listed = w.until_state(S.UNRESOLVED, within_s=180)
    assert listed.outcome == "away" and listed.owed_minor == listed.cost_minor
    w.run(120)
    assert "capture" not in w.terminal.commands
    assert "STA-025" in {e["id"] for e in w.errors()}
    w.terminal.online = False
    w.run(90)
    w.terminal.terminal_id, w.terminal.online = first, True
    w.until_state(S.CLOSED, within_s=120)
    one_end_each(w, settlements=2)


def test_questions_go_before_commands(make: Make) -> None:
    """Two sessions of one terminal: the second one's capture would replace the last result, the only
    witness of how the first one's ended."""
    w = make(evses=("DE*ABC*E1", "DE*ABC*E2"))
    first, second = w.evses.values()
    for plant, card in ((first, CARD), (second, OTHER_CARD)):
        plant.plug()
        w.run(3)
        w.terminal.tap(card)
        w.until_state(S.CHARGING)
        w.run(5)
    w.terminal.script["capture"].append("lost_done")
    w.terminal.settle_s = 30  # so that the second one's is waiting when the first one's breaks
    first.unplug()
    w.until(lambda: "capture" in w.terminal.commands)
    second.unplug()
    w.until(lambda: w.sessions()[1].state is S.CAPTURING, within_s=20)
    assert w.terminal.commands.count("capture") == 1
    w.until(lambda: all(s.state is S.CLOSED for s in w.sessions()), within_s=300)
    assert [s.outcome for s in w.sessions()] == ["captured", "captured"]
    broke = w.terminal.commands.index("capture")
    after = [c for c in w.terminal.commands[broke + 1 :] if c not in ("identify", "connect")]
    assert after[:3] == ["last_result", "open_holds", "capture"]
    one_end_each(w)


@pytest.mark.parametrize("times", [1, 3])
def test_a_question_that_breaks_is_asked_again(make: Make, times: int) -> None:
    w = make()
    w.terminal.script["capture"].append("lost_after")
    w.terminal.script["last_result"].extend(["ok"] + ["lost"] * times)  # the first one at the tap
    tap_to_stop(w)
    done = w.until_state(S.CLOSED)
    assert done.outcome == "captured"
    assert w.terminal.commands.count("last_result") == 1 + times + 1
    one_end_each(w)


def test_strange_holds_are_reported_and_left_alone(make: Make) -> None:
    from support.fake_terminal import Hold

    w = make()
    w.terminal.holds.append(Hold(w.terminal.next_ref(), 1234))
    w.terminal.script["capture"].append("lost_after")
    tap_to_stop(w)
    w.until_state(S.CLOSED)
    assert w.agent.parts.desks["t1"].strange_holds == (231,)
    assert [e["id"] for e in w.errors() if e["event"] == "strange_holds"] == ["STA-027"]
    assert w.terminal.holds[0].open
