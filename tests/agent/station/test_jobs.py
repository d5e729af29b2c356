"""The order of money work at one terminal, and what waits for another session's doubt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from agent.session import Effect, S, Session
from agent.session.raises import R
from agent.station import jobs
from agent.station.jobs import Jobs
from agent.station.keeper import Keeper
from agent.station.till import Till

TID = "52523535"


@dataclass
class Held:
    """A keeper that has these sessions, all at one terminal."""

    sessions: dict[str, Session] = field(default_factory=dict)

    def at_terminal(self, _: str) -> list[Session]:
        return list(self.sessions.values())


@dataclass
class Known:
    id: str = "t1"
    connected_id: str = TID


def of(*sessions: Session) -> Jobs:
    held = Held({s.id: s for s in sessions})
    return Jobs(cast(Till, Known()), cast(Keeper, held), lambda: None)


def done(todo: Jobs) -> list[tuple[str, Effect] | None]:
    found = []
    while todo:
        job = todo.next()
        found.append(None if job is None else (job[0].id, job[1]))
    return found


CAPTURING = Session("capturing", state=S.CAPTURING, terminal="t1")
RELEASING = Session("releasing", state=S.RELEASING, terminal="t1")
UNCLEAR = Session("unclear", state=S.CAPTURE_UNCLEAR, terminal="t1")
RAISING = Session("raising", state=S.CHARGING, terminal="t1", raising=R.ORDERED)


def test_questions_and_raises_first_then_as_they_came() -> None:
    todo = of(CAPTURING, RELEASING, UNCLEAR)
    for session, effect in (
        (CAPTURING, Effect.CAPTURE),
        (RELEASING, Effect.RELEASE),
        (CAPTURING, Effect.CAPTURE),
        (UNCLEAR, Effect.ASK_CAPTURE),
    ):
        todo.order(session.id, effect)
    assert done(todo) == [
        ("unclear", Effect.ASK_CAPTURE),
        ("capturing", Effect.CAPTURE),
        ("releasing", Effect.RELEASE),
    ]


def test_what_is_not_owed_any_more_is_dropped() -> None:
    todo = of(CAPTURING)
    todo.order("capturing", Effect.RELEASE)
    todo.order("gone", Effect.CAPTURE)
    assert done(todo) == [None, None]


def test_a_raise_goes_before_what_was_stored_while_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "HELD_BACK_S", 0.01)

    async def run() -> None:
        todo = of(CAPTURING, RAISING)
        todo.order("capturing", Effect.CAPTURE)
        todo.order("raising", Effect.RAISE)
        assert done(todo) == [("raising", Effect.RAISE), None], "the other one is held back"
        async with asyncio.timeout(2):
            while not todo:
                await asyncio.sleep(0.001)
        todo.stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("session", "held_back"),
    [
        (Session("x", terminal="t1", state=S.CHARGING, raising=R.UNCLEAR), True),
        (Session("x", terminal="t1", state=S.RAISE_OPEN, raising=R.APPROVED), True),
        (Session("x", terminal="t1", state=S.CHARGING, raising=R.LOST), False),
        (Session("x", terminal="t1", state=S.CHARGING), False),
        (
            Session("x", terminal="t1", raising=R.UNCLEAR, hold={"terminal_id": "99999999"}),
            False,
        ),
    ],
)
def test_whose_doubt_holds_others_back(session: Session, held_back: bool) -> None:
    async def run() -> None:
        todo = of(CAPTURING, session)
        todo.order("capturing", Effect.CAPTURE)
        assert (done(todo) == [None]) is held_back
        todo.stop()

    asyncio.run(run())
