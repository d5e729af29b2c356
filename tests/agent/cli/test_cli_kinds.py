"""What a person reads of sessions of every kind: in 80 columns, with what a hotline asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.fake_terminal import Hold
from support.past_station import Answer
from support.station_world import CARD, E1, E2, OTHER_CARD, World, charge, world

from agent.ledger import Ledger
from agent.ports import HoldRef
from agent.session import S
from agent.values import Quality

Voltill = Callable[..., Answer]
FOREIGN_RECEIPT = 17


@dataclass(frozen=True)
class Kinds:
    """Session ids by what became of them; the station is stopped."""

    world: World
    of: dict[str, str]

    @property
    def state(self) -> Path:
        return self.world.state


def charged(w: World) -> str:
    charge(w, seconds=120)
    w.terminal.tap(CARD)
    w.until(lambda: w.session().state not in (S.CHARGING, S.STOPPING, S.ENDING, S.RECORDING))
    w.run(2)
    w.plant.unplug()
    w.run(10)
    return w.session().id


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kinds]:
    with world(tmp_path, monkeypatch, evses=(E1, E2)) as w:
        w.terminal.holds.append(Hold(HoldRef("52523535", FOREIGN_RECEIPT), 5000))
        w.start()
        w.run(5)
        of = {"foreign": w.session().id}
        of["captured"] = charged(w)
        w.terminal.script["authorize"].append("declined")
        w.terminal.tap(OTHER_CARD)
        w.run(15)
        of["declined"] = w.session().id
        w.terminal.script["capture"].append("declined")
        of["refused"] = charged(w)
        w.terminal.script["capture"].extend(["not_sent"] * 100)
        of["due"] = charged(w)
        w.quality = Quality.RESTORED
        charge(w, OTHER_CARD)
        of["charging"] = w.session().id
        w.kill()
        yield Kinds(w, of)


def test_every_line_fits(voltill: Voltill, kinds: Kinds) -> None:
    where = ("--state", kinds.state)
    texts = [voltill("status", *where).out, voltill("sessions", "list", *where).out]
    texts += [voltill("sessions", "show", each, *where).out for each in kinds.of.values()]
    for text in texts:
        print(text)
        assert [line for line in text.splitlines() if len(line) > 80] == []


def euro(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02d} EUR"


def test_status_says_why_how_much_and_what_a_hotline_asks(voltill: Voltill, kinds: Kinds) -> None:
    found = voltill("status", "--state", kinds.state, "--json").json
    rows = {row["id"]: row for row in found["open"]}
    text = voltill("status", "--state", kinds.state).out
    story = {part.split()[0]: part for part in text.split("  session ")[1:]}
    assert set(story) == set(rows)
    refused, due = kinds.of["refused"], kinds.of["due"]
    owed = rows[refused]["owed_minor"]
    assert re.match(
        rf"{refused} {euro(owed)} for .*, unresolved \(charge refused\)\n", story[refused]
    )
    assert "declined, code 05: declined by the issuer\n" in story[refused]
    receipt = rows[refused]["receipt"]
    assert f"t1: TID 52523535, receipt {receipt:04d}, trace " in story[refused]
    assert "batch 12, girocard card ...1234\n" in story[refused]
    charge_minor = rows[due]["to_capture_minor"]
    assert 0 < charge_minor < 5000
    assert re.search(rf"{euro(charge_minor)} to charge, 2 tries, the next in \d+ min\n", story[due])
    assert "the terminal is busy\n" in story[due]
    foreign = story[kinds.of["foreign"]]
    assert (
        f"{kinds.of['foreign']} unknown amount for " in foreign
        and "0.00" not in foreign.split("\n")[0]
    )
    assert "  1 of unknown amount\n" in text


def test_the_list_tells_a_declined_card_from_a_refused_capture(
    voltill: Voltill, kinds: Kinds
) -> None:
    lines = voltill("sessions", "list", "--state", kinds.state).out.splitlines()
    ends = {line.split()[0]: line[line.index(":") + 3 :].split() for line in lines[1:-1]}
    assert ends[kinds.of["declined"]][1:] == ["declined"]
    kwh, owed, *how = ends[kinds.of["refused"]]
    assert how == ["charge", "refused"] and re.fullmatch(r"0\.\d\d", owed) and float(kwh) > 0
    assert ends[kinds.of["foreign"]][1:] == ["nobody's", "hold"]
    assert ends[kinds.of["captured"]][2:] == ["captured"]


def test_the_story_has_date_clock_and_references(voltill: Voltill, kinds: Kinds) -> None:
    where = ("--state", kinds.state)
    refused = voltill("sessions", "show", kinds.of["refused"], *where).out
    assert (
        "  payment   charge refused\n            declined, code 05: declined by the issuer\n"
        in refused
    )
    assert re.search(
        r"    TID 52523535, receipt 0\d+, trace \d+, batch 12, girocard card \.\.\.1234\n", refused
    )
    assert re.search(r"   1  2026-11-20 18:\d\d:\d\d\.\d{3}   tapped ", refused)
    assert "~" not in refused
    restored = voltill("sessions", "show", kinds.of["charging"], *where).out
    assert re.search(r"   1  2026-11-20 19:\d\d:\d\d\.\d{3}~  tapped ", restored)
    assert "was not set by a time server" in restored
    declined = voltill("sessions", "show", kinds.of["declined"], *where).out
    assert "  payment   declined\n            declined, code 05" in declined


def test_an_id_is_read_as_people_write_it(voltill: Voltill, kinds: Kinds) -> None:
    where = ("--state", kinds.state, "--json")
    session = kinds.of["captured"]
    for typed in (session.lower(), session.replace("1", "l").replace("0", "O"), f" {session} "):
        assert voltill("sessions", "show", typed, *where).json["id"] == session


def test_a_session_that_cannot_be_read_is_shown_as_far_as_it_can(
    voltill: Voltill, kinds: Kinds
) -> None:
    ledger = Ledger.open(kinds.state / "ledger.db", None, create=False)
    ledger._db.execute("UPDATE event SET name = 'of_tomorrow' WHERE name = 'began'")
    ledger.close()
    where = ("--state", kinds.state)
    session = kinds.of["charging"]
    answer = voltill("sessions", "show", session, *where)
    assert answer.code == 0 and answer.out.startswith(f"Session {session} on DE*ABC*E1: charging\n")
    assert "STA-002: this version cannot read all of it" in answer.out
    assert "50.00 EUR" in answer.out and "TID 52523535, receipt " in answer.out
    assert " of_tomorrow " in answer.out
    rows = {row["id"]: row for row in voltill("sessions", "list", *where, "--json").json}
    assert (rows[session]["state"], rows[session]["readable"]) == ("charging", False)
    config = ("--config", kinds.world.folder / "station.yaml")
    receipt = voltill("sessions", "receipt", session, *where, *config)
    assert receipt.code == 2 and receipt.err.startswith("STA-002")


def test_what_a_hold_of_nobody_is_said_to_be(voltill: Voltill, kinds: Kinds) -> None:
    where = ("--state", kinds.state, "--config", kinds.world.folder / "station.yaml")
    foreign = kinds.of["foreign"]
    receipt = voltill("sessions", "receipt", foreign, *where)
    assert receipt.code == 2 and receipt.out == "" and receipt.err.startswith("STA-052")
    done = voltill("sessions", "close", foreign, "--as", "written-off", "--note", "x", *where)
    assert done.out.startswith(f"Session {foreign}: written-off, unknown amount\n")
    assert "0.00" not in done.out and "receipt 0017, at t1\n" in done.out


def test_closing_says_that_the_hold_is_still_open(voltill: Voltill, kinds: Kinds) -> None:
    where = ("--state", kinds.state, "--config", kinds.world.folder / "station.yaml")
    refused = kinds.of["refused"]
    done = voltill("sessions", "close", refused, "--as", "paid", "--note", "x", *where)
    assert "  Its hold of 50.00 EUR was neither charged nor released.\n" in done.out
    assert f"  Free it: voltill sessions free {refused}\n" in done.out
    shown = voltill("sessions", "show", refused, "--state", kinds.state).out
    assert f"Its hold may still be open. Free it: voltill sessions free {refused}\n" in shown


def test_long_troubles_fit_too(
    voltill: Voltill, kinds: Kinds, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.cli import status

    found = voltill("status", "--state", kinds.state, "--json").json
    why = "TRM-006: nothing answers at /dev/payment-terminal; expected an acknowledgement; check power"
    found["terminals"] = [
        {"id": "t1", "tid": "52523535", "trouble": why, "closing": "", "strange_holds": []}
    ]
    found["record_key"] = {"trouble": why}
    found["uplink"] = {
        "url": "mqtts://broker.example:8883",
        "connected": False,
        "since_ms": 61_000,
        "backend": "unknown",
        "unacked": None,
        "alarms": {"UPL-012": why},
        "parked": 0,
        "trouble": {"id": "UPL-001", "text": why},
    }
    monkeypatch.setattr(status, "from_ledger", lambda *_: found)
    lines = voltill("status", "--state", kinds.state).out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert " ".join(lines).count("check power") == 4
