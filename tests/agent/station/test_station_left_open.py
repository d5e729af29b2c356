"""Holds that a person took off the list while they are open: none of their names is lost, whatever else is
told, stored or waited for at the same moment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from support.station_world import CARD, E1, E2, OTHER_CARD, World

from agent.ledger import AsyncLedger, LedgerFull
from agent.session import S
from agent.station.left_open import KEY
from agent.station.requests import Requests

Make = Callable[..., World]


def two_listed(w: World) -> list[str]:
    """Two sessions whose captures were refused."""
    w.terminal.script["capture"] += ["declined", "declined"]
    for plant, card in ((w.evses[E1], CARD), (w.evses[E2], OTHER_CARD)):
        plant.plug()
        w.run(3)
        w.terminal.tap(card)
        w.until_state(S.CHARGING)
        w.run(60)
        w.terminal.tap(card)
        w.until_state(S.UNRESOLVED)
        plant.unplug()
        w.run(10)
    return [s.id for s in w.sessions()]


def close_both(w: World, ids: list[str]) -> None:
    """At the same moment."""
    close = Requests(w.agent).handlers["close"]
    words = [close({"id": name, "how": "paid", "note": "by transfer"}) for name in ids]

    async def both() -> None:
        await asyncio.gather(*words)

    assert w.loop is not None
    w.loop.run_until_complete(both())
    w.run(5)


def stored(w: World) -> list[str]:
    names: list[str] = json.loads(w.agent.ledger._ledger.meta_get(KEY) or "[]")
    return names


def restart(w: World) -> None:
    w.kill()
    w.start()
    w.run(60)


def explained(w: World, ids: list[str]) -> None:
    assert [s.id for s in w.sessions()] == ids, "nobody else's is listed"
    assert not w.logged("strange_holds")
    assert w.terminal.count("release") == 0, "left to the person who closed them"


@pytest.mark.parametrize("foreign", ["report", "release"])
def test_two_that_are_closed_at_once_are_both_known_after_a_restart(
    make: Make, foreign: str
) -> None:
    w = make(evses=(E1, E2), terminal_more=f"foreign_holds: {foreign}")
    ids = two_listed(w)
    close_both(w, ids)
    assert sorted(stored(w)) == sorted(ids)
    restart(w)
    explained(w, ids)


def test_one_whose_record_waits_for_the_key_is_not_forgotten(make: Make) -> None:
    w = make(evses=(E1, E2))
    ids = two_listed(w)
    w.agent.signing._well.clear()  # as after the token was pulled
    for name in ids:
        w.request("close", id=name, how="paid", note="by transfer")
    assert {s.state for s in w.sessions()} == {S.SETTLED}
    assert stored(w) == ids
    w.agent.signing._well.set()
    w.run(10)
    assert {s.state for s in w.sessions()} == {S.CLOSED}
    restart(w)
    explained(w, ids)


def test_one_that_ends_takes_no_other_with_it(make: Make) -> None:
    """Its hold is not at the terminal any more, while the record of the other one waits."""
    w = make(evses=(E1, E2))
    first, second = two_listed(w)
    w.request("close", id=first, how="paid", note="by transfer")
    w.run(5)
    w.agent.signing._well.clear()
    w.request("close", id=second, how="paid", note="by transfer")
    w.terminal.holds[0].open = False
    w.terminal.online = False
    w.until(lambda: bool(w.agent.parts.desks["t1"].trouble), within_s=90)
    w.terminal.online = True
    w.until(lambda: first not in w.agent.keeper.left.sessions)
    w.agent.signing._well.set()
    w.run(10)
    assert stored(w) == [second]
    restart(w)
    explained(w, [first, second])


@pytest.mark.parametrize("full", [False, True], ids=["room", "full disk"])
def test_a_ledger_that_keeps_no_names_yet_gets_them(
    make: Make, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """Of the version before: the sessions that ended last are looked through once. A full disk keeps nobody
    from starting."""
    w = make(evses=(E1, E2))
    ids = two_listed(w)
    close_both(w, ids)
    ledger = w.agent.ledger._ledger
    ledger._db.execute("DELETE FROM meta WHERE key = ?", (f"user.{KEY}",))
    assert stored(w) == []
    w.kill()
    if full:
        keep = AsyncLedger.meta_set

        async def none(self: AsyncLedger, key: str, value: str) -> None:
            if key == KEY:
                raise LedgerFull("LED-008", "the disk is full")
            await keep(self, key, value)

        monkeypatch.setattr(AsyncLedger, "meta_set", none)
    w.start()
    w.run(30)
    assert sorted(stored(w)) == ([] if full else sorted(ids))
    explained(w, ids)
