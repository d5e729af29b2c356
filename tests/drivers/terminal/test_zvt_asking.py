"""The terminal port. Questions about what happened, the display, and the log."""

from typing import Any

import pytest
from support.zvt_bench import Bench, h, unavailable
from support.zvt_peer import OK, apdu

from agent.ports import (
    NOT_TOLD,
    Unknown,
)
from drivers.line import LineLost


@pytest.mark.parametrize(
    ("answers", "receipts", "complete"),
    [
        (["b887ffff"], (), True),
        (["b8870231"], (231,), False),
        (["b8870291060e230c080202910802111008021929"], (291, 1110, 1929), True),
        (["b8060e230c080202910802111008021929"], (291, 1110, 1929), True),
        (["b8870291060e230c08020291080211a008021929"], (291, 1929), False),
        (["b887ffff0606230408020231"], (231,), True),
        (["b8", "b8870231"], (231,), False),
        (["b8", "b8"], (), False),
        (["b887a1b2", "b887ffff"], (), True),
    ],
)
def test_open_holds(
    run: Any, answers: list[str], receipts: tuple[int, ...], complete: bool
) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        rest = [apdu("061e", h(answer)) for answer in answers]

        async def next_answer() -> None:
            await b.peer.say(OK)
            await b.peer.ask(rest.pop(0))

        b.peer._enquire = next_answer  # type: ignore[method-assign]
        found = await b.driver.open_holds()
        assert (found.receipts, found.complete) == (receipts, complete)
        assert not rest
        assert b.peer.heard[0] == h("06230587ffff0600")

    run(case)


@pytest.mark.parametrize(
    "answers",
    [
        [OK, h("061e016c")],
        [OK, h("060f00")],
        [h("848300")],
        [OK, h("040f0527008702 31"), h("060f00")],
    ],
)
def test_an_enquiry_that_does_not_answer(run: Any, answers: list[bytes]) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0623"] = answers
        with unavailable("TRM-007"):
            await b.driver.open_holds()

    run(case)


@pytest.mark.parametrize(
    ("answers", "result"),
    [
        ([OK, h("061e0183")], None),
        ([h("848300")], None),
        ([OK, h("060f00")], None),
        ([OK, h("040f02276c"), h("060f00")], 0x6C),
        ([OK, h("040f022700"), h("060f00")], None),
        ([OK, h("040f05276c870231"), h("060f00")], 0x6C),
        ([OK, h("040f0527008702 31"), h("060f00")], 0),
        ([OK, h("040f03870231"), h("060f00")], NOT_TOLD),
        ([OK, h("040f082700870231490840"), h("060f00")], None),
    ],
)
def test_last_result(run: Any, answers: list[bytes], result: int | None) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0620"] = answers
        found = await b.driver.last_result()
        assert (None if found is None else found.result) == result
        assert b.peer.heard == [h("0620051234560303")]

    run(case)


@pytest.mark.parametrize(
    "answers", [[OK, h("061e01e0")], [h("849c00")], [OK, h("040f0427008702"), h("060f00")]]
)
def test_a_last_result_that_does_not_come(run: Any, answers: list[bytes]) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0620"] = answers
        with unavailable("TRM-007"):
            await b.driver.last_result()

    run(case)


def test_texts_on_the_display(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        await b.driver.show(["0,59 €/kWh", "x" * 60, "Grüße"] + ["more"] * 9, hold_s=999)
        shown = b.peer.heard[0]
        assert shown.startswith(h("06e0"))
        assert shown[3:].startswith(b"\xf0\xff\xf1\xf1\xf20,59 EUR/kWh\xf2\xf2\xf4" + b"x" * 24)
        assert b"Gr\x81\xe1e" in shown
        assert shown.count(b"x") == 60, "what is too wide goes on below"
        assert shown.count(b"more") == 3
        b.peer.scripts["06e0"] = [h("848300")]
        await b.driver.show(["refused, and no matter"])

    run(case)


def test_a_display_that_breaks(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["06e0"] = []
        with unavailable("TRM-006"):
            await b.driver.show(["hello"])

    run(case)


def test_the_log_names_commands_and_codes_only(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        await b.hold()
        allowed = {"event", "level", "terminal", "command", "outcome", "code", "said", "after_ms"}
        assert b.log
        for entry in b.log:
            assert set(entry) == allowed
            assert entry["level"] == "debug"
            assert set(entry["said"]) <= {
                "please_wait"
            }  # keys of texts, never the terminal's words
        assert b.log[-1]["command"] == "Reservation"
        assert b.log[-1]["outcome"] == "completed"

    run(case)


def test_a_line_that_breaks_in_the_first_write(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        whole = b.cable.write

        def breaking(data: bytes) -> None:
            if data:
                raise LineLost("hung up in the middle")
            whole(data)

        b.cable.write = breaking  # type: ignore[method-assign]
        assert await b.hold() == Unknown("hung up in the middle")

    run(case)
