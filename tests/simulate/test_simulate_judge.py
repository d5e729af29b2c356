"""What the judge asks for: a cause of every unusual end, no delay, energy and time of each driver alone, and
the tariff by which a session began."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from simulate.energy import WHILE_DEAD
from simulate.fate import Kill
from simulate.place import Variant
from simulate.plan import Fault, Plan, Visit

HOURS = 2
WRITE_COIL = 5  # Modbus: how this charge controller is told


def visit(**changes: Any) -> Visit:
    usual = Visit(0, "visa", "plug_first", "unplug", 11_000, charge_s=10.0, gap_s=1.0)
    return Visit(**{name: changes.get(name, getattr(usual, name)) for name in usual.__slots__})


def one(**changes: Any) -> Plan:
    return Plan(1, Variant(), (visit(**changes),))


def codes(episode: Any) -> list[str]:
    return sorted({code for code, _ in episode.run().verdict.violations})


def tells(episode: Any, **changes: Any) -> Any:
    """The agent of this world says otherwise in the end."""
    ask = episode._ask_all

    def told() -> Any:
        answer = ask()
        for session in answer.sessions:
            session.update(changes)
        return answer

    episode._ask_all = told
    return episode


# --- A cause for everything -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "payment"),
    [
        ("unresolved", "refused"),
        ("unresolved", "unknown"),
        ("unresolved", "away"),
        ("unresolved", "foreign"),
        ("capture_due", "capture_due"),
        ("release_unclear", "unknown"),
        ("closed", "not_held"),
    ],
)
def test_nothing_ends_unusually_in_a_world_without_trouble(
    rig: Any, state: str, payment: str
) -> None:
    assert "no_cause" in codes(tells(rig.episode(one()), state=state, payment=payment))


def test_a_card_that_is_refused_is_a_cause_by_itself(rig: Any) -> None:
    episode = rig.episode(one(card="no_credit"))
    assert codes(episode) == []
    other = tells(rig.episode(one(card="no_credit")), refusal={"code": "9c"})
    assert codes(other) == ["no_cause"]


def test_trouble_at_another_terminal_explains_nothing(rig: Any) -> None:
    variant = Variant(connectors=2, terminals=2)
    # Bit 12 says which one: the second.
    refuses = Fault("terminal_refuses", 1, 0.1, 60.0, amount=4096, what="capture 05 1")
    lock = Fault("terminal_lock", 1, 0.1, 60.0, amount=4096)
    episode = rig.episode(Plan(1, variant, (visit(end="tap", stays_s=8.0),), (refuses, lock)))
    assert codes(tells(episode, state="unresolved", payment="refused")) == [
        "no_cause",
        "session_not_listed",
    ]


def test_a_refusing_terminal_is_the_cause_of_what_is_owed(rig: Any) -> None:
    refuses = Fault("terminal_refuses", 1, 0.1, 60.0, what="capture 05 1")
    stays = visit(end="tap", stays_s=8.0)  # as peace begins when all have left
    result = rig.run(Plan(1, Variant(), (stays,), (refuses,)))
    assert result.verdict.violations == []
    assert result.verdict.classes["unresolved: refused"] == result.verdict.classes["owed"] == 1


def test_what_is_due_must_have_been_tried_again(rig: Any) -> None:
    """A try that is a minute away is waited for before anything is judged."""
    not_now = Fault("terminal_refuses", 1, 0.1, 60.0, what="capture 9c 2")
    episode = rig.episode(Plan(1, Variant(), (visit(end="tap", stays_s=8.0),), (not_now,)))
    result = episode.run()
    assert result.verdict.violations == []
    assert result.verdict.classes == {"captured": 1}
    (session,) = episode.world.chronicle.sessions
    assert len(episode.world.chronicle.story(session).entered("capturing")) == 2


# --- At once, and by the schedule -----------------------------------------------------------------


@pytest.mark.parametrize("order", ["no_plug", "plug_first"])
def test_a_hold_that_nobody_needs_ends_at_once(rig: Any, order: str) -> None:
    episode = rig.episode(one(order=order))
    acquirer = episode.world.terminal.acquirer
    ask = episode._ask_all

    def later() -> Any:
        acquirer.booked_ms[-1] += 45_000
        return ask()

    episode._ask_all = later
    assert codes(episode) == ["late"]


def test_by_the_minute_then_by_the_hour_and_nobody_is_asked_too_often(rig: Any) -> None:
    not_now = Fault("terminal_refuses", 1, 0.1, 7_000.0, what="capture 9c 7")
    episode = rig.episode(Plan(1, Variant(peace_h=HOURS), (visit(),), (not_now,)))
    result = episode.run()
    assert result.verdict.violations == []
    assert result.verdict.classes == {"captured": 1}
    (session,) = episode.world.chronicle.sessions
    story = episode.world.chronicle.story(session)
    tried = story.entered("capturing")
    pauses = [(after - before) // 60_000 for before, after in pairwise(tried)]
    assert pauses == [1, 1, 1, 1, 1, 60, 60]
    assert result.virtual_s > HOURS * 3_600


def test_more_questions_than_one_chain_of_them_are_too_many(rig: Any) -> None:
    episode = rig.episode(one())
    ask = episode._ask_all

    def asked() -> Any:
        at_ms = episode.world.peace_ms
        episode.world.chronicle.asked["t1"] = [at_ms + n * 40_000 for n in range(90)]
        return ask()

    episode._ask_all = asked
    assert codes(episode) == ["asks_too_often"]


# --- Energy and time ------------------------------------------------------------------------------


def test_too_much_energy_is_excused_by_nothing(rig: Any) -> None:
    silent = Fault("meter_fault", 1, 8.0, 60.0, amount=130)
    plain = rig.episode(Plan(1, Variant(), (visit(charge_s=45.0),), (silent,)))
    begin_wh = 104_211
    told = tells(
        plain, begin_wh=begin_wh, end_wh=begin_wh + 500, energy_wh=500, end_quality="last_durable"
    )
    assert "energy_overbilled" in codes(told)


def test_less_energy_needs_a_last_reading_and_a_reason_for_it(rig: Any) -> None:
    begin_wh = 104_211
    told = {"begin_wh": begin_wh, "end_wh": begin_wh, "energy_wh": 0}
    for quality in ("confirmed", "last_durable"):
        episode = tells(rig.episode(one()), **told, end_quality=quality)
        assert "energy_truth_differs" in codes(episode)


def _comes_behind(rig: Any) -> Any:
    """The agent has seen the plug go, its withdrawal is lost, and it dies before the next one; another
    car is plugged in."""
    first = visit(charge_s=15.0)
    second = visit(order="no_tap", load_w=22_000, charge_s=60.0)
    dies = Kill(1, "stopping", "bus_send", 1, False, 30.0)
    episode = rig.episode(Plan(1, Variant(), (first, second), (), (dies,)))
    cable, plant = episode.world.bus_cable, episode.world.charger.connectors[0].plant
    heard = cable.to_device

    def deaf(data: bytes) -> None:
        lost = data[1] == WRITE_COIL and plant.energy_mwh and not plant.plugged
        heard(b"" if lost else data)

    cable.to_device = deaf
    return episode


def test_energy_that_flows_while_the_agent_is_dead_is_charged_to_nobody(rig: Any) -> None:
    episode = _comes_behind(rig)
    result = episode.run()
    assert result.verdict.violations == []
    assert result.verdict.classes[WHILE_DEAD] == 1
    assert result.verdict.classes["captured"] == 1
    (span,) = [s for s in episode.world.chronicle.dead[0] if s.to_mwh != s.from_mwh]
    assert span.to_mwh - span.from_mwh > 50_000


def test_the_driver_who_left_does_not_pay_for_the_next_car(rig: Any) -> None:
    episode = _comes_behind(rig)
    ask = episode._ask_all

    def told() -> Any:
        answer = ask()
        flowed_wh = episode.world.charger.connectors[0].plant.energy_mwh // 1_000
        for session in answer.sessions:
            session["energy_wh"], session["end_wh"] = flowed_wh, session["begin_wh"] + flowed_wh
        return answer

    episode._ask_all = told
    assert "energy_of_another" in codes(episode)


def test_undisturbed_time_is_charged_in_full(rig: Any) -> None:
    timed = Plan(1, Variant(timed=True), (visit(charge_s=25.0),))
    assert codes(rig.episode(timed)) == []
    assert "time_lost" in codes(tells(rig.episode(timed), charging_ms=5_000))


# --- Tariffs --------------------------------------------------------------------------------------


def test_a_session_is_priced_by_the_tariff_it_began_by(rig: Any) -> None:
    """The file is changed while the first car charges; the agent dies, and comes back with another tariff."""
    changes = Fault("tariff_changes", 1, 5.0, 60.0)
    dies = Kill(1, "charging", "bus_send", 9, False, 3.0)
    visits = (visit(charge_s=25.0), visit(gap_s=6.0))
    episode = rig.episode(Plan(1, Variant(), visits, (changes,), (dies,)))
    result = episode.run()
    assert result.verdict.violations == []
    assert result.verdict.classes["captured"] == 2
    assert [tariff for _, tariff in episode.world.chronicle.lives] == [0, 1]


def test_the_wrong_tariff_is_seen(rig: Any) -> None:
    episode = rig.episode(one())
    ask = episode._ask_all

    def told() -> Any:
        lives = episode.world.chronicle.lives
        lives[:] = [(at_ms, 1) for at_ms, _ in lives]  # the judge believes it was the later one
        return ask()

    episode._ask_all = told
    assert "price_differs" in codes(episode)
