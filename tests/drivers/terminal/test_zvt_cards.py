"""The terminal port. Reading cards, and giving way to other verbs."""

import asyncio
from typing import Any

import pytest
from support.zvt_bench import Bench, h, unavailable
from support.zvt_peer import OK, UID, Manners, apdu, frame

from agent.ports import CardKind, Done, Refused, Unknown
from agent.values import Money
from drivers.terminal.zvt.apdu import Tlv
from drivers.terminal.zvt.cards import READ_PAUSE_S
from drivers.terminal.zvt.codec import build, encode, tag


def test_a_card(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        card = await b.driver.read_card(5)
        assert card is not None
        assert (card.kind, card.token, card.max_hold) == (CardKind.RFID, UID, None)
        assert b.peer.heard == [h("06c00f051910fc0206081f1501d01f600107")]

    run(case)


@pytest.mark.parametrize(
    ("body", "kind", "token", "limit"),
    [
        ("2700060d6006 4304a0000004 4c03080102", CardKind.BANK, "080102", None),
        ("270006144c03080102 1f1402abcd 1f0b06000000010000", CardKind.RFID, "abcd", 10_000),
        ("2700060b4c0200001f1404000000 00", CardKind.RFID, None, None),
        ("270006024c00", CardKind.RFID, None, None),
        ("2700", CardKind.UNKNOWN, None, None),
        ("270006091f0b06999999999999", CardKind.UNKNOWN, None, None),
        ("270006091f0b06000000000000", CardKind.UNKNOWN, None, None),
    ],
)
def test_kinds_of_cards(
    run: Any, body: str, kind: CardKind, token: str | None, limit: int | None
) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        data = bytearray(h(body))
        if len(data) > 2:
            data[3] = len(data) - 4
        b.peer.scripts["06c0"] = [OK, apdu("040f", bytes(data))]
        card = await b.driver.read_card(5)
        assert card is not None
        assert card.token == (None if token is None else h(token))
        assert card.kind is kind
        assert card.max_hold == (None if limit is None else Money(limit, "EUR"))

    run(case)


GIROCARD, VISA = "a0000003591010028001", "a0000000031010"
FUEL, TRANSPORT = "a000000831", "a0000006623f"  # no bank's, by the first nine half bytes
UID_TAG = tag("4c", hex_value="04112233445566")


def application(aid: str) -> Tlv:
    return tag("60", tag("43", hex_value=aid))


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ((UID_TAG, application(VISA)), CardKind.BANK),
        ((UID_TAG, application(FUEL)), CardKind.RFID),
        ((UID_TAG, application(TRANSPORT)), CardKind.RFID),
        ((UID_TAG, application(FUEL), application(VISA)), CardKind.BANK),
        # A girocard may name its applications only in the list of its chip, or of its stripe.
        ((UID_TAG, tag("62", application(GIROCARD))), CardKind.BANK),
        ((UID_TAG, tag("61", application(GIROCARD))), CardKind.BANK),
        ((UID_TAG, tag("62", application(FUEL))), CardKind.RFID),
        ((UID_TAG,), CardKind.RFID),
        ((UID_TAG, application("")), CardKind.RFID),  # a name of no length names nobody
        ((application(GIROCARD),), CardKind.BANK),
    ],
)
def test_whose_card_it_is(run: Any, tags: tuple[Tlv, ...], kind: CardKind) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["06c0"] = [OK, encode(build("040f", {"result": 0}, tags))]
        card = await b.driver.read_card(5)
        assert card is not None
        assert card.kind is kind

    run(case)


@pytest.mark.parametrize("body", ["2764", "", "490978"])
def test_a_result_that_is_no_card(run: Any, body: str) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["06c0"] = [OK, apdu("040f", h(body))]
        assert await b.driver.read_card(5) is None

    run(case)


def test_no_card_in_time(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.manners.card_after_s = None
        start = asyncio.get_running_loop().time()
        assert await b.driver.read_card(5) is None
        assert 5 <= asyncio.get_running_loop().time() - start < 5.5

    run(case)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([OK, h("061e016c")], None),
        ([OK, h("061e0164")], None),
        ([OK, h("061e019c")], None),
        ([h("849c00")], None),
        ([h("84dc00")], None),
        ([OK, h("061e01f0")], "TRM-007"),
        ([OK, h("061e01e2")], "TRM-007"),
        ([h("848300")], "TRM-007"),
    ],
)
def test_reads_that_end_at_once(run: Any, answers: list[bytes], code: str | None) -> None:
    """They are not repeated at once, and a terminal that needs a person is out of order."""

    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["06c0"] = answers
        start = asyncio.get_running_loop().time()
        if code is None:
            assert await b.driver.read_card(5) is None
            assert asyncio.get_running_loop().time() - start >= READ_PAUSE_S
        else:
            with unavailable(code):
                await b.driver.read_card(5)

    run(case)


@pytest.mark.parametrize("verb", ["show", "identify", "authorize", "open_holds", "connect"])
@pytest.mark.parametrize("abortable", [True, False])
def test_every_verb_ends_a_card_read(run: Any, verb: str, abortable: bool) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.manners = Manners(card_after_s=None, abortable=abortable)
        verbs = {
            "show": lambda: b.driver.show(["hello"]),
            "authorize": b.hold,
            "identify": b.driver.identify,
            "open_holds": b.driver.open_holds,
            "connect": b.driver.connect,
        }
        loop = asyncio.get_running_loop()
        reading = asyncio.ensure_future(b.driver.read_card(15))
        await asyncio.sleep(1)
        start = loop.time()
        outcome = await verbs[verb]()
        assert await reading is None
        assert b.heard()[0] == "06c0"
        if abortable:
            assert loop.time() - start < 2
        if verb == "authorize":
            assert isinstance(outcome, Done)

    run(case)


def test_a_verb_right_after_a_read_ends_it_too(run: Any) -> None:
    """The abort is wanted before the terminal has even heard the read."""

    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.manners.card_after_s = None
        reading = asyncio.ensure_future(b.driver.read_card(15))
        await asyncio.sleep(0)
        await b.driver.show(["hello"])
        assert await reading is None
        assert asyncio.get_running_loop().time() < 3

    run(case)


def test_a_read_that_waits_behind_another_verb_gives_way(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.manners.card_after_s = None
        first = asyncio.ensure_future(b.driver.identify())
        await asyncio.sleep(0)
        reading = asyncio.ensure_future(b.driver.read_card(15))
        await asyncio.sleep(0)
        held = asyncio.ensure_future(b.hold())
        assert await reading is None
        assert isinstance(await held, Done)
        await first
        assert "06c0" not in b.heard()

    run(case)


def test_a_card_that_came_before_the_abort_counts(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.manners.card_after_s = 1.0
        reading = asyncio.ensure_future(b.driver.read_card(5))
        await asyncio.sleep(1.012)  # its 04 0F is on the way
        await b.driver.show(["hello"])
        card = await reading
        assert card is not None
        assert card.token == UID

    run(case)


def test_a_line_lost_in_a_read(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.manners.card_after_s = None
        losing = asyncio.ensure_future(b.unplug_after(1))
        with unavailable("TRM-008: the card read broke: hung up"):
            await b.driver.read_card(5)
        await losing
        with unavailable("TRM-009"):
            await b.driver.read_card(5)

    run(case)


def test_a_card_that_cannot_be_read_makes_the_link_anew(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["06c0"] = [OK, h("040f0427008702")]
        with unavailable("TRM-008: the card read broke: its result cannot be read"):
            await b.driver.read_card(5)
        assert b.cable.closed == 1

    run(case)


def test_seconds_out_of_range(run: Any) -> None:
    async def case(b: Bench) -> None:
        for seconds in (0, 16):
            with pytest.raises(ValueError, match="expected 1 to 15"):
                await b.driver.read_card(seconds)

    run(case)


def test_a_late_refusal_of_an_abort_does_not_refuse_the_hold_after_it(run: Any) -> None:
    """Card and abort met on the line. The terminal answers the abort when the hold has been asked for, and
    then makes the hold: refused, it would be nobody's."""

    async def case(b: Bench) -> None:
        await b.linked()
        hear = b.peer.receive

        async def read(_timeout_s: int) -> None:
            await b.peer.say(OK)
            while b"\x06\xb0" not in b"".join(b.cable.sent):
                await asyncio.sleep(0.01)
            await b.peer.say(h("040f102700060c4c0a000000000000081ca72f"))

        def receive(data: bytes) -> None:
            if b"\x06\xb0" in data:
                return  # it is talking itself
            if b"\x06\x22" in data:
                b.cable.to_ecr(b"\x06" + frame(h("848300")))
            hear(data)

        b.peer._read_card = read  # type: ignore[method-assign]
        b.cable._out._deliver = receive
        reading = asyncio.ensure_future(b.driver.read_card(15))
        await asyncio.sleep(0.5)
        outcome = await b.hold()
        assert await reading is not None
        assert isinstance(outcome, Unknown), outcome
        assert b.heard()[-1] == "0622", "it goes on to do it"
        with unavailable("TRM-009"):
            await b.driver.identify()  # both begin anew before anybody asks
        await asyncio.sleep(20)
        b.cable._out._deliver = hear
        await b.driver.connect()
        b.peer.scripts["0622"] = [h("848300")]
        assert isinstance(await b.hold(), Refused), "long after it a no is a no"

    run(case)
