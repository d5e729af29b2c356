"""The driver over TCP: connections that end, registrations that stay, and what is no ZVT."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.simulator import Simulator
from support.zvt_bench import Bench, unavailable
from support.zvt_stand import EUR50, Stand, tell

from agent.ports import (
    Done,
    DriverEnv,
    Evidence,
    LineSpec,
    NotSent,
    TerminalSpec,
    Unknown,
    Verdict,
)
from agent.values import Money
from drivers.terminal.zvt import terminal as zvt
from drivers.terminal.zvt.terminal import open_terminal

PART = Money(1295, "EUR")
PER_COMMAND = {"options": {"tcp_idle": "close"}}
REGISTRATION = "Registration"


@pytest.mark.parametrize("options", [{}, PER_COMMAND], ids=["keep", "close"])
def test_a_day_over_tcp(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        identity = await s.driver.connect()
        assert (identity.terminal_id, identity.ready) == ("52523535", True)
        await s.driver.show(["hello"])
        s.sim.verbs.tap("visa", stay=True)
        assert await s.driver.read_card(5) is not None
        held = await s.held()
        assert (await s.driver.open_holds()).receipts == (held.ref.receipt,)
        captured = await s.driver.capture(held.ref, EUR50, PART, s.keep)
        assert isinstance(captured, Done)
        last = await s.driver.last_result()
        assert last.evidence.ref == captured.evidence.ref
        second = await s.held()
        assert isinstance(await s.driver.release(second.ref, EUR50, s.keep), Done)
        assert s.booked() == [
            ("hold", 5000),
            ("capture", 1295),
            ("hold", 5000),
            ("release", 5000),
        ]
        # Behind a connection that was made again, who is there is asked before a hold is named.
        assert s.commands().count(REGISTRATION) == (3 if options else 1)
        assert s.cable.opened == (len(s.commands()) if options else 1)

    tell(story, monkeypatch, tcp=True, **options)


def test_a_connection_that_ended_while_idle_is_made_again_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(s: Stand) -> None:
        s.set(tcp_idle_s=1.0)
        await s.driver.connect()
        for _ in range(3):
            await asyncio.sleep(5)
            assert s.cable.lost, "the terminal has closed"
            held = await s.held()
            await asyncio.sleep(5)
            assert isinstance(await s.driver.release(held.ref, EUR50, s.keep), Done)
        assert s.cable.opened == 7
        assert s.commands().count(REGISTRATION) == 1 + 3, "no hold is named to a stranger"

    tell(story, monkeypatch, tcp=True)


@pytest.mark.parametrize("options", [{}, PER_COMMAND], ids=["keep", "close"])
@pytest.mark.parametrize("verb", ["capture", "release"])
def test_a_terminal_that_was_swapped_behind_its_address_is_told_nothing_of_our_holds(
    verb: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(s: Stand) -> None:
        s.set(tcp_idle_s=1.0)
        await s.driver.connect()
        held = await s.held()
        await asyncio.sleep(5)
        s.sim.store.memory.tid = "11112222"
        given = (held.ref, EUR50) if verb == "release" else (held.ref, EUR50, PART)
        outcome = await getattr(s.driver, verb)(*given, s.keep)
        assert isinstance(outcome, NotSent)
        assert "made at terminal 52523535, this is terminal 11112222" in outcome.why
        assert [kind for kind, _ in s.booked()] == ["hold"]

    tell(story, monkeypatch, tcp=True, **options)


def test_a_connection_that_cannot_be_made_again_sends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        s.cable.unplug()
        outcome = await s.hold()
        assert isinstance(outcome, NotSent)
        assert "TRM-001: connection refused" in outcome.why
        with unavailable("TRM-001"):
            await s.driver.open_holds()
        s.cable.replug()
        await s.held()
        assert s.commands().count(REGISTRATION) == 1, "it stands in the terminal"
        assert s.booked() == [("hold", 5000)]

    tell(story, monkeypatch, tcp=True)


def test_a_connection_that_ends_in_a_dialogue_is_an_unknown_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        s.set(host_s=20.0)
        holding = asyncio.ensure_future(s.hold())
        await asyncio.sleep(5)
        s.cable.unplug()
        assert await holding == Unknown("connection reset")
        s.cable.replug()
        with unavailable("TRM-009"):
            await s.driver.open_holds()
        assert isinstance(await s.hold(), NotSent), "whoever ordered it has to ask first"
        await s.driver.connect()
        assert s.commands().count(REGISTRATION) == 2

    tell(story, monkeypatch, tcp=True)


def test_no_answer_in_time_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """T3 (PA00P016): and nothing is sent a second time."""

    async def story(s: Stand) -> None:
        await s.driver.connect()
        s.sim.verbs.fault("silent", -1)
        closed, before = s.cable.closed, s.now()
        assert await s.hold() == Unknown("timed out waiting for an answer (T3)")
        assert s.now() - before < 20
        assert s.cable.closed == closed + 1
        assert b"".join(s.cable.sent).count(bytes.fromhex("0622")) == 1

    tell(story, monkeypatch, tcp=True)


def test_a_terminal_that_has_forgotten_us_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        s.set(require_registration=True, forget_registration=True)
        await s.driver.connect()
        await s.sim.power_off()
        s.sim.power_on()
        await asyncio.sleep(5)
        outcome = await s.hold()
        assert isinstance(outcome, NotSent), outcome
        assert "has it again" in outcome.why
        assert s.commands()[-2:] == ["Reservation", REGISTRATION], "and not the hold once more"
        await s.held()
        assert s.booked() == [("hold", 5000)]

    tell(story, monkeypatch, tcp=True)


def test_a_question_is_asked_again_after_a_new_registration(run: Any) -> None:
    async def case(b: Bench) -> None:
        await b.linked()
        b.peer.scripts["0623"] = [bytes.fromhex("846b00")]

        async def registered() -> None:
            while "0600" not in b.heard():
                await asyncio.sleep(0.001)
            b.peer.scripts.clear()

        waiting = asyncio.ensure_future(registered())
        assert (await b.driver.open_holds()).receipts == ()
        assert b.heard() == ["0623", "0600", "0623"]
        await waiting

    run(case)


@pytest.mark.parametrize("profile", ["generic", "feig_cvend"])
def test_another_protocol_is_named(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        s.set(wrong_protocol=True)
        with unavailable("TRM-013") as error:
            await s.driver.connect()
        assert "tcp://terminal:20007 answers with 15 03 69: it is set to another protocol" in str(
            error.value
        )
        assert "set the terminal to ZVT over TCP/IP" in str(error.value)
        s.set(wrong_protocol=False)
        await s.driver.connect()

    tell(story, monkeypatch, tcp=True, profile=profile)


def test_half_a_message_that_nobody_asked_for_makes_a_new_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the old one the rest of it would be taken for the answer to the next command."""

    async def story(s: Stand) -> None:
        await s.driver.connect()
        s.cable._arrived(bytes.fromhex("040f30270004"))
        await s.held()
        assert (s.cable.opened, s.commands().count(REGISTRATION)) == (2, 1)
        s.cable._arrived(bytes.fromhex("04ff010e"))
        await s.driver.identify()
        assert s.cable.opened == 2, "a whole one does no harm"

    tell(story, monkeypatch, tcp=True)


def test_an_abort_over_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        reading = asyncio.ensure_future(s.driver.read_card(15))
        await asyncio.sleep(3)
        before = s.now()
        await s.driver.show(["hello"])
        assert s.now() - before < 1
        assert await reading is None

    tell(story, monkeypatch, tcp=True)


def test_only_the_answer_to_a_result_waits_for_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        seen: list[int] = []

        async def slow(_: Evidence) -> Verdict:
            seen.append(len(s.cable.sent))
            await asyncio.sleep(2)
            seen.append(len(s.cable.sent))
            return Verdict.STORED

        s.sim.verbs.tap("visa")
        before = len(s.cable.sent)
        assert isinstance(await s.driver.authorize(EUR50, "S1", slow), Done)
        assert seen[0] == seen[1], "nothing was answered meanwhile"
        assert seen[0] > before + 1, "what came before it was answered at once"
        assert s.cable.sent[seen[1]] == bytes.fromhex("800000")

    tell(story, monkeypatch, tcp=True)


def test_a_line_that_is_closed_while_it_is_opened_stays_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(s: Stand) -> None:
        await s.driver.connect()
        opened = s.cable.open

        async def slowly(spec: LineSpec) -> Any:
            await asyncio.sleep(1)
            return await opened(spec)

        monkeypatch.setattr(zvt, "open_line", slowly)
        s.cable._lose("closed by the terminal")
        asking = asyncio.ensure_future(s.driver.open_holds())
        await asyncio.sleep(0.5)
        await s.driver.close()
        with unavailable("TRM-009"):
            await asking
        assert s.cable.lost, "it was given back"
        sent = len(s.cable.sent)
        assert isinstance(await s.hold(), NotSent)
        assert len(s.cable.sent) == sent

    tell(story, monkeypatch, tcp=True)


def test_an_address_without_a_port_has_that_of_the_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(s: Stand) -> None:
        asked: list[str] = []
        opened = s.cable.open

        async def open_line(spec: LineSpec) -> Any:
            asked.append(spec.port)
            return await opened(spec)

        monkeypatch.setattr(zvt, "open_line", open_line)
        env = DriverEnv(lambda: int(s.now() * 1000), lambda *_, **__: None)
        for profile, port in (("generic", 20007), ("feig_cvend", 22000)):
            line = LineSpec("tcp://10.0.0.5")
            driver = open_terminal(TerminalSpec("t1", line, "123456", "EUR", profile), env)
            await driver.connect()
            await driver.close()
            assert asked.pop() == f"tcp://10.0.0.5:{port}"

    tell(story, monkeypatch, tcp=True)


# --- the process, on a socket ---------------------------------------------------------------------


class Wired:
    """The driver as it is shipped, and the simulator as a process."""

    def __init__(self, pt: Simulator, port: int, **options: Any) -> None:
        spec = TerminalSpec(
            "t1", LineSpec(f"tcp://127.0.0.1:{port}"), "123456", "EUR", options=options
        )
        self.lines: list[str] = []
        env = DriverEnv(
            lambda: time.monotonic_ns() // 1_000_000,
            lambda event, **values: self.lines.append(str(values.get("command", event))),
        )
        self.pt, self.port = pt, open_terminal(spec, env)

    async def ask(self, do: str, **request: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self.pt.ask, do, **request)

    async def keep(self, _: Evidence) -> Verdict:
        return Verdict.STORED


def wired(
    tmp_path: Path, case: Callable[[Wired], Awaitable[None]], *given: str, **options: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = (
        "--tcp",
        str(port),
        "--delay-ms",
        "2",
        "--ledger",
        str(tmp_path / "ledger"),
        *given,
    )
    with Simulator("terminal", tmp_path, *arguments) as pt:

        async def main() -> None:
            w = Wired(pt, port, **options)
            try:
                await w.port.connect()
                await case(w)
            finally:
                await w.port.close()

        asyncio.run(main())


@pytest.mark.parametrize("idle", ["keep", "close"])
def test_every_piece_of_a_message_may_come_alone(tmp_path: Path, idle: str) -> None:
    async def case(w: Wired) -> None:
        await w.ask("tap", card="visa")
        held = await w.port.authorize(EUR50, "S1", w.keep)
        assert isinstance(held, Done)
        await asyncio.sleep(0.3)  # longer than the terminal keeps an idle connection
        captured = await w.port.capture(held.evidence.ref, EUR50, PART, w.keep)
        assert isinstance(captured, Done)
        rows = (await w.ask("ledger"))["rows"]
        assert [(r["kind"], r["amount_minor"]) for r in rows] == [("hold", 5000), ("capture", 1295)]
        assert (await w.ask("state"))["complaints"] == {}
        assert w.lines.count(REGISTRATION) == 2, "a hold is named to who made it"

    wired(tmp_path, case, "--set", "tcp_chunk=1", "--set", "tcp_idle_s=0.1", tcp_idle=idle)
