"""A record says what is true when it is stored, not what was when it was begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from support.station_world import CARD, World, charge

from agent.session import E, S

Make = Callable[..., World]


def test_an_answer_that_comes_while_a_record_is_signed_is_in_a_record(make: Make) -> None:
    w = make()
    charge(w)
    w.terminal.script["capture"].append("lost")
    w.terminal.tap(CARD)
    session = w.until_state(S.CAPTURE_UNCLEAR)
    w.terminal.online = False
    head = w.agent.ledger.head

    async def slow() -> object:
        await asyncio.sleep(2)
        return await head()

    w.agent.ledger.head = slow  # type: ignore[method-assign,assignment]

    async def told() -> None:
        await w.agent.keeper.tell(session.id, E.VANISHED, {"why": "nobody knows it"})
        await asyncio.sleep(1)
        data = {"amount_minor": session.to_capture_minor, "result": {"receipt": 9}}
        await w.agent.keeper.tell(session.id, E.CONFIRMED, data)
        await asyncio.sleep(10)

    w.loop.run_until_complete(told())
    assert w.session().state is S.CLOSED
    assert [kind for kind, _ in w.records()] == ["session", "settlement"]
    assert w.payloads()[-1]["outcome"] == "captured"
