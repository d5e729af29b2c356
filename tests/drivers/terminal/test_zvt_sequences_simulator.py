"""Every command in its sequence against the simulator of hil/, over both transports, with message numbers and
without; the simulator counts what a good ECR never does."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest
from support.virtual_loop import VirtualLoop
from support.virtual_simulator import SerialCable, TcpCable, start_simulator
from support.zvt_wires import perfect

from agent.ports import DriverEnv, HoldRef, LineSpec, TerminalSpec
from agent.values import Money
from drivers.terminal.zvt import commands as c
from drivers.terminal.zvt import outcomes as o
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.channel import Channel, Ran
from drivers.terminal.zvt.decode import open_receipts
from drivers.terminal.zvt.profile import load_profile
from drivers.terminal.zvt.sequences import SEQUENCES
from drivers.terminal.zvt.transfer import Files

PASSWORD = "123456"
EUR50, EUR12 = Money(5000, "EUR"), Money(1295, "EUR")
PROFILE = replace(
    load_profile("generic", {}),
    print_blocks=True,
    offers_charset=True,
    charset="utf-8",
    max_apdu=600,
)


@dataclass
class Rig:
    sim: Any
    channel: Channel
    kept: list[Apdu] = field(default_factory=list)
    decisions: list[o.Decision] = field(default_factory=list)  # then always yes
    run_before: set[str] = field(default_factory=set)

    async def run(self, name: str, apdu: Apdu, **more: Any) -> Ran:
        self.run_before.add(name)
        store = self._store if SEQUENCES[name].money else None
        return await self.channel.run(apdu, SEQUENCES[name], store=store, **more)

    async def _store(self, apdu: Apdu) -> o.Decision:
        self.kept.append(apdu)
        return self.decisions.pop(0) if self.decisions else True

    async def done(self, name: str, apdu: Apdu, **more: Any) -> o.Completed:
        outcome = (await self.run(name, apdu, **more)).outcome
        assert isinstance(outcome, o.Completed), (name, outcome)
        return outcome

    async def money(self, name: str, apdu: Apdu) -> HoldRef:
        outcome = await self.done(name, apdu)
        assert outcome.status is not None, name
        return HoldRef(
            outcome.status.text("tid") or "",
            int(outcome.status.text("receipt") or 0),
            trace=outcome.status.integer("trace"),
            date=outcome.status.text("date"),
            time=outcome.status.text("time"),
        )

    def aid(self) -> str:
        return self.kept[-1].text("aid") or ""

    def tap(self, card: str = "visa", **more: Any) -> None:
        self.sim.verbs.tap(card, **more)


Case = Callable[[Rig], Awaitable[None]]


def play(monkeypatch: pytest.MonkeyPatch, case: Case, *, tcp: bool, numbers: bool) -> None:
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)

    async def main() -> None:
        rng = random.Random(1)
        cable: Any = TcpCable(perfect, rng, loop) if tcp else SerialCable(perfect, rng)
        sim = await start_simulator(monkeypatch, cable)
        port = "tcp://pt:20007" if tcp else "cable"
        spec = TerminalSpec("t1", LineSpec(port, 9600, "8N2"), PASSWORD, "EUR")
        env = DriverEnv(lambda: int(loop.time() * 1000), lambda *_, **__: None)
        profile = replace(PROFILE, message_numbers=numbers)
        rig = Rig(sim, Channel(spec, env, profile, cable.open))
        try:
            await rig.channel.open()
            await rig.done("registration", c.registration(PASSWORD, "EUR", profile))
            await asyncio.sleep(0.1)  # until our last answer is there
            assert sim.talk.numbers.active is numbers
            await case(rig)
            assert not sim.talk.numbers.seen
            assert not sim.desk.complaints
        finally:
            await rig.channel.close()
            await sim.close()

    try:
        loop.run_until_complete(main())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


transports = pytest.mark.parametrize("tcp", [False, True], ids=["serial", "tcp"])
numbering = pytest.mark.parametrize("numbers", [False, True], ids=["plain", "numbered"])


@transports
@numbering
def test_every_command(monkeypatch: pytest.MonkeyPatch, tcp: bool, numbers: bool) -> None:
    async def case(rig: Rig) -> None:
        await money(rig)
        await cards(rig)
        await the_day(rig)
        await care(rig, numbers)
        assert rig.run_before == set(SEQUENCES)

    play(monkeypatch, case, tcp=tcp, numbers=numbers)


@transports
@numbering
def test_goods_later_and_in_part(monkeypatch: pytest.MonkeyPatch, tcp: bool, numbers: bool) -> None:
    async def case(rig: Rig) -> None:
        pay = c.payment(EUR50, "S1", PROFILE, wait_s=30, waits_max=3)
        rig.tap()
        rig.decisions = [o.Later(), o.Later(), o.Partly(1295)]
        outcome = await rig.done("payment", pay)
        assert (outcome.issued_minor, len(rig.kept)) == (1295, 3)
        rig.tap()
        rig.decisions = [o.Later()] * 4
        late = await rig.run("payment", pay)
        assert isinstance(late.outcome, o.Aborted)
        assert late.code == 0x6C
        rig.tap()
        rig.decisions = [False]
        no = await rig.run("payment", pay)
        assert isinstance(no.outcome, o.Disputed), no.outcome
        rows = [(r["kind"], r["amount_minor"]) for r in rig.sim.store.rows()]
        assert rows[:2] == [("payment", 5000), ("reversal", 3705)]
        back = [(kind, amount) for kind, amount in rows[2:] if kind != "payment"]
        assert back == [("auto_reversal", 5000)] * 2

    play(monkeypatch, case, tcp=tcp, numbers=numbers)


async def money(rig: Rig) -> None:
    rig.tap()
    held = await rig.money("reserve", c.reserve(EUR50, "S1", PROFILE))
    assert rig.kept[-1].integer("amount_minor") == 5000
    rig.tap()
    await rig.money("extend", c.extend(held, EUR12, rig.aid(), "S1", PROFILE))
    found = await rig.run("enquiry", c.enquiry())
    assert isinstance(found.outcome, o.Aborted)
    assert open_receipts(found.outcome.apdu) == [held.receipt]
    captured = c.capture(held, Money(5000, "EUR"), PROFILE)
    ran = await rig.run("capture", captured)
    assert isinstance(ran.outcome, o.Completed)
    assert any("12.95" in line for line in ran.lines), ran.lines
    for name in ("book_total", "release"):
        rig.tap()
        again = await rig.money("reserve", c.reserve(EUR50, "S2", PROFILE))
        if name == "release":
            await rig.money(name, c.release(again, "EUR", PROFILE))
        else:
            await rig.money(name, c.book_total(again, EUR12, PROFILE, aid=rig.aid()))
    assert [r["kind"] for r in rig.sim.store.rows()][-4:] == ["hold", "capture", "hold", "release"]
    rig.tap()
    paid = await rig.money("payment", c.payment(EUR12, "S3", PROFILE, wait_s=30, waits_max=3))
    await rig.money("reversal", c.reversal(PASSWORD, paid, EUR12))
    rig.tap()
    await rig.money("refund", c.refund(PASSWORD, EUR12, PROFILE))
    repeated = await rig.done("repeat", c.repeat(PASSWORD))
    assert repeated.status is not None
    assert repeated.status.integer("amount_minor") == 1295
    rig.sim.verbs.table()["foreign_hold"](card="visa", amount_minor=700, trace=77, aid="750071")
    await rig.money("release_foreign", c.release_foreign(Money(700, "EUR"), 77, "750071"))


async def cards(rig: Rig) -> None:
    rig.tap("visa")
    seen = await rig.done("read_card", c.read_card(5, PROFILE), extra_ms=5_000)
    assert seen.status is not None
    none = await rig.run("read_card", c.read_card(2, PROFILE), extra_ms=2_000)
    assert isinstance(none.outcome, o.Aborted)
    assert none.code == 0x6C
    rig.tap("rfid")
    other = await rig.run("card_poll", c.card_poll(5, "EUR", PROFILE), extra_ms=5_000)
    assert isinstance(other.outcome, o.Aborted)
    assert (other.code, len(other.outcome.apdu.values("4c"))) == (0x7A, 1)
    assert other.outcome.apdu.find("e6")
    rig.tap("visa")
    assert (await rig.done("card_poll", c.card_poll(5, "EUR", PROFILE), extra_ms=5_000)).status
    rig.tap("visa")
    await rig.money("card_poll_payment", c.card_poll_payment(EUR12, 5, PROFILE))
    await rig.done("activate_reader", c.activate_reader(True))
    await rig.done("close_card_session", c.close_card_session())


async def the_day(rig: Rig) -> None:
    told = await rig.done("totals", c.totals(PASSWORD))
    assert told.status is not None
    assert told.status.get("totals") is not None
    await rig.done("end_of_day", c.end_of_day(PASSWORD))
    assert rig.kept[-1].get("totals") == told.status.get("totals")


async def care(rig: Rig, numbers: bool) -> None:
    status = await rig.done("status", c.status(PASSWORD, PROFILE))
    assert status.completion.text("terminal_status") == "00"
    await rig.done("set_tid", c.set_tid(PASSWORD, "52500245"))
    rig.sim.switches.set_clock_in_diagnosis = True
    diagnosed = await rig.run("diagnosis", c.diagnosis("04"))
    assert isinstance(diagnosed.outcome, o.Completed)
    assert set(diagnosed.asked) == {"0401"}
    await rig.done("initialisation", c.initialisation(PASSWORD))
    again = await rig.done("status", c.status(PASSWORD, PROFILE, contactless=True))
    assert again.completion.tag_text("1f44") == "52500245"
    assert (await rig.run("print_setup", c.print_setup())).lines[0] == "System configuration"
    assert len((await rig.run("selftest", c.selftest())).lines) == 2
    await rig.done("set_clock", c.set_clock(PASSWORD, datetime(2026, 11, 21, 7, 37, 22)))
    await rig.done("language", c.language("en"))
    await rig.done("display", c.display(["Grüße 2 €"], 0, "utf-8"))
    assert rig.sim.screen.lines[0] == "Grüße 2 €"
    asking = c.display_key(["OK?"], 5)
    asked = asyncio.ensure_future(rig.run("display_key", asking, extra_ms=5_000))
    await asyncio.sleep(1)
    rig.channel.abort()
    outcome = (await asked).outcome
    assert isinstance(outcome, o.Completed)
    assert outcome.completion.text("key") == "6c"
    await files(rig)
    info = await rig.done("feig_info", c.feig_info())
    assert info.completion.text("device_id") == "17FD1E3C"
    assert info.completion.text("temperature") == "24.4"
    await rig.done("abort", c.abort())
    await the_end(rig, numbers)


async def files(rig: Rig) -> None:
    contents = {0x22: b"spec" * 100, 0x23: bytes(range(256)) * 8}
    await rig.done("change_configuration", c.change_configuration([("ff48", b"\x3c\x01")]))
    sent = Files(contents, PROFILE.max_apdu)
    ran = await rig.run("write_file", c.write_file(PASSWORD, sent.sizes), files=sent)
    assert isinstance(ran.outcome, o.Completed)
    assert {int(i, 16): f["size"] for i, f in rig.sim.store.memory.files.items()} == sent.sizes


async def the_end(rig: Rig, numbers: bool) -> None:
    """What ends a registration, or the terminal's life."""
    profile = replace(PROFILE, message_numbers=numbers)
    await rig.done("log_off", c.log_off())
    await rig.done("registration", c.registration(PASSWORD, "EUR", profile))
    await rig.done("reset", c.reset())
    await asyncio.sleep(5)
    await rig.channel.open()
    await rig.done("registration", c.registration(PASSWORD, "EUR", profile))
    await rig.done("feig_reset", c.feig_reset(PASSWORD))
    await asyncio.sleep(5)
    await rig.channel.open()
    await rig.done("registration", c.registration(PASSWORD, "EUR", profile))
    await rig.done("baud", c.baud(115_200))
