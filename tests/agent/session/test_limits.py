"""Limits that a driver or the back end sets: pure, so every combination is cheap to try."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from support.session_events import HOLD, Story, reach, stamp

from agent.session import E, S, fold
from agent.session.limits import (
    ENERGY_REACHED,
    KINDS,
    MOST,
    TAKES_LIMITS,
    TIME_REACHED,
    asked,
    binding,
    cost_reason,
    reached,
    spendable_minor,
)

VALUES = (None, 1, 700, 5000, 9000)


def charging(*limits: dict[str, Any]) -> Story:
    story = reach(S.CHARGING)
    for data in limits:
        story.tell(E.LIMITED, data)
    return story


@pytest.mark.parametrize("kind", KINDS)
def test_of_each_kind_the_lower_binds_whoever_set_it(kind: str) -> None:
    for driver, back_end in itertools.product(VALUES, VALUES):
        by = {"driver": driver, "back_end": back_end}
        told = [{"by": who, kind: value} for who, value in by.items() if value is not None]
        for order in itertools.permutations(told):
            known = [v for v in by.values() if v is not None]
            expected = {kind: min(known)} if known else {}
            assert binding(charging(*order).session) == expected


def test_a_limit_may_be_raised_and_lowered_but_not_taken_away() -> None:
    story = charging({"by": "driver", "max_energy_wh": 5000, "max_time_s": 60})
    story.tell(E.LIMITED, {"by": "driver", "max_energy_wh": 9000})
    assert binding(story.session) == {"max_energy_wh": 9000, "max_time_s": 60}
    story.tell(E.LIMITED, {"by": "driver", "max_energy_wh": 10})
    assert binding(story.session) == {"max_energy_wh": 10, "max_time_s": 60}
    for nothing in ({}, {"max_energy_wh": None}, {"max_soc": 80}):
        story.refuse(E.LIMITED, {"by": "driver", **nothing})


def test_told_again_it_is_refused_so_that_it_is_stored_once() -> None:
    told = {"by": "driver", "max_cost_minor": 1000}
    story = charging(told).refuse(E.LIMITED, told)
    story.tell(E.LIMITED, told | {"by": "back_end"})  # another side's word is news
    assert binding(story.session) == {"max_cost_minor": 1000}


def test_taken_while_energy_may_still_flow_and_no_longer() -> None:
    for state in S:
        story = reach(state)
        if state in TAKES_LIMITS:
            assert story.tell(E.LIMITED).state is state, "it moves nothing by itself"
            assert story.owed is None
        else:
            story.refuse(E.LIMITED)


def test_a_limit_set_before_the_hold_binds_after_it() -> None:
    story = reach(S.AUTHORIZING).tell(E.LIMITED, {"by": "driver", "max_cost_minor": 900})
    story.all(E.APPROVED, E.HELD, E.BEGAN)
    assert story.session.held_minor == 5000 and HOLD["receipt"] == story.session.hold["receipt"]
    assert spendable_minor(story.session) == 900
    assert spendable_minor(fold("S1", story.events)) == 900, "and after a restart"


@pytest.mark.parametrize(
    ("limit", "spendable", "reason"),
    [
        (None, 5000, "limit"),
        (5001, 5000, "limit"),
        (5000, 5000, "cost limit"),
        (1, 1, "cost limit"),
    ],
)
def test_a_limit_never_widens_the_hold(limit: int | None, spendable: int, reason: str) -> None:
    told = [] if limit is None else [{"by": "back_end", "max_cost_minor": limit}]
    session = charging(*told).session
    assert (spendable_minor(session), cost_reason(session)) == (spendable, reason)


def test_the_first_one_reached_gives_its_own_reason() -> None:
    story = charging({"by": "driver", "max_energy_wh": 5000, "max_time_s": 600})
    began = story.session.began_at
    assert began is not None
    before, due = stamp(began.boot_ms + 599_999), stamp(began.boot_ms + 600_000)
    assert reached(story.session, 4999, before) == ""
    assert reached(story.session, 5000, before) == ENERGY_REACHED
    assert reached(story.session, 4999, due) == TIME_REACHED
    assert reached(reach(S.CHARGING).session, MOST, due) == "", "none is set"


def test_time_goes_on_through_a_reboot_by_the_wall_clock() -> None:
    story = charging({"by": "back_end", "max_time_s": 600})
    assert reached(story.session, 0, stamp(605_000, "boot-2")) == TIME_REACHED
    assert reached(story.session, 0, stamp(300_000, "boot-2")) == ""


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"max_soc": 80}, "max_soc cannot be limited here; expected one or more of max_cost_minor"),
        ({}, "no limit is named"),
        ({"max_time_s": 0}, "max_time_s is 0; expected a whole number from 1 to 1000000000"),
        ({"max_time_s": -1}, "max_time_s is -1"),
        ({"max_cost_minor": 10.0}, "max_cost_minor is 10.0"),
        ({"max_cost_minor": True}, "max_cost_minor is True"),
        ({"max_energy_wh": "10"}, "max_energy_wh is '10'"),
        ({"max_energy_wh": None}, "max_energy_wh is None"),
        ({"max_energy_wh": MOST + 1}, "max_energy_wh is 1000000001"),
        ({"by": "nobody", "max_time_s": 5}, "by is 'nobody'; expected one of driver, back_end"),
    ],
)
def test_a_request_that_cannot_be_kept_is_refused(request_: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        asked({"do": "limit", "session": "S1"} | request_)
    assert str(refused.value).startswith(why)


def test_a_request_becomes_the_event_s_data() -> None:
    request = {"do": "limit", "session": "S1", "max_cost_minor": 900, "max_time_s": 60}
    assert asked(request) == {"by": "driver", "max_cost_minor": 900, "max_time_s": 60}
    assert asked(request | {"by": "back_end"})["by"] == "back_end"
