"""What stays unknown needs something that hides it: a death of the agent does not, as the terminal is asked
when it is back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.session import Effect
from agent.station import till
from simulate.fate import Kill
from simulate.place import Variant
from simulate.plan import Fault, Plan, Visit
from simulate.scenarios import RAISING

# A doubt is listed after ten minutes, and asked about by the hour.
TEN_MINUTES_S, HOUR_S = 600.0, 3_600.0


def visit(**changes: Any) -> Visit:
    usual = Visit(0, "visa", "plug_first", "unplug", 22_000, charge_s=40.0, gap_s=1.0)
    return replace(usual, **changes)


def dies(state: str, step: str, nth: int, number: int = 1) -> Kill:
    return Kill(number, state, step, nth, power=False, away_s=3.0)


IN_A_RAISE = Plan(1, RAISING, (visit(),), (), (dies("charging", "terminal_send", 2),))
IN_A_HOLD = Plan(1, Variant(), (visit(),), (), (dies("authorizing", "terminal_receive", 3),))


def deaf(monkeypatch: pytest.MonkeyPatch, effect: Effect) -> None:
    """No answer on this question is understood."""
    monkeypatch.setitem(till.JUDGES, effect, lambda session, answer: None)


def codes(result: Any) -> list[str]:
    return sorted({code for code, _ in result.verdict.violations})


@pytest.mark.parametrize(("plan", "ends"), [(IN_A_RAISE, "captured"), (IN_A_HOLD, "not_held")])
def test_after_a_death_the_terminal_tells(rig: Any, plan: Plan, ends: str) -> None:
    result = rig.run(plan)
    assert result.verdict.violations == []
    assert result.verdict.classes[ends] == 1
    assert result.virtual_s < TEN_MINUTES_S  # nobody waits where nothing is in doubt


@pytest.mark.parametrize(
    ("plan", "effect"), [(IN_A_RAISE, Effect.ASK_RAISE), (IN_A_HOLD, Effect.ASK_HOLD)]
)
def test_an_answer_that_is_not_understood_is_no_doubt(
    rig: Any, monkeypatch: pytest.MonkeyPatch, plan: Plan, effect: Effect
) -> None:
    """The world runs on until it is listed, and until it had to be asked about by the hour."""
    deaf(monkeypatch, effect)
    result = rig.run(plan)
    assert codes(result) == ["left_over", "no_cause"]
    assert result.virtual_s > TEN_MINUTES_S + HOUR_S


def test_trouble_that_hides_nothing_excuses_no_doubt(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf(monkeypatch, Effect.ASK_HOLD)
    slow = Fault("terminal_slow", 1, 0.1, 60.0, what="0.3")
    assert codes(rig.run(replace(IN_A_HOLD, faults=(slow,)))) == ["left_over", "no_cause"]


def test_a_terminal_that_was_away_is_asked_when_it_is_back(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it was off for a quarter of an hour explains the list, and not what is on it an hour later."""
    off = Fault("terminal_point", 1, 0.1, 60.0, what="reserve:host_asked 900")
    plan = Plan(1, Variant(peace_h=2), (visit(),), (off,))
    assert codes(rig.run(plan)) == []
    deaf(monkeypatch, Effect.ASK_HOLD)
    assert codes(rig.run(plan)) == ["left_over"]


def test_an_approval_that_the_terminal_took_back_may_stay_unknown(rig: Any) -> None:
    """It was stored, and the agent died before it said so: the terminal has no hold, and tells no more."""
    died = dies("approved", "terminal_send", 1)
    plan = Plan(
        1, Variant(), (visit(),), (Fault("disk_stall", 1, 0.05, 90.0, what="0.6"),), (died,)
    )
    result = rig.run(plan)
    assert result.verdict.violations == []
    assert result.verdict.classes["unresolved: unknown"] == 1


def test_a_no_from_before_the_raise_hides_nothing(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal repeats a declined card that somebody held up before the raise was ordered: nothing was
    booked since."""
    deaf(monkeypatch, Effect.ASK_RAISE)
    two = replace(RAISING, connectors=2)
    visits = (visit(charge_s=70.0), visit(connector=1, card="decline", gap_s=9.0))
    found: set[str] = set()
    for nth in range(40, 50):  # one of these falls between the order and the command
        died = dies("charging", "terminal_send", nth, number=2)
        found.update(codes(rig.run(Plan(1, two, visits, (), (died,)))))
        if found:
            break
    assert found == {"left_over", "no_cause"}
