"""A day at a charger: a few taps at the simulator of hil/, played by the whole ZVT driver over a line that
may spoil what it carries, on a virtual clock. In the end the ledgers of both sides are compared.

Card reads, holds, captures, releases; line faults, reboots, power cuts, killed drivers; and questions where
an outcome is unknown. Everything follows from the seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.untraced import untraced
from support.virtual_loop import VirtualLoop
from support.virtual_simulator import SerialCable, TcpCable, start_simulator
from support.zvt_books import (
    EXECUTED,
    OPEN,
    Disagreement,
    Hold,
    Intent,
    Ours,
    Theirs,
    compare,
    insist,
)
from support.zvt_card_frames import told_digits
from support.zvt_profiles import read_once
from support.zvt_wires import STREAMS, WIRES, perfect

from agent.ports import (
    CanIncrement,
    DeviceUnavailable,
    Done,
    DriverEnv,
    Evidence,
    LineSpec,
    TerminalSpec,
    Verdict,
)
from agent.values import Money
from drivers.terminal.zvt import terminal as zvt
from hil.terminal.cards import CARDS
from hil.terminal.faults import RECEIVING, SENDING
from hil.terminal.simulator import Simulator

# These wires forge ACK and NAK bytes. Blocks have no numbers, so after a forged one a terminal may take the
# answer to one message for that to the next; the outcome must be true all the same.
FORGING = ("noisy", "storm")
# These spoil nothing: whatever a good ECR never does would be the driver's own doing.
CLEAN = ("perfect", "one_byte", "paused")
PROFILES = {
    "generic": "generic",
    "feig": "feig_cvend",
    "ccv": "ccv_im30",
    "valina": "worldline_valina",
    "cardcomplete": "card_complete",
    "ingenico": "ingenico",
    "verifone": "verifone",
    "pax": "pax",
}
EXTENSIONS = ("none", "added", "total")
# Forms of the answer to the enquiry that do not say that nothing more is open.
VAGUE = ("one", "list_only")
TAPS_MAX = 3
SETTLED_S = 60.0  # a reboot is over, a connection is closed
ACK_S = 0.1  # both ways over a perfect wire; waits for nothing, least of all for a disk
SETTLE_TRIES = 3
PANS = {card.pan for card in CARDS.values() if card.pan}


@dataclass
class Day:
    """One run. `kind` is the wire, or the network where `tcp`."""

    seed: int
    kind: str
    tcp: bool
    sim: Simulator
    cable: Any
    rng: random.Random
    vendor: str
    extension: str
    ours: Ours = field(init=False)
    theirs: Theirs = field(init=False)
    driver: Any = None
    logged: list[str] = field(default_factory=list)
    words: Counter[str] = field(default_factory=Counter)
    aside: list[asyncio.Task[None]] = field(default_factory=list)
    amounts: list[int] = field(default_factory=list)
    healed: bool = False

    def __post_init__(self) -> None:
        self.slowest_ack_s = 0.0
        if not self.tcp:
            self._watch_acks()
        self.ours = Ours(self.rng, increment_reports=self.extension)
        self.theirs = Theirs(self.sim, self.ours.stored)
        self.amounts = self.rng.sample(range(500, 9_999), 4 * TAPS_MAX)
        self.restart()

    def _watch_acks(self) -> None:
        link, loop = self.sim._links[0], asyncio.get_running_loop()
        send = link.send

        async def watched(*values: Any) -> None:
            begin = loop.time()
            await send(*values)
            self.slowest_ack_s = max(self.slowest_ack_s, loop.time() - begin)

        link.send = watched  # type: ignore[method-assign]

    def restart(self) -> None:
        loop = asyncio.get_running_loop()
        line = LineSpec("tcp://terminal:20007" if self.tcp else "cable")
        options = {"extension": self.extension}
        spec = TerminalSpec("t1", line, "123456", "EUR", PROFILES[self.vendor], options)

        def log(event: str, **values: object) -> None:
            self.logged.append(f"{event} {values!r}")

        self.driver = zvt.open_terminal(spec, DriverEnv(lambda: int(loop.time() * 1000), log))

    async def linked(self) -> bool:
        """A Registration only where the link is down: it makes the terminal forget the card just read."""
        with contextlib.suppress(DeviceUnavailable):
            await self.driver.identify()
            return True
        for _ in range(3):
            try:
                await self.driver.connect()
            except DeviceUnavailable:
                await asyncio.sleep(self.rng.choice((1, 20)))
            else:
                return True
        return False

    # --- What goes wrong --------------------------------------------------------------------------

    def trouble(self) -> None:
        """Perhaps something happens during the next command."""
        rng = self.rng
        if self.healed or self.kind == "perfect" or rng.random() > 0.4:
            return
        after_s = rng.random() * rng.choice((0.3, 3.0, 8.0))
        what = rng.choice((self._unplugged, self._rebooted, self._faulty, self._faulty))
        self.aside.append(asyncio.ensure_future(what(after_s)))

    async def _unplugged(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.cable.unplug()
        await asyncio.sleep(self.rng.choice((0.1, 2.0, 30.0)))
        self.cable.replug()

    async def _rebooted(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if self.sim.powered:
            self.sim.reboot(self.rng.choice((0.3, 5.0, 40.0)))

    async def _faulty(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        harmless = [f for f in (*SENDING, *RECEIVING) if f != "silent"]
        self.sim.faults.set(self.rng.choice(harmless), self.rng.choice((1, 1, 2, 3, 4)))

    async def calm(self) -> None:
        """Everything heals; what the terminal still does comes to its end."""
        self.healed = True
        await asyncio.gather(*self.aside)
        self.sim.faults.clear()
        self.sim.switches.chaos_permille = self.sim.switches.lost_result_permille = 0
        self.sim.switches.random_refusal_permille = 0
        self.cable.replug()
        self.cable.change_wire(perfect)
        await asyncio.sleep(SETTLED_S)
        if not self.sim.powered:
            self.sim.power_on()

    # --- What is done -----------------------------------------------------------------------------

    async def command(self, intent: Intent, start: Callable[[Any], Any]) -> None:
        """One money command. Now and then the driver's process is killed meanwhile. None is sent before
        the terminal was asked about what is not known: its last result is the last one only until then."""
        if any(i.word == OPEN for i in self.ours.intents) and not await self.ours.ask(self.driver):
            return
        if intent.hold is not None and intent.hold.ended_by is not None:
            return
        self.ours.intents.append(intent)
        self.trouble()
        task = asyncio.ensure_future(start(self.ours.keeper(intent)))
        killed_after_s = self.rng.random() * 6 if self.rng.random() < 0.08 else None
        await asyncio.wait({task}, timeout=killed_after_s)
        if task.done():
            intent.outcome = task.result()
            self.words[type(intent.outcome).__name__] += 1
        else:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.driver.close()
            self.restart()
            self.words["killed"] += 1
        self.ours.note(intent)
        await asyncio.sleep(self.rng.choice((0.0, 0.0, 1.0, 60.0)))
        if intent.word == OPEN and await self.ours.ask(self.driver):
            self.words[f"asked: {intent.word}"] += 1

    async def tap(self) -> None:
        if not await self.linked():
            return
        rng = self.rng
        reading = asyncio.ensure_future(self.driver.read_card(rng.choice((2, 5))))
        await asyncio.sleep(rng.random() * 3)
        if rng.random() < 0.8 and self.sim.powered:
            self.sim.verbs.tap(rng.choice(("visa", "mastercard", "girocard", "amex")))
        if rng.random() < 0.2:
            with contextlib.suppress(DeviceUnavailable):
                await self.driver.show(["Bitte warten"])
        card = None
        with contextlib.suppress(DeviceUnavailable):
            card = await reading
        if not await self.linked():
            return
        if card is None and self.sim.commands.till.card_before is not None:
            return  # of an earlier tap: one tap is one wish
        if card is None and rng.random() < 0.9 and self.sim.powered:
            self.sim.verbs.tap("mastercard")  # while the hold asks for it
        amount = self.amounts.pop()
        intent = Intent("hold", amount)
        money = Money(amount, "EUR")
        await self.command(intent, lambda keep: self.driver.authorize(money, f"S{amount}", keep))

    async def grow(self, hold: Hold) -> None:
        """More is wanted than was held at first."""
        if not isinstance(self.driver, CanIncrement) or not await self.linked():
            return
        held, add_minor = hold.held_minor, self.amounts.pop()
        intent = Intent("increment", add_minor, hold, before_minor=held)
        money = Money(held, "EUR"), Money(add_minor, "EUR")
        await self.command(
            intent, lambda keep: self.driver.increment(hold.ref, money[0], money[1], keep)
        )

    async def settle(self, hold: Hold) -> None:
        """Capture all or a part, or release; what was not executed is tried again."""
        rng, held = self.rng, Money(hold.held_minor, "EUR")
        part = rng.choice((0, hold.held_minor, rng.randrange(1, hold.held_minor + 1)))
        for _ in range(SETTLE_TRIES):
            if hold.ended_by is not None or not await self.linked():
                return
            amount = Money(part, "EUR")
            intent = Intent("capture" if part else "release", part, hold)

            def start(keep: Any, amount: Money = amount) -> Any:
                if not amount.amount_minor:
                    return self.driver.release(hold.ref, held, keep)
                return self.driver.capture(hold.ref, held, amount, keep)

            await self.command(intent, start)
            if intent.word in (EXECUTED, OPEN):
                return

    async def play(self) -> None:
        for _ in range(self.rng.randrange(1, TAPS_MAX + 1)):
            await self.tap()
            if self.rng.random() < 0.7:
                await self.settle_all()
        await self.settle_all()
        await self.calm()
        insist(await self.ours.ask(self.driver), "a healthy terminal does not answer")
        await self.settle_all()
        insist(await self.ours.ask(self.driver), "a healthy terminal does not answer")
        if not self.ours.open_receipts():
            await self.close_the_day()

    async def close_the_day(self) -> None:
        """What the terminal says that it charged is what was charged."""
        kept: list[Evidence] = []

        async def keep(evidence: Evidence) -> Verdict:
            kept.append(evidence)
            return Verdict.STORED

        self.theirs.settle()
        charged = sum(row["amount_minor"] for row in self.theirs.standing("capture"))
        outcome = await self.driver.end_of_day(keep)
        self.words[f"day: {type(outcome).__name__}"] += 1
        rows = self.theirs.rows("end_of_day")
        if isinstance(outcome, Done):
            insist(len(rows) == len(kept) == 1, f"a day that was closed: {rows}, {kept}")
            told = outcome.evidence.details
            total = sum(
                int(v) for k, v in told.items() if k.startswith("total_") and k.endswith("_minor")
            )
            insist(total == rows[0]["amount_minor"] == charged, f"{charged}: {rows}, {told}")
        else:
            insist(not rows, f"{outcome}, and the day is closed: {rows}")

    async def settle_all(self) -> None:
        for hold in list(self.ours.holds):
            doubted = any(i.hold is hold and i.word == OPEN for i in self.ours.intents)
            if hold.ended_by is not None or doubted:
                continue
            if self.extension != "none" and self.rng.random() < 0.4 and self.amounts:
                await self.grow(hold)
            if self.ours.intents[-1].word != OPEN:
                await self.settle(hold)

    def judge(self) -> None:
        promised = self.kind not in FORGING and not self.theirs.unheard
        compare(self.ours, self.theirs, promised=promised)
        for intent in self.ours.intents:
            known = intent.word != OPEN or self.sim.switches.enquiry in VAGUE
            insist(known, f"asked, and still not known: {intent}")
            self.words[f"in the end: {intent.word}"] += 1
        if self.kind == "perfect" and not self.tcp:
            insist(self.slowest_ack_s < ACK_S, f"an ACK took {self.slowest_ack_s:.3f} s")
        told = "\n".join((*self.logged, repr(self.ours)))
        insist(not any(told_digits(pan, told) for pan in PANS), "a card number was told")
        if self.kind in CLEAN and not self.aside and not self.words["killed"]:
            bad = dict(self.sim.desk.complaints)
            insist(not bad, f"the terminal complains: {bad}")


def prepare(sim: Simulator, rng: random.Random, kind: str) -> None:
    """A terminal with manners of its own."""

    def sometimes(name: str, *values: Any, share: float = 0.2) -> None:
        if rng.random() < share:
            sim.switches.change(name, rng.choice(values))

    sim.switches.change("print_before_result", rng.random() < 0.5)
    sometimes("print", "lines", "block", "none", share=0.5)
    sometimes("print_hold", True)
    sometimes("approve_at_most_minor", 1500, 400)
    sometimes("host_s", 0.0, 3.0, 20.0, share=0.5)
    sometimes("extra_results", 1, 2)
    sometimes("extra_status_t4_min", 1, 2)
    sometimes("collision", "polite")
    sometimes("auto_reversal", "next_transaction", "never")
    sometimes("cancel_amount", "zero", "reversed")
    sometimes("enquiry", "list", *VAGUE)
    sometimes("unknown_tlv", True)
    sometimes("unknown_bmp", True, share=0.1)
    sometimes("crc_looks_like_control", True)
    sometimes("full_pan", True)
    sometimes("clear_tracks", True)
    sometimes("abort", "refused")
    sometimes("forget_registration", True)
    sometimes("max_holds", 1, share=0.1)
    sometimes("max_amount_minor", 5000, share=0.1)
    sometimes("tcp_chunk", 1, 7, 100, share=0.5)
    sometimes("tcp_idle_s", 1.5)
    if kind != "perfect":
        sometimes("lost_result_permille", 200, share=0.1)
        sometimes("random_refusal_permille", 50, share=0.1)
        if kind not in CLEAN:
            sometimes("chaos_permille", 20, 100, share=0.1)


def run_day(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch, *, tcp: bool = False) -> Day:
    """Raises Disagreement, which names what was run."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    rng = random.Random(f"{kind} {seed}")

    async def main() -> Day:
        cable = TcpCable(STREAMS[kind], rng, loop) if tcp else SerialCable(WIRES[kind], rng)
        monkeypatch.setattr(zvt, "open_line", cable.open)
        read_once(monkeypatch)
        vendor, extension = rng.choice(sorted(PROFILES)), rng.choice(EXTENSIONS)
        sim = await start_simulator(monkeypatch, cable, vendor=vendor, seed=seed)
        prepare(sim, rng, kind)
        if extension != "none":
            sim.switches.change("increment_reports", extension)
        day = Day(seed, kind, tcp, sim, cable, rng, vendor, extension)
        try:
            await day.play()
            day.judge()
            broken = (
                None if sim._failure is None or not sim._failure.done() else sim._failure.result()
            )
            insist(broken is None, f"the simulator itself broke: {broken!r}")
        finally:
            await day.driver.close()
            await asyncio.sleep(SETTLED_S)
            await sim.close()
            await asyncio.sleep(SETTLED_S)
            for task in day.aside:
                task.cancel()
            await asyncio.gather(*day.aside, return_exceptions=True)
        return day

    try:
        with untraced():
            day = loop.run_until_complete(main())
        left = [task for task in asyncio.all_tasks(loop) if not task.cancelling()]
        insist(not left, f"left running: {left}")
        insist(not loop.troubles, f"{loop.troubles}")
        return day
    except Disagreement as error:
        raise Disagreement(f"{kind}, seed {seed} (ZVT_SEEDS={seed}:1): {error}") from error
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()
