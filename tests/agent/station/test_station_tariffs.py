"""A session is priced by the tariff it began by, also when the file says something else after a restart."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from support.station_world import CARD, World, charge, one_end_each

from agent.ledger import LedgerFull
from agent.session import S
from agent.station.tariffs import KEY

Make = Callable[..., World]


def change_prices(w: World) -> None:
    path = w.folder / "tariff.yaml"
    before = path.read_text()
    after = before.replace("0.4900", "4.9000").replace('"0.35"', '"9.99"')
    assert after != before
    path.write_text(after)


def test_prices_that_change_during_a_session_count_from_the_next_one_on(make: Make) -> None:
    w = make()
    charge(w, seconds=60)
    w.kill()
    change_prices(w)
    w.start()
    w.run(20)
    w.terminal.tap(CARD)
    first = w.until_state(S.CLOSED)
    assert first.cost_minor == 35 + round(first.energy_wh * 49 / 1000)
    w.plant.unplug()
    w.run(15)
    charge(w, seconds=60)
    w.terminal.tap(CARD)
    second = w.until_state(S.CLOSED)
    assert second.cost_minor is not None and second.cost_minor > 999
    one_end_each(w)


def test_without_its_prices_a_session_is_left_to_a_person(make: Make) -> None:
    w = make()
    charge(w, seconds=60)
    session = w.session()
    w.loop.run_until_complete(w.agent.ledger.meta_set(KEY, "{}"))
    w.kill()
    change_prices(w)
    w.start()
    w.run(30)
    assert w.agent.keeper.set_aside == {session.id: str(session.state)}
    assert not w.plant.released and w.terminal.count("capture") == 0
    assert any(line["id"] == "STA-047" for line in w.errors())
    w.request("close", id=session.id, how="written_off", note="prices lost")
    assert w.agent.keeper.set_aside == {}


def test_on_a_full_disk_the_prices_are_kept_when_there_is_room(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = make()
    charge(w, seconds=20)
    w.kill()
    change_prices(w)
    w.start()
    ledger, keep = w.agent.ledger, w.agent.ledger.meta_set
    w.loop.run_until_complete(keep(KEY, "{}"))

    async def full(*_: object) -> None:
        raise LedgerFull("LED-008", "the disk is full")

    monkeypatch.setattr(ledger, "meta_set", full)
    w.agent.tariffs.name = ""
    w.run(70)
    assert w.agent.tariffs.name == ""
    monkeypatch.setattr(ledger, "meta_set", keep)
    w.run(70)
    kept = json.loads(w.loop.run_until_complete(ledger.meta_get(KEY)) or "{}")
    assert w.agent.tariffs.name in kept and len(kept) == 2
