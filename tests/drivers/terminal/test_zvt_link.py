"""The terminal port. Connecting, and who is there."""

import asyncio
from typing import Any

import pytest
from support.zvt_bench import Bench, h, unavailable
from support.zvt_peer import OK, apdu

from agent.ports import (
    DriverEnv,
    LineSpec,
    NotSent,
    TerminalIdentity,
    TerminalSpec,
)
from drivers.terminal.zvt import terminal as zvt


def test_connect_tells_who_is_there(run: Any) -> None:
    async def case(b: Bench) -> None:
        device = b"\xe4\x1d\x1f\x40\x0acVEND plug\x1f\x42\x04\x17\xfd\x1e\x3c\x1f\x43\x01\x00\x1f\x41\x00"
        device = b"\xe4" + bytes([len(device) - 2]) + device[2:]
        tlv = b"\x1f\x44\x04" + h("52523535") + device
        text = b"\xf0\xf0\xf72.14.15\x00\x06" + bytes([len(tlv)]) + tlv
        b.peer.scripts["0501"] = [OK, apdu("060f", text)]
        assert await b.driver.connect() == TerminalIdentity(
            "52523535", "17fd1e3c", "2.14.15", "cVEND plug", True, "00", "ready"
        )
        assert b.heard() == ["0600", "0501"]
        assert b.peer.heard[0] == h("060006123456de0978")
        assert await b.driver.identify() == await b.driver.connect()
        assert b.cable.opened == 1, "the line was up"

    run(case)


def test_generic_registration(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.driver.connect()
        assert b.peer.heard[0] == h("060006123456be0978")

    run(case, profile="generic")


def test_print_blocks_are_offered(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.driver.connect()
        assert b.peer.heard[0] == h("060015123456de0978060d1201241a02100026040a0206d3")

    run(case, options={"print_blocks": True})


@pytest.mark.parametrize(
    ("answers", "code", "says"),
    [
        ([h("843700")], "TRM-005", "37"),
        ([h("841e036f0978")], "TRM-011", "EUR"),
        ([h("849c00")], "TRM-007", "please wait"),
        ([OK, h("061e016b")], "TRM-007", "not registered"),
        ([OK, h("061e036f0978")], "TRM-011", "EUR"),
    ],
)
def test_a_registration_that_is_refused(
    run: Any, answers: list[bytes], code: str, says: str
) -> None:
    async def case(b: Bench) -> None:
        b.peer.scripts["0600"] = answers
        with unavailable(code) as error:
            await b.driver.connect()
        assert says in str(error.value)
        assert "123456" not in str(error.value)
        b.peer.scripts.clear()
        await b.driver.connect()

    run(case)


@pytest.mark.parametrize(
    ("status", "ready", "text"),
    [
        ("00", True, "ready"),
        ("dc", True, "card inserted"),
        ("f0", False, "end of day due"),
        ("51", False, "initialisation required"),
        ("62", False, "date and time not set"),
        ("05", False, "status 05"),
        ("9c", False, "please wait"),
    ],
)
def test_states(run: Any, status: str, ready: bool, text: str) -> None:
    async def case(b: Bench) -> None:
        b.peer.scripts["0501"] = [OK, apdu("060f", h(status))]
        found = await b.driver.connect()
        assert (found.ready, found.status_code, found.status_text) == (ready, status, text)
        assert found.terminal_id == "52523535", "from the registration"

    run(case)


@pytest.mark.parametrize("answers", [[OK, h("060f00")], [OK, h("061e01ff")], [h("848300")]])
def test_a_status_that_says_nothing(run: Any, answers: list[bytes]) -> None:
    async def case(b: Bench) -> None:
        b.peer.scripts["0501"] = answers
        with unavailable("TRM-007"):
            await b.driver.connect()

    run(case)


@pytest.mark.parametrize(
    ("refusal", "code"), [([h("843700")], "TRM-005"), ([OK, h("061e0137")], "TRM-007")]
)
def test_a_wrong_password_is_not_tried_for_ever(run: Any, refusal: list[bytes], code: str) -> None:
    """A terminal may lock itself after a few, and whoever has the link to keep tries every half minute."""

    async def case(b: Bench) -> None:
        b.peer.scripts["0600"] = refusal
        for _ in range(25):
            with unavailable(code):
                await b.driver.connect()
            await asyncio.sleep(30)
        assert b.heard().count("0600") == 3 + 1, "three at once, one more after ten minutes"
        b.peer.scripts.clear()
        await asyncio.sleep(600)
        await b.driver.connect()
        b.peer.heard.clear()
        b.peer.scripts["0600"] = refusal
        await b.driver.close()
        for _ in range(2):
            with unavailable(code):
                await b.driver.connect()
        assert b.heard().count("0600") == 2, "counted anew"

    run(case)


def test_a_terminal_that_does_not_tell_its_id_has_not_that_of_the_one_before(run: Any) -> None:
    """Whatever hangs at a line that was opened anew: a hold of the one before is not ended there."""

    async def case(b: Bench) -> None:
        assert (await b.driver.connect()).terminal_id == "52523535"
        b.peer.scripts["0600"] = [OK, h("060f021910")]
        b.peer.scripts["0501"] = [OK, h("060f0100")]
        assert (await b.driver.connect()).terminal_id == "52523535", (
            "the line was held all the time"
        )
        await b.driver.close()
        assert (await b.driver.connect()).terminal_id is None

    run(case)


def test_nobody_answers(run: Any) -> None:
    async def case(b: Bench) -> None:
        b.peer.silent = True
        with unavailable("TRM-006") as error:
            await b.driver.connect()
        assert "9600 8N1" in str(error.value)
        b.peer.silent = False
        await b.driver.connect()
        assert b.cable.opened == 3, "at the other rate, and again"

    run(case)


def test_no_line(run: Any) -> None:
    async def case(b: Bench) -> None:
        b.cable.unplug()
        with unavailable("TRM-001: no such device"):
            await b.driver.connect()
        assert await b.hold() == NotSent("the link to the terminal is down")
        for verb in (b.driver.identify, b.driver.open_holds, b.driver.last_result):
            with unavailable("TRM-009"):
                await verb()
        with unavailable("TRM-009"):
            await b.driver.show(["x"])
        with unavailable("TRM-009"):
            await b.driver.read_card(5)

    run(case)


def test_a_line_lost_while_idle_is_opened_again(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.cable.unplug()
        with unavailable("TRM-009: hung up"):
            await b.driver.identify()
        b.cable.replug()
        await b.linked()
        b.cable.unplug()
        b.cable.replug()
        await b.linked()
        assert b.cable.opened == 3

    run(case)


def test_a_line_lost_before_the_first_byte_moves_nothing(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.cable.unplug()
        assert await b.hold() == NotSent("TRM-009: hung up")
        assert b.heard() == []

    run(case)


@pytest.mark.parametrize(
    "spec",
    [
        {"password": "12345"},
        {"password": "12345a"},
        {"profile": "nothing"},
        {"options": {"config_byte": 9}},
    ],
)
def test_settings_that_cannot_be_used(spec: dict[str, Any]) -> None:
    settings = {"line": LineSpec("x"), "password": "123456", "currency": "EUR", **spec}
    with unavailable("TRM-010") as error:
        zvt.open_terminal(TerminalSpec("t1", **settings), DriverEnv(lambda: 0, lambda *_: None))
    assert "12345" not in str(error.value)
