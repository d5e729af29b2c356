"""`voltill terminal ...`: while the service runs and while it is stopped they say the same; and what the
options must be. The terminal is a fake one; the real driver is in tests/end_to_end."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_process import Process
from support.fake_terminal import FakeTerminal, Hold
from support.past_station import Answer, Past, running
from support.station_world import World

from agent.ports import DeviceUnavailable, HoldRef, TerminalSpec
from agent.station import drivers
from agent.station.station import Station

Voltill = Callable[..., Answer]
PACE = 0.02  # of the fake terminal


@dataclasses.dataclass
class Place:
    """A station with one unresolved session, whose hold is open at the terminal."""

    way: str
    past: Past
    call: Voltill
    specs: list[TerminalSpec]
    service: Station | None = None

    @property
    def terminal(self) -> FakeTerminal:
        return self.past.world.terminal

    def terminal_verb(self, verb: str, *args: object, direct: bool = False) -> Answer:
        where = ("--config", self.past.config, "--state", self.past.state)
        return self.call("terminal", verb, *args, *where)


def fake_driver(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed driver; the real one is not opened."""

    def load(kind: str, name: str) -> Callable[..., Any]:
        assert (kind, name) == ("terminal", "zvt")

        def made(spec: TerminalSpec, _: object) -> Any:
            place.specs.append(spec)
            return place.terminal.driver(Process())

        return made

    monkeypatch.setattr(drivers, "load", load)


@pytest.fixture(params=["stopped", "running"])
def place(
    request: pytest.FixtureRequest, past: Past, voltill: Voltill, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    past.world.terminal.pace = PACE
    found = Place(request.param, past, voltill, [])
    if request.param == "stopped":
        fake_driver(found, monkeypatch)
        yield found
        return
    with running(past, monkeypatch) as station:
        found.service = station
        yield found


@pytest.fixture
def stopped(tmp_path: Path, voltill: Voltill, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A station that never ran: no ledger, no holds."""
    world = World(tmp_path, monkeypatch)
    world.terminal.pace = PACE
    found = Place("stopped", Past(world, "", "", ""), voltill, [])
    fake_driver(found, monkeypatch)
    return found


# --- both ways --------------------------------------------------------------------------------------


def test_a_terminal_that_is_ready(place: Place) -> None:
    answer = place.terminal_verb("status")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == "Terminal t1: ready"
    assert "  TID       52523535" in lines and "  serial    serial" in lines
    assert any("/dev/zero at 115200 8N2" in line for line in lines)
    found = place.terminal_verb("status", "--json", "--terminal", "t1").json
    keys = {"terminal", "tid", "model", "serial", "software", "ready", "needs", "next", "trouble"}
    assert set(found) >= keys | {"port", "profile", "status_code", "status_text", "through"}
    assert found["through"] == ("service" if place.way == "running" else "direct")


def test_a_terminal_that_wants_something(place: Place) -> None:
    place.terminal.eod_due = True
    answer = place.terminal_verb("status")
    assert answer.code == 1
    assert "Terminal t1: not ready: end of day due (F0)" in answer.out
    assert "  next      close the batch: `voltill terminal end-of-day`" in answer.out


def test_a_text(place: Place) -> None:
    answer = place.terminal_verb("show", "Out for", "repair", "--for", 2)
    assert (answer.code, answer.out) == (0, "Shown for 2 s.\n")
    assert ("Out for", "repair") in place.terminal.screens
    found = place.terminal_verb("show", "x", "--json")
    assert found.json == {"terminal": "t1", "lines": ["x"], "for_s": 10}


def test_a_card(place: Place) -> None:
    token = b"5413330089604111"
    place.terminal.tap(token)
    answer = place.terminal_verb("read-card", "--timeout", 20)
    assert answer.code == 0 and answer.out.startswith("Bank card, known again by its token")
    assert ("HMAC" in answer.out) == (place.way == "running")
    assert "within 20 s" in answer.err
    place.terminal.tap(None)
    found = place.terminal_verb("read-card", "--json").json
    assert (found["card"], found["kind"], found["token"], found["hmac"]) == (
        True,
        "bank",
        False,
        None,
    )
    place.terminal.tap(None)
    assert "cannot" not in place.terminal_verb("read-card").out
    for said in (answer.out, answer.err):
        assert token.decode() not in said and token.hex() not in said


def test_no_card(place: Place) -> None:
    answer = place.terminal_verb("read-card", "--timeout", 1)
    assert (answer.code, answer.out) == (1, "No card within 1 s.\n")


def test_open_holds(place: Place) -> None:
    session = place.past.open
    receipt = place.terminal.open_holds()[0].ref.receipt
    answer = place.terminal_verb("open-holds")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[1].split() == [
        *(f"{receipt:04d}", session, "unresolved", "50.00", "EUR")
    ]
    place.terminal.holds.append(Hold(HoldRef("52523535", 17), 5000))
    strange = place.terminal_verb("open-holds")
    assert strange.code == 1 and "nobody's here" in strange.out
    assert "left alone" in strange.out
    assert place.terminal_verb("open-holds", "--json").json["unexplained"] == [17]
    place.terminal.holds.clear()
    gone = place.terminal_verb("open-holds")
    assert gone.code == 1 and "No open holds" in gone.out
    assert f"Session {session} counts on receipt {receipt:04d}" in gone.out
    place.terminal.holds.append(Hold(HoldRef("52523535", 17), 5000))
    place.terminal.complete_list = False
    some = place.terminal_verb("open-holds")
    assert some.code == 1 and "only some" in some.out


def test_end_of_day(place: Place) -> None:
    held = place.terminal_verb("end-of-day", "--yes")
    assert held.code == 2 and held.err.startswith("STA-034") and held.out == ""
    place.terminal.holds.clear()
    cost = sum(place.terminal.amounts("capture"))
    closed = place.terminal_verb("end-of-day", "--yes")
    assert closed.code == 0, closed.err
    assert closed.out.splitlines()[0] == "The day of terminal t1 is closed."
    total = closed.out.splitlines()[3].split()
    assert total == ["total", "1", f"{cost // 100}.{cost % 100:02d}"]
    assert place.terminal.amounts("end_of_day") == [cost]
    assert "The batch was empty." in place.terminal_verb("end-of-day", "--yes").out
    empty = place.terminal_verb("end-of-day", "--json")
    assert empty.code == 0 and empty.json["totals"]["total_minor"] == 0
    told = place.call("status", "--state", place.past.state, "--json").json["ends_of_day"]
    assert told == [empty.json]
    assert "end of day of t1 on" in place.call("status", "--state", place.past.state).out


def test_end_of_day_that_does_not_end_well(place: Place) -> None:
    place.terminal.holds.clear()
    place.terminal.script["end_of_day"].extend(["declined", "not_sent"])
    refused = place.terminal_verb("end-of-day", "--yes")
    assert refused.code == 2 and "refused: declined by the issuer (05)" in refused.err
    assert "Nothing was closed" in refused.err
    unsent = place.terminal_verb("end-of-day", "--yes")
    assert unsent.code == 2 and "Nothing was sent: the terminal is busy." in unsent.err


def test_end_of_day_that_breaks_is_asked_for(place: Place) -> None:
    place.terminal.holds.clear()
    place.terminal.tells_totals = place.terminal.repeats_day = False
    place.terminal.script["end_of_day"].append("lost_done")
    broken = place.terminal_verb("end-of-day", "--yes")
    assert broken.code == 2 and "How it ended is not known" in broken.err
    assert place.call("status", "--state", place.past.state).code == 1
    again = place.terminal_verb("end-of-day", "--json")
    while place.way == "running" and not again.err.startswith("STA-035"):
        assert again.code == 2 and again.err.startswith("TRM-"), "the link is being made anew"
        again = place.terminal_verb("end-of-day", "--json")
    assert again.code == 2 and again.err.startswith("STA-035") and "--again" in again.err
    assert place.terminal.count("end_of_day") == 1
    assert place.terminal_verb("end-of-day", "--yes", "--again").code == 0
    assert place.terminal.count("end_of_day") == 2


def test_a_terminal_that_does_not_answer(stopped: Place) -> None:
    stopped.terminal.online = False
    for verb in (("status",), ("open-holds",), ("end-of-day", "--yes")):
        answer = stopped.terminal_verb(*verb)
        assert answer.code == 2 and "TRM-006: no terminal answers" in answer.out + answer.err


# --- the service has the port -----------------------------------------------------------------------


@pytest.fixture
def served(past: Past, voltill: Voltill, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with running(past, monkeypatch) as station:
        yield Place("running", past, voltill, [], station)


def same_port(one: str, other: str) -> bool:
    from agent.cli.terminal_way import _same

    return _same(one, other)


def straight(place: Place, verb: str, port: str, *more: object) -> Answer:
    return place.call(
        *(
            "terminal",
            verb,
            "--port",
            port,
            "--password-file",
            place.past.config.parent / "zvt-password",
        ),
        *("--currency", "EUR", "--state", place.past.state, *more),
    )


def test_a_port_of_the_service_is_left_to_it(served: Place, tmp_path: Path) -> None:
    other_name = tmp_path / "link"
    other_name.symlink_to("/dev/zero")
    for port in ("/dev/zero", str(other_name)):
        answer = straight(served, "status", port)
        assert answer.code == 2 and answer.err.startswith(f"STA-033: {port}")
        assert "--terminal t1" in answer.err
    unknown = served.terminal_verb("status", "--terminal", "t9")
    assert unknown.code == 64 and "STA-032" in unknown.err


@pytest.mark.parametrize(
    ("of_service", "given"),
    [
        ("tcp://127.0.0.1:20007", "socket://127.0.0.1:20007"),
        ("socket://localhost:20007", "tcp://127.0.0.1:20007"),
        ("tcp://localhost", "tcp://localhost:20007"),
        ("tcp://PT:20007", "tcp://pt:20007"),
    ],
)
def test_another_way_of_writing_it_is_the_same_port(
    served: Place, monkeypatch: pytest.MonkeyPatch, of_service: str, given: str
) -> None:
    """A second connection would leave the service for the technician in the middle of a payment."""
    monkeypatch.setattr(
        "agent.cli.terminal_way.ask",
        lambda *_args, **_kw: {"terminals": [{"id": "t1", "port": of_service}]},
    )
    assert straight(served, "status", given).err.startswith(f"STA-033: {given}")


def test_a_terminal_on_the_bench_beside_a_running_service(
    served: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service has its ledger to itself; a port that is none of its needs no ledger."""
    fake_driver(served, monkeypatch)
    answer = straight(served, "status", "tcp://bench:20007", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["port"], answer.json["through"]) == ("tcp://bench:20007", "direct")


def test_other_ports_are_other_terminals() -> None:
    for one, other in (
        ("tcp://127.0.0.1:20007", "tcp://127.0.0.1:20008"),
        ("tcp://127.0.0.1:20007", "tcp://127.0.0.2:20007"),
        ("tcp://127.0.0.1:20007", "/dev/ttyUSB0"),
        ("tcp://127.0.0.1:x", "tcp://127.0.0.1:20007"),
        ("rfc2217://pt:2217", "tcp://pt:2217"),
    ):
        assert not same_port(one, other) and not same_port(other, one)


def test_a_service_of_another_user(stopped: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("agent.cli.terminal_way.ask", closed)
    assert stopped.terminal_verb("status").err.startswith("STA-011")
    assert straight(stopped, "status", "/dev/null").err.startswith("STA-011")


# --- straight to it ---------------------------------------------------------------------------------


def test_no_configuration_is_needed(stopped: Place, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("654321\n")
    answer = stopped.call(
        *("terminal", "status", "--port", "socket://pt:20007", "--password-file", password),
        *("--currency", "CHF", "--profile", "feig_cvend", "--state", tmp_path / "none", "--json"),
    )
    assert answer.code == 0, answer.err
    (spec,) = stopped.specs
    assert (spec.line.port, spec.line.baud, spec.line.framing) == (
        "socket://pt:20007",
        115200,
        "8N2",
    )
    assert (spec.password, spec.currency, spec.profile) == ("654321", "CHF", "feig_cvend")
    assert "654321" not in answer.out + answer.err
    assert answer.json["terminal"] is None and answer.json["port"] == "socket://pt:20007"


def test_without_a_ledger_nobody_is_asked_whose_holds_they_are(
    stopped: Place, tmp_path: Path
) -> None:
    stopped.terminal.holds.append(Hold(HoldRef("52523535", 17), 5000))
    none = ("--state", tmp_path / "none")
    answer = straight(stopped, "open-holds", "/dev/null", *none)
    assert answer.code == 1 and "There is no ledger here" in answer.out
    assert straight(stopped, "end-of-day", "/dev/null", *none, "--yes").err.startswith("STA-034")
    stopped.terminal.holds.clear()
    assert straight(stopped, "end-of-day", "/dev/null", *none, "--yes").code == 0


def test_the_ledger_beside_it_protects_its_holds(
    past: Past, voltill: Voltill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--port while the service is stopped: the station's ledger is there, and counts."""
    past.world.terminal.pace = PACE
    place = Place("stopped", past, voltill, [])
    fake_driver(place, monkeypatch)
    answer = straight(place, "open-holds", "/dev/null", "--json")
    assert [hold["session"] for hold in answer.json["holds"]] == [past.open]
    past.world.terminal.holds.clear()
    assert straight(place, "end-of-day", "/dev/null", "--yes").code == 0
    told = voltill("status", "--state", past.state, "--json").json["ends_of_day"]
    assert [day["terminal"] for day in told] == ["52523535"], "known by its TID"


def test_a_configuration_with_several_terminals(stopped: Place) -> None:
    config = stopped.past.config
    text = config.read_text()
    one = text[text.index("  - id: t1") : text.index("payment:")]
    config.write_text(
        text.replace(one, one + one.replace("t1", "t2").replace("/dev/zero", "/dev/one"))
    )
    unsaid = stopped.terminal_verb("status")
    assert unsaid.code == 64 and "STA-032" in unsaid.err and "t1, t2" in unsaid.err
    assert stopped.terminal_verb("status", "--terminal", "t9").code == 64
    assert stopped.terminal_verb("status", "--terminal", "t2", "--json").json["terminal"] == "t2"


def test_a_password_that_only_systemd_has(stopped: Place) -> None:
    config = stopped.past.config
    config.write_text(
        config.read_text().replace("{file: zvt-password}", "{credential: zvt-password}")
    )
    answer = stopped.terminal_verb("status")
    assert (
        answer.code == 78 and answer.err.startswith("CFG-029") and "--password-file" in answer.err
    )
    password = config.parent / "zvt-password"
    assert stopped.terminal_verb("status", "--password-file", password).code == 0


@pytest.mark.parametrize(
    ("content", "code"), [(None, "CFG-026"), ("", "CFG-028"), ("x" * 20_000, "CFG-028")]
)
def test_a_password_file_that_is_no_good(
    stopped: Place, tmp_path: Path, content: str | None, code: str
) -> None:
    password = tmp_path / "password"
    if content is not None:
        password.write_text(content)
    answer = stopped.terminal_verb("status", "--password-file", password)
    assert answer.code == 78 and answer.err.startswith(code) and str(password) in answer.err


def test_a_bad_configuration(stopped: Place, tmp_path: Path) -> None:
    answer = stopped.call(
        "terminal", "status", "--config", tmp_path / "no.yaml", "--state", tmp_path
    )
    assert answer.code == 78 and "CFG-001" in answer.err


def test_settings_that_the_driver_refuses(stopped: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise DeviceUnavailable("TRM-010", "no ZVT profile x", "one of y", "correct `profile`")

    monkeypatch.setattr(drivers, "load", lambda *_: refuses)
    answer = straight(stopped, "status", "/dev/null", "--profile", "x")
    assert answer.code == 2 and answer.err.startswith("TRM-010")


@pytest.mark.parametrize(
    "args",
    [
        ("status", "--baud", "9600"),
        ("status", "--profile", "generic", "--currency", "EUR"),
        ("status", "--port", "/dev/null"),
        ("status", "--port", "/dev/null", "--currency", "EUR"),
        ("status", "--port", "/dev/null", "--password-file", "x"),
        ("status", "--port", "/dev/null", "--password-file", "x", "--currency", "EURO"),
        ("status", "--port", "/dev/null", "--terminal", "t1"),
        ("status", "--port", "x", "--password-file", "x", "--currency", "EUR", "--baud", "0"),
        ("status", "--port", "/dev/null", "--password", "123456"),
        ("show",),
        ("show", *"123456789"),
        ("show", "x", "--for", "0"),
        ("read-card", "--timeout", "0"),
        ("nothing",),
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_64(voltill: Voltill, args: tuple[str, ...]) -> None:
    answer = voltill("terminal", *args)
    assert answer.code == 64 and answer.out == "" and "Error:" in answer.err


# --- the question before the end of day ------------------------------------------------------------


class Keyboard:
    def __init__(self, says: str, *, is_terminal: bool = True) -> None:
        self._says, self._is_terminal = says, is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def readline(self, *_: object) -> str:
        return self._says


@pytest.mark.parametrize(
    ("keyboard", "code", "days"),
    [
        (Keyboard("y\n"), 0, 1),
        (Keyboard("n\n"), 1, 0),
        (Keyboard("\n"), 1, 0),
        (Keyboard("", is_terminal=False), 64, 0),
    ],
    ids=["yes", "no", "enter", "nobody"],
)
def test_it_says_what_it_does_and_asks(
    stopped: Place, monkeypatch: pytest.MonkeyPatch, keyboard: Keyboard, code: int, days: int
) -> None:
    monkeypatch.setattr(sys, "stdin", keyboard)
    monkeypatch.setattr("builtins.input", lambda *_: keyboard.readline().rstrip("\n"))
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: keyboard.readline().strip())
    answer = stopped.terminal_verb("end-of-day")
    assert answer.code == code and "closes the terminal's batch" in answer.err
    assert stopped.terminal.count("end_of_day") == days
