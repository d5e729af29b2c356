"""A session is priced by the tariff it began by, also when the file says something else after a restart."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from support.station_world import CARD, OTHER_CARD, World, charge, one_end_each

from agent.ledger import AsyncLedger, LedgerFull
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


NEWER = {
    "a rounding nobody knows": {"rounding": "of_a_newer_version"},
    "a price nobody knows": {"parking_by_night": ["1.00"]},
    "another price": {"energy": ["9.9900"]},
}


def kept(w: World) -> dict[str, str]:
    texts: dict[str, str] = json.loads(w.agent.ledger._ledger.meta_get(KEY) or "{}")
    return texts


@pytest.mark.parametrize("change", NEWER)
def test_prices_that_cannot_be_read_are_used_by_nobody_and_kept(make: Make, change: str) -> None:
    """A newer version wrote them, or they are damaged. Back on the version that can read them, the session
    ends by them as if nothing had been."""
    w = make()
    charge(w, seconds=60)
    session = w.session()
    good = kept(w)
    (name,) = good
    body = json.loads(good[name]) | NEWER[change]
    w.loop.run_until_complete(w.agent.ledger.meta_set(KEY, json.dumps({name: json.dumps(body)})))
    w.kill()
    change_prices(w)
    for _ in range(2):
        w.start()
        w.run(30)
        assert w.agent.keeper.set_aside == {session.id: str(session.state)}
        (listed,) = w.request("status")["aside"]
        assert (listed["id"], listed["aside"]) == (session.id, "no_tariff")
        assert json.loads(kept(w)[name]) == body and len(kept(w)) == 2
        w.kill()
    w.start()
    w.loop.run_until_complete(w.agent.ledger.meta_set(KEY, json.dumps(kept(w) | good)))
    w.kill()
    w.start()
    w.run(10)
    w.plant.unplug()
    done = w.until_state(S.CLOSED)
    assert abs((done.cost_minor or 0) - 35 - done.energy_wh * 49 / 1000) <= 1
    one_end_each(w)
    w.kill()
    w.start()
    assert name not in kept(w), "nobody needs them any more"


def test_prices_that_cannot_be_read_do_not_keep_a_person_from_closing(make: Make) -> None:
    w = make()
    charge(w, seconds=60)
    session = w.session()
    texts = dict.fromkeys(kept(w), "{}")
    w.loop.run_until_complete(w.agent.ledger.meta_set(KEY, json.dumps(texts)))
    w.kill()
    change_prices(w)
    w.start()
    w.run(10)
    w.request("close", id=session.id, how="written_off", note="prices lost")
    assert w.agent.keeper.set_aside == {}
    w.kill()
    w.start()
    assert texts.keys().isdisjoint(kept(w))


def test_damaged_prices_that_the_file_still_has_are_mended(make: Make) -> None:
    w = make()
    charge(w, seconds=60)
    good = kept(w)
    damaged = json.dumps(dict.fromkeys(good, "?"))
    w.loop.run_until_complete(w.agent.ledger.meta_set(KEY, damaged))
    w.kill()
    w.start()
    w.run(20)
    assert kept(w) == good and w.session().state is S.CHARGING


def test_no_session_begins_before_its_prices_are_kept(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They could not be stored although there is room; a changed file and a restart would re-price it."""
    keep = AsyncLedger.meta_set
    trouble = [True]

    async def fails(self: AsyncLedger, key: str, value: str) -> None:
        if key == KEY and trouble:
            raise LedgerFull("LED-008", "the disk is full for a moment")
        await keep(self, key, value)

    monkeypatch.setattr(AsyncLedger, "meta_set", fails)
    w = make()
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    w.run(200)
    assert w.sessions() == [] and w.terminal.count("hold") == 0
    assert "LED-008" in w.terminal.screen
    assert len(w.logged("tariff_not_kept")) == len(w.logged("disk_full")) == 1
    trouble.clear()
    w.run(70)
    assert w.logged("disk_has_room")
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.CHARGING)
    assert w.session().tariff_hash in kept(w)
    change_prices(w)
    w.run(60)
    w.kill()
    w.start()
    w.run(10)
    w.plant.unplug()
    done = w.until_state(S.CLOSED)
    assert done.cost_minor == 35 + round(done.energy_wh * 49 / 1000)
    one_end_each(w)


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
