"""Two things that must never be: energy without a hold and a permission to go on, and the code of a card that
outlives its session. Watched at every release and at every crash."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from support.fake_plant import Plant
from support.station_world import CARD, OTHER_CARD, World, charge, one_end_each

from agent.session import E, S

Make = Callable[..., World]


class Watch:
    """At each release the ledger must already say why: a completed hold and a begin reading, and, in a
    session that an earlier process began, the word to go on, given by this one."""

    def __init__(self, w: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.releases = 0
        self.started = 0  # when the present process began, on the boot-time clock
        was = Plant.release

        def release(plant: Plant) -> None:
            self.look(w)
            was(plant)

        monkeypatch.setattr(Plant, "release", release)

    def look(self, w: World) -> None:
        self.releases += 1
        session = w.agent.keeper.on_evse("DE*ABC*E1")
        assert session is not None, "energy for nobody"
        rows = w.agent.ledger._ledger.events(session.id)
        names = [row.name for row in rows]
        assert {E.HELD, E.HOLD_FOUND} & set(names) and E.BEGAN in names
        assert rows[-1].state in (S.STARTING, S.CHARGING, S.SUSPENDED)
        if E.RESTARTED in names[names.index(E.BEGAN) :]:
            last = max(n for n, row in enumerate(rows) if row.name == E.RESTARTED)
            assert rows[last].data.get("resume") is True, "not permitted to go on"
        born = w.logged("station_ready")
        began_here = any(row.name == E.BEGAN and row.stamp.boot_ms >= self.started for row in rows)
        resumed = [line for line in w.logged("session_resumed") if line["session"] == session.id]
        assert not born or began_here or resumed, "this process has not looked yet"


@pytest.mark.parametrize("case", ["long", "unplugged", "meter", "jump", "estop", "reboot", "dead"])
@pytest.mark.parametrize("released", [True, False], ids=["still on", "withdrawn"])
def test_what_may_not_go_on_gets_no_energy(
    make: Make, monkeypatch: pytest.MonkeyPatch, case: str, released: bool
) -> None:
    w = make()
    charge(w)
    w.kill()
    watch = Watch(w, monkeypatch)
    if not released:
        w.plant.withdraw()
    w.passes(400 if case == "long" else 20)
    if case == "unplugged":
        w.plant.unplug()
    if case == "meter":
        w.plant.serial = "SDM-2"
    if case == "jump":
        w.plant.begin_wh += 5_000
    if case == "estop":
        w.plant.press_estop()
    if case == "reboot":
        w.reboot()
    if case == "dead":
        w.plant.meter_answers = False
    watch.started = w.boot_ms()
    w.start()
    w.until_state(S.CLOSED, within_s=400)
    assert watch.releases == 0 and not w.plant.released
    one_end_each(w)


@pytest.mark.parametrize("seed", range(4))
def test_every_release_has_its_reason_in_the_ledger(
    make: Make, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Killed at random moments, with controllers that drop the release meanwhile or keep it."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    w = make()
    watch = Watch(w, monkeypatch)
    w.plant.plug()
    w.run(3)
    w.terminal.tap(CARD)
    for _ in range(4):
        w.run(rng.uniform(0.1, 15.0))
        w.kill()
        if rng.random() < 0.5:
            w.plant.withdraw()
        w.passes(rng.choice([1.0, 20.0, 301.0]))
        watch.started = w.boot_ms()
        w.start()
    w.run(10)
    w.plant.unplug()
    w.until(lambda: all(s.state is S.CLOSED for s in w.sessions()), within_s=300)
    one_end_each(w)


def macs(w: World) -> list[object]:
    return list(w.agent.ledger._ledger._db.execute("SELECT session FROM card"))


@pytest.mark.parametrize("state", [S.CLOSED, S.UNRESOLVED], ids=str)
def test_a_crash_at_the_end_leaves_no_code_of_a_card(make: Make, state: S) -> None:
    w = make()
    if state is S.UNRESOLVED:
        w.terminal.script["capture"].append("declined")
    charge(w)
    assert len(macs(w)) == 1
    w.terminal.tap(CARD)
    w.until_killed_in(state)
    w.start()
    w.run(2)
    assert w.session().state is state and macs(w) == []


@pytest.mark.parametrize("how", ["declined", "lost", "cancelled", "paid"])
def test_every_end_forgets_the_card(make: Make, how: str) -> None:
    w = make()
    w.plant.plug()
    w.run(3)
    if how in ("declined", "lost"):
        w.terminal.script["authorize"].append(how)
    if how == "cancelled":
        w.plant.unplug()
        w.run(3)
    w.terminal.tap(CARD)
    if how in ("cancelled", "paid"):
        w.until_state(S.HELD, S.CHARGING)
        assert len(macs(w)) == 1
        w.run(6)
        w.terminal.tap(OTHER_CARD)
        w.run(6)
        w.terminal.tap(CARD)
    w.until_state(S.CLOSED, within_s=700)
    assert macs(w) == []
