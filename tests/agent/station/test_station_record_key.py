"""The whole station while the device that holds its record key goes away, comes back, or is another one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.key_faults import Device
from support.station_world import CARD, OTHER_CARD, World, charge

from agent.session import S
from agent.station.control import ControlRefused
from agent.trust import known_keys
from agent.trust.chain import verify_records
from agent.trust.jws import RECORD_TYP, parse
from agent.trust.keys import KeyRefused, KeySet, RecordKey

Make = Callable[..., World]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setattr("agent.station.station.record_key", lambda settings: device)
    return device


def kids(w: World) -> list[str]:
    """The key of every record, after all were verified with the keys the station has noted."""
    rows = w.agent.ledger._ledger.records(1, 1000)
    keys = known_keys.load(w.state / known_keys.NAME)
    report = verify_records([row.jws for row in rows], KeySet(keys))
    assert report.ok, report.json()
    return [parse(row.jws, RECORD_TYP).kid for row in rows]


def money(w: World) -> list[str]:
    return [m.kind for m in w.terminal.movements]


def pay(w: World, card: bytes = CARD) -> None:
    charge(w, card)
    w.terminal.tap(card)
    w.until_state(S.CLOSED)
    w.plant.unplug()
    w.run(10)


def taps_in_vain(w: World, card: bytes) -> None:
    """The driver goes away again."""
    known = len(w.sessions())
    w.terminal.tap(card)
    w.run(10)
    w.terminal.on_reader.clear()
    assert len(w.sessions()) == known


def pull(device: Device) -> RecordKey:
    key, device.key = device.key, None
    assert key is not None
    return key


# --- away while a session runs ------------------------------------------------------------------------


def test_what_a_session_owes_waits_for_the_token(make: Make, device: Device) -> None:
    w = make()
    charge(w)
    key = pull(device)
    w.terminal.tap(CARD)
    w.until_state(S.RECORDING)
    w.run(1200)
    assert w.session().state is S.RECORDING
    assert money(w) == ["hold"], "nothing is captured that is not signed"
    w.plant.unplug()
    w.run(10)
    assert "Out of order" in w.terminal.screen and "KEY-022" in w.terminal.screen
    taps_in_vain(w, OTHER_CARD)
    assert money(w) == ["hold"]
    (lost,) = w.logged("record_key_lost")
    assert lost["id"] == "KEY-022" and lost["level"] == "error"

    device.key = key
    w.until_state(S.CLOSED, within_s=61)
    assert money(w) == ["hold", "capture"] and set(kids(w)) == {key.kid}
    (back,) = w.logged("record_key_back")
    assert back["after_ms"] >= 1_200_000
    pay(w, OTHER_CARD)
    assert money(w) == ["hold", "capture"] * 2


def test_a_running_session_goes_on_without_the_token(make: Make, device: Device) -> None:
    w = make()
    charge(w)
    pull(device)
    w.run(120)
    assert w.agent.signing.trouble.startswith("KEY-022")
    assert w.session().state is S.CHARGING
    before = w.plant.delivered_wh
    w.run(600)
    assert w.plant.delivered_wh > before and w.session().state is S.CHARGING


@pytest.mark.parametrize("state", [S.RECORDING, S.SETTLED])
def test_a_restart_finds_what_is_owed(make: Make, device: Device, state: S) -> None:
    """The token goes before the session record, or before the settlement's."""
    w = make()
    charge(w)
    key = device.key
    w.agent.keeper.watch(lambda s: pull(device) if s.state is state and device.key else None)
    w.terminal.tap(CARD)
    w.until_state(state)
    w.run(30)
    w.kill()
    w.start()
    w.run(600)
    assert w.session().state is state and device.key is None
    device.key = key
    w.until_state(S.CLOSED, within_s=61)
    assert money(w) == ["hold", "capture"]
    assert [kind for kind, *_ in ledger_records(w)] == ["session", "settlement"]
    assert len(kids(w)) == 2


def ledger_records(w: World) -> list[tuple[str, str | None]]:
    return [(r.type, r.session_id) for r in w.agent.ledger._ledger.records(1, 1000)]


def test_the_end_of_the_service_does_not_wait_for_ever(make: Make, device: Device) -> None:
    w = make()
    charge(w)
    key = pull(device)
    begun = w.now_ms
    w.stop()
    assert w.now_ms - begun < 100_000
    assert any(e["id"] == "STA-008" for e in w.errors())
    assert money(w) == ["hold"]
    device.key = key
    w.start()
    w.until_state(S.CLOSED, within_s=61)
    assert money(w) == ["hold", "capture"]


def test_a_token_that_comes_back_as_another_one_leaves_no_gap(make: Make, device: Device) -> None:
    w = make()
    pay(w)
    charge(w, OTHER_CARD)
    old = pull(device)
    w.terminal.tap(OTHER_CARD)
    w.until_state(S.RECORDING)
    new = device.key = RecordKey.generate()
    w.until_state(S.CLOSED, within_s=120)
    assert kids(w) == [old.kid] * 2 + [new.kid] * 2
    assert [e["id"] for e in w.logged("record_key_changed")] == ["KEY-033"]


# --- away when nothing goes on ------------------------------------------------------------------------


def test_a_token_that_is_pulled_between_sessions_is_noticed(make: Make, device: Device) -> None:
    w = make()
    key = pull(device)
    w.run(65)
    assert "Out of order" in w.terminal.screen
    w.plant.plug()
    w.run(3)
    taps_in_vain(w, CARD)
    assert money(w) == []
    device.key = key
    w.run(65)
    w.plant.unplug()
    w.run(3)
    pay(w)
    assert money(w) == ["hold", "capture"]


def test_it_starts_without_the_token_and_tries_again_not_too_often(
    make: Make, device: Device
) -> None:
    key = pull(device)
    w = make()
    assert "KEY-022" in w.terminal.screen
    w.run(1200)
    assert 20 <= device.opened <= 30, "soon at first, then every minute"
    assert len(w.logged("record_key_lost")) == 1, "told once"
    found = w.request("status")["record_key"]
    assert found["trouble"].startswith("KEY-022") and found["kid"] is None
    device.key = key
    w.run(61)
    assert w.request("status")["record_key"] == {"kind": "pkcs11", "kid": key.kid, "trouble": ""}
    pay(w)
    assert set(kids(w)) == {key.kid}


def test_a_wrong_pin_stops_new_sessions_and_is_given_once(make: Make, device: Device) -> None:
    device.pin_is_wrong = True
    w = make()
    w.run(1200)
    assert device.pins == 1
    assert [e["id"] for e in w.logged("record_key_lost")] == ["KEY-023", "KEY-025"]
    taps_in_vain(w, CARD)
    device.pin_is_wrong = False
    w.run(61)
    pay(w)


def test_a_person_is_not_kept_waiting_for_a_token(make: Make, device: Device) -> None:
    w = make()
    pull(device)
    w.run(65)
    w.agent.keeper.set_aside["X"] = "charging"
    with pytest.raises(ControlRefused, match="KEY-02"):
        w.request("close", id="X", how="written_off", note="gone")


@pytest.mark.parametrize("error", [RuntimeError("broken"), OSError("gone"), TypeError("odd")])
def test_whatever_a_library_raises_does_not_end_the_station(
    make: Make, device: Device, error: Exception
) -> None:
    real = device.open

    def broken(*, by_person: bool = False) -> None:
        raise error

    device.open = broken  # type: ignore[assignment,method-assign]
    w = make()
    w.run(65)
    assert [e["id"] for e in w.logged("record_key_lost")] == ["KEY-027"]
    device.open = real  # type: ignore[method-assign]
    w.run(65)
    assert w.agent.signing.trouble == ""


# --- another key --------------------------------------------------------------------------------------


def test_a_key_that_was_changed_is_told_and_both_verify(make: Make, device: Device) -> None:
    w = make()
    pay(w)
    assert w.logged("record_key_changed") == []
    w.stop()
    w.start()
    w.run(3)
    assert w.logged("record_key_changed") == [], "the same key is no news"
    w.stop()
    old = device.key
    new = device.key = RecordKey.generate()
    w.start()
    w.run(3)
    (told,) = w.logged("record_key_changed")
    assert old is not None and (told["old"], told["new"]) == (old.kid, new.kid)
    assert told["id"] == "KEY-033" and told["level"] == "warning"
    pay(w, OTHER_CARD)
    assert kids(w) == [old.kid] * 2 + [new.kid] * 2
    assert [key.kid for key in known_keys.load(w.state / known_keys.NAME)] == [old.kid, new.kid]


def test_a_key_file_that_was_changed_is_told_too(make: Make) -> None:
    w = make()
    pay(w)
    w.stop()
    path = w.folder / "record-key.pem"
    path.unlink()
    RecordKey.generate().save(path)
    w.start()
    w.run(3)
    assert len(w.logged("record_key_changed")) == 1
    pay(w, OTHER_CARD)
    assert len(set(kids(w))) == 2


def test_a_book_that_cannot_be_written_stops_nothing(make: Make, device: Device) -> None:
    w = make(start=False)
    (w.state / (known_keys.NAME + ".new")).mkdir(parents=True)
    w.start()
    w.run(3)
    assert [e["id"] for e in w.errors()] == ["KEY-034"]
    charge(w)
    w.terminal.tap(CARD)
    w.until_state(S.CLOSED)


# --- what no waiting mends ----------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["KEY-020", "KEY-021"])
def test_a_missing_library_ends_the_start(make: Make, device: Device, code: str) -> None:
    def refuse(*, by_person: bool = False) -> None:
        raise KeyRefused(code, "no library", "install it")

    device.open = refuse  # type: ignore[assignment,method-assign]
    with pytest.raises(KeyRefused, match=code):
        make()


def test_a_key_file_that_cannot_be_used_ends_the_start(make: Make) -> None:
    w = make(start=False)
    (w.folder / "record-key.pem").write_text("no key")
    with pytest.raises(KeyRefused, match="KEY-003"):
        w.start()
