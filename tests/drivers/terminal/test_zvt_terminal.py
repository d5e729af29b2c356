"""The terminal port, verb by verb, against a terminal of its own making on a perfect wire."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from support.virtual_loop import VirtualLoop
from support.zvt_peer import OK, UID, Cable, Manners, apdu, perfect

from agent.ports import (
    CardKind,
    DeviceUnavailable,
    Done,
    DriverEnv,
    Evidence,
    HoldRef,
    LineSpec,
    NotSent,
    Reason,
    Refused,
    TerminalIdentity,
    TerminalSpec,
    Unknown,
    Verdict,
)
from agent.values import Money
from drivers.line import LineLost
from drivers.terminal.zvt import drive as zvt_drive
from drivers.terminal.zvt import terminal as zvt

EUR50 = Money(5000, "EUR")
HELD = HoldRef("52523535", 231, trace=931)


def h(text: str) -> bytes:
    return bytes.fromhex(text)


class Bench:
    """A driver, its cable and the terminal at the other end; `keep` stores everything."""

    def __init__(self, **spec: Any) -> None:
        loop = asyncio.get_running_loop()
        self.cable = Cable(perfect, 1)
        self.peer = self.cable.terminal
        self.log: list[dict[str, Any]] = []
        self.kept: list[Evidence] = []
        self.keep_does: Callable[[], Awaitable[Verdict]] | None = None
        given = {"line": LineSpec("cable"), "password": "123456", "currency": "EUR"}
        settings = {"profile": "feig_cvend", **given, **spec}
        env = DriverEnv(
            lambda: int(loop.time() * 1000),
            lambda event, **values: self.log.append({"event": event, **values}),
        )
        self.driver: Any = zvt.open_terminal(TerminalSpec("t1", **settings), env)
        self.serving = asyncio.ensure_future(self.peer.run())

    async def keep(self, evidence: Evidence) -> Verdict:
        self.kept.append(evidence)
        return Verdict.STORED if self.keep_does is None else await self.keep_does()

    async def linked(self) -> TerminalIdentity:
        found: TerminalIdentity = await self.driver.connect()
        self.peer.heard.clear()
        return found

    async def hold(self) -> object:
        return await self.driver.authorize(EUR50, "S1", self.keep)

    async def unplug_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.cable.unplug()

    def heard(self) -> list[str]:
        return [command[:2].hex() for command in self.peer.heard]


Case = Callable[[Bench], Coroutine[Any, Any, None]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Runs a case in virtual time; nothing may be left running, and nothing may fail unseen."""

    def run_it(case: Case, **spec: Any) -> None:
        loop = VirtualLoop()
        asyncio.set_event_loop(loop)

        async def main() -> None:
            bench = Bench(**spec)
            monkeypatch.setattr(zvt, "open_line", bench.cable.open)
            try:
                await case(bench)
                await bench.driver.close()
            finally:
                bench.serving.cancel()
                await asyncio.gather(bench.serving, return_exceptions=True)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left

        try:
            loop.run_until_complete(main())
            assert not loop.troubles, loop.troubles
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    yield run_it


def unavailable(code: str) -> Any:
    return pytest.raises(DeviceUnavailable, match=code)


# --- link -----------------------------------------------------------------------------------------


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
        assert b.peer.heard[0] == h("06000e123456de0978060626040a0206d3")

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


def test_nobody_answers(run: Any) -> None:
    async def case(b: Bench) -> None:
        b.peer.silent = True
        with unavailable("TRM-006") as error:
            await b.driver.connect()
        assert "9600 8N1" in str(error.value)
        b.peer.silent = False
        await b.driver.connect()
        assert b.cable.opened == 2

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


# --- cards ----------------------------------------------------------------------------------------


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
            assert asyncio.get_running_loop().time() - start >= zvt.READ_PAUSE_S
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


# --- money ----------------------------------------------------------------------------------------


def test_hold_capture_and_release(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        held = await b.hold()
        assert isinstance(held, Done)
        assert held.evidence == Evidence(HoldRef("52523535", 231, trace=931), EUR50)
        assert b.peer.heard[-1] == h(
            "06221a 1940 490978 04000000005000 060ce90a1f620241431f63025331"
        )
        assert (await b.driver.open_holds()).receipts == (231,)
        captured = await b.driver.capture(held.evidence.ref, EUR50, Money(1295, "EUR"), b.keep)
        assert b.peer.heard[-1] == h("06230f 1940 870231 490978 04000000003705")
        assert captured == Done(Evidence(HoldRef("52523535", 232, trace=932), Money(1295, "EUR")))
        last = await b.driver.last_result()
        assert last is not None
        assert (last.result, last.evidence) == (0, captured.evidence)
        again = await b.hold()
        assert isinstance(again, Done)
        released = await b.driver.release(again.evidence.ref, EUR50, b.keep)
        assert isinstance(released, Done)
        assert b.peer.heard[-1] == h("0625081940870233490978")
        assert (await b.driver.open_holds()).receipts == ()
        assert len(b.kept) == 4

    run(case)


def test_the_traces_of_a_generic_terminal(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0625"] = [OK, h("061e01b8")]
        await b.driver.release(HELD, EUR50, b.keep)
        assert b.peer.heard[-1] == h("06250a8702314909780b000931")
        await b.driver.release(HoldRef("52523535", 8, trace=10015008), EUR50, b.keep)
        assert b.peer.heard[-1] == h("06250f8700084909780607 1f2b0410015008")
        await b.driver.release(HoldRef("52523535", 8), EUR50, b.keep)
        assert b.peer.heard[-1] == h("0625068700084909 78")

    run(case, profile="generic")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([h("848300")], Refused(Reason.NOT_SUPPORTED, "83", "function not possible")),
        ([h("841e036f0978")], Refused(Reason.OPERATOR, "6f", "wrong currency")),
        ([h("849c00")], NotSent("not now: 9c, please wait")),
        ([h("84e000")], NotSent("not now: e0, remote maintenance")),
        ([OK, h("061e016c")], Refused(Reason.CARD_REMOVED, "6c", "aborted, or no card in time")),
        (
            [OK, h("040f022705"), h("061e0105")],
            Refused(Reason.DECLINED, "05", "declined by the issuer"),
        ),
        ([OK, h("060f022705")], Refused(Reason.DECLINED, "05", "declined by the issuer")),
        (
            [OK, h("040f022713"), h("060f00")],
            Refused(Reason.PIN_REQUIRED, "13", "contactless limit reached"),
        ),
        ([OK, h("061e00")], Refused(Reason.TRY_LATER, "ff", "system error")),
        (
            [OK, h("061e1464060f1f170c") + b"41111111111111"[:12]],
            Refused(Reason.CARD_NOT_ACCEPTED, "64", "*"),
        ),
        ([OK, h("060f00")], Unknown("the terminal completed without a result")),
        ([h("061e016c")], Unknown("ended with 6c before it was answered")),
    ],
)
def test_how_a_hold_can_end_without_one(run: Any, answers: list[bytes], expected: object) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        script = [m if m[2] == len(m) - 3 else m[:2] + bytes([len(m) - 3]) + m[3:] for m in answers]
        b.peer.scripts["0622"] = script
        assert await b.hold() == expected
        assert b.kept == []

    run(case)


@pytest.mark.parametrize("code", [0x9B, 0xA3, 0xE0])
def test_where_only_the_moment_is_wrong_a_capture_was_not_sent(run: Any, code: int) -> None:
    """It can be tried again. The driver at the charger is told at once."""

    async def case(b: Bench) -> None:
        await b.linked()
        script = [OK, bytes([0x06, 0x1E, 1, code])]
        b.peer.scripts |= {"0622": script, "0623": script, "0625": script}
        held = await b.hold()
        assert isinstance(held, Refused)
        assert held.reason is Reason.TRY_LATER
        captured = await b.driver.capture(HELD, EUR50, Money(1, "EUR"), b.keep)
        released = await b.driver.release(HELD, EUR50, b.keep)
        assert isinstance(captured, NotSent)
        assert isinstance(released, NotSent)

    run(case)


@pytest.mark.parametrize(
    "result",
    [
        "270004000000005000490978",  # no receipt
        "2700870231490840",  # dollars
        "270087023149 0999",  # no currency at all
        "270087ffff",
    ],
)
def test_a_result_that_is_no_evidence_is_refused(run: Any, result: str) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        body = h(result)
        b.peer.scripts["0622"] = [OK, apdu("040f", body), h("061e016c")]
        outcome = await b.hold()
        assert isinstance(outcome, Unknown)
        assert b.kept == []
        assert [e["id"] for e in b.log if e["event"] == "evidence_refused"] == ["TRM-012"]
        assert bytes.fromhex("846600") in b"".join(b.cable.sent)
        with unavailable("TRM-009"):
            await b.driver.identify()

    run(case)


@pytest.mark.parametrize("how", ["rejects", "raises", "late", "cancelled"])
def test_evidence_that_is_not_stored(run: Any, how: str) -> None:
    async def case(b: Bench) -> None:
        async def fail() -> Verdict:
            if how == "raises":
                raise OSError("disk full")
            if how == "cancelled":
                raise asyncio.CancelledError
            if how == "late":
                await asyncio.sleep(4.5)
                return Verdict.STORED
            return Verdict.REJECT

        await b.linked()
        b.keep_does = fail
        assert isinstance(await b.hold(), Unknown)
        assert len(b.kept) == 1
        await asyncio.sleep(60)
        assert b.peer.booked == []
        assert len(b.peer.reversed) == 1
        assert b.cable.closed == 1

    run(case)


def test_a_line_lost_while_evidence_is_stored_lets_it_be_stored(run: Any) -> None:
    async def case(b: Bench) -> None:
        done = False

        async def slow() -> Verdict:
            nonlocal done
            b.cable.unplug()
            await asyncio.sleep(2)
            done = True
            return Verdict.STORED

        await b.linked()
        b.keep_does = slow
        assert await b.hold() == Unknown("hung up")
        assert done
        assert len(b.kept) == 1

    run(case)


def test_a_store_that_never_ends_is_not_waited_for(run: Any) -> None:
    async def case(b: Bench) -> None:
        cancelled = False

        async def stuck() -> Verdict:
            nonlocal cancelled
            b.cable.unplug()
            try:
                await asyncio.sleep(10_000)
            except asyncio.CancelledError:
                cancelled = True
                raise
            raise AssertionError

        await b.linked()
        b.keep_does = stuck
        start = asyncio.get_running_loop().time()
        assert isinstance(await b.hold(), Unknown)
        assert asyncio.get_running_loop().time() - start < zvt_drive.STORE_S + 3
        assert cancelled

    run(case)


@pytest.mark.parametrize("seconds", [0.0, 0.012, 0.4, 2.0])
def test_a_cancelled_verb_leaves_nothing_behind(run: Any, seconds: float) -> None:
    """Cancelled anywhere, also while its evidence is stored: no task, no open line, no late answer."""

    async def case(b: Bench) -> None:
        async def slow() -> Verdict:
            await asyncio.sleep(3)
            return Verdict.STORED

        await b.linked()
        b.keep_does = slow
        verb = asyncio.ensure_future(b.hold())
        await asyncio.sleep(seconds)
        verb.cancel()
        with pytest.raises(asyncio.CancelledError):
            await verb
        assert asyncio.all_tasks() == {asyncio.current_task(), b.serving}
        sent = len(b.cable.sent)
        assert b.cable.closed == 1
        await asyncio.sleep(60)
        assert len(b.cable.sent) == sent
        assert b.peer.booked == []
        await b.linked()

    run(case)


def test_a_verb_cancelled_in_the_queue_disturbs_nobody(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        first = asyncio.ensure_future(b.hold())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(b.driver.show(["x"]))
        await asyncio.sleep(0.1)
        second.cancel()
        assert isinstance(await first, Done)
        await asyncio.gather(second, return_exceptions=True)
        assert await b.driver.read_card(5) is not None, "nobody is waiting any more"

    run(case)


def test_close_while_a_verb_waits(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.manners.host_s = 20.0
        verb = asyncio.ensure_future(b.hold())
        await asyncio.sleep(1)
        await b.driver.close()
        await b.driver.close()
        assert await verb == Unknown("closed")
        await asyncio.sleep(60)  # until the terminal has noticed
        await b.linked()

    run(case)


def test_no_answer_and_no_second_command(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0622"] = []
        assert await b.hold() == Unknown("timed out waiting for an answer (T3)")
        assert b.heard() == ["0622"]

    run(case)


def test_amounts_that_cannot_be_asked_for(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        for amount in (Money(0, "EUR"), Money(-1, "EUR"), Money(5, "USD")):
            with pytest.raises(ValueError, match="expected an amount"):
                await b.driver.authorize(amount, "S1", b.keep)
        with pytest.raises(ValueError, match="more than the hold"):
            await b.driver.capture(HELD, EUR50, Money(5001, "EUR"), b.keep)
        assert b.heard() == []

    run(case)


@pytest.mark.parametrize(("told", "amount"), [(3705, 1295), (5000, 0), (5001, None)])
def test_a_terminal_that_tells_the_part_given_back(run: Any, told: int, amount: int | None) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        result = apdu("040f", h(f"270004{told:012d}870232"))
        b.peer.scripts["0623"] = [OK, result, h("060f00")]
        outcome = await b.driver.capture(HELD, EUR50, Money(1295, "EUR"), b.keep)
        assert isinstance(outcome, Done)
        assert outcome.evidence.amount == (None if amount is None else Money(amount, "EUR"))

    run(case, options={"capture_amount": "reversed"})


def test_what_a_result_says_for_the_receipt(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        body = h("270004000000005000 490978 0c225558 0d0405 22f0f8559883eeeeee8074 870231")
        body += b"\x3b750071\0\0\x0b\x00\x00\x00\x29" + h("52523535") + h("19608a06880000 12")
        body += b"\x8b\xf1\xf1MasterCard\0\x2a804011926      \x3c\xf0\xf0\xf8ok 4111 "
        tlv = h("1f2b0410015008 4307a0000000041010")
        b.peer.scripts["0622"] = [
            OK,
            apdu("040f", body + b"\x06" + bytes([len(tlv)]) + tlv),
            h("060f00"),
        ]
        outcome = await b.hold()
        assert isinstance(outcome, Done)
        assert outcome.evidence == Evidence(
            HoldRef("52523535", 231, 12, 10015008, "0405", "225558"),
            EUR50,
            {
                "aid": "750071",
                "payment_type": "60",
                "card_type": 6,
                "card_name": "MasterCard",
                "vu": "804011926",
                "text": "ok 4111",
                "card_last4": "8074",
                "emv_aid": "a0000000041010",
            },
        )

    run(case)


# --- asking ---------------------------------------------------------------------------------------


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
        ([OK, h("040f02276c"), h("060f00")], None),
        ([OK, h("040f05276c870231"), h("060f00")], 0x6C),
        ([OK, h("040f0527008702 31"), h("060f00")], 0),
        ([OK, h("040f03870231"), h("060f00")], 0xFF),
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


# --- display and log ------------------------------------------------------------------------------


def test_texts_on_the_display(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        await b.driver.show(["0,59 €/kWh", "x" * 60, "Grüße"] + ["more"] * 9, hold_s=999)
        shown = b.peer.heard[0]
        assert shown.startswith(h("06e0"))
        assert shown[3:].startswith(b"\xf0\xff\xf1\xf1\xf20,59 EUR/kWh\xf2\xf4\xf0" + b"x" * 40)
        assert b"Gr\x81\xe1e" in shown
        assert shown.count(b"more") == 5
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
        allowed = {"event", "level", "terminal", "command", "outcome", "code", "after_ms"}
        assert b.log
        for entry in b.log:
            assert set(entry) == allowed
            assert entry["level"] == "debug"
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
