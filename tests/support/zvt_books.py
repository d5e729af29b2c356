"""Two ledgers of the same taps: what the agent knows by its driver, and what the acquirer has booked.

`Ours` keeps intents, evidence and outcomes, and settles an unknown one as design rule 2 has it: identity,
last result, open holds. `Theirs` watches the simulator. `compare` is the judge."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agent.ports import (
    DeviceUnavailable,
    Done,
    Evidence,
    HoldRef,
    NotSent,
    Outcome,
    Refused,
    Verdict,
)
from agent.values import Money
from hil.terminal import store as sim_store
from hil.terminal.bank import Booked
from hil.terminal.cards import Card
from hil.terminal.simulator import Simulator

ASK_TRIES = 5
MOVEMENTS = ("hold", "increment", "capture", "release")
EXECUTED, NOT_EXECUTED, OPEN = "executed", "not executed", "cannot be told"


class Disagreement(AssertionError):
    """The two ledgers tell different stories."""


def insist(fact: object, text: str) -> None:
    if not fact:
        raise Disagreement(text)


# --- The acquirer's side --------------------------------------------------------------------------


class Theirs:
    """Counts what the host behind the terminal was asked, before anything can be taken back."""

    def __init__(self, sim: Simulator, stored: set[int | None]) -> None:
        self._sim = sim
        self.asked: Counter[int] = Counter()  # amounts, which a run gives to one hold each
        self.asked_of_trace: dict[int, int] = {}
        self.unstored: list[int] = []  # traces whose result was answered before it was durable
        self.unheard = False  # a result stands that was never sent
        bank, till, loses = sim.bank, sim.commands.till, sim.desk.loses_result
        authorize, increment, commit = bank.authorize, bank.increment, till._commit

        def authorized(card: Card, amount_minor: int) -> Booked:
            self.asked[amount_minor] += 1
            booked = authorize(card, amount_minor)
            self.asked_of_trace[booked.trace] = amount_minor
            return booked

        def incremented(hold: sim_store.Hold, add_minor: int) -> Booked:
            self.asked[add_minor] += 1
            return increment(hold, add_minor)

        def committed(ask: Any, booked: Booked, issued_minor: int) -> None:
            if booked.trace not in stored:
                self.unstored.append(booked.trace)
            commit(ask, booked, issued_minor)

        def loses_result() -> bool:
            lost = loses()
            self.unheard = self.unheard or lost
            return lost

        sim.desk.loses_result = loses_result
        bank.increment = incremented  # type: ignore[method-assign]
        bank.authorize = authorized  # type: ignore[method-assign]
        till._commit = committed  # type: ignore[method-assign]

    def settle(self) -> None:
        """What waits for the terminal's next transaction to be taken back is as good as taken back."""
        self._sim.books.take_back()

    def rows(self, *kinds: str) -> list[dict[str, Any]]:
        return [row for row in self._sim.store.rows() if row["kind"] in kinds]

    def reversed_traces(self) -> set[int]:
        return {row["trace"] for row in self.rows("auto_reversal")}

    def standing(self, *kinds: str) -> list[dict[str, Any]]:
        """Rows that were not taken back."""
        gone = self.reversed_traces()
        return [row for row in self.rows(*kinds) if row["trace"] not in gone]

    def open(self) -> dict[int, tuple[int, int]]:
        """Receipt -> what was asked for, and the amount held."""
        holds = self._sim.store.memory.holds
        return {h.receipt: (self.asked_of_trace[h.trace], h.amount_minor) for h in holds}


# --- Our side -------------------------------------------------------------------------------------


@dataclass
class Intent:
    """One money command. `amount_minor`: asked for; of a capture the part that is charged, of an increment
    the part that is added. `before_minor`: what was held when it was sent. `word`: whether it was executed,
    as far as we know."""

    kind: str
    amount_minor: int
    hold: Hold | None = None
    before_minor: int = 0
    evidence: Evidence | None = None
    stored: bool = False
    outcome: Outcome | None = None  # None: we were killed meanwhile
    word: str = OPEN


@dataclass
class Hold:
    ref: HoldRef
    held_minor: int
    asked_minor: int
    ended_by: Intent | None = None
    adopted: bool = False


@dataclass
class Ours:
    rng: random.Random
    stored: set[int | None] = field(default_factory=set)  # traces
    intents: list[Intent] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    increment_reports: str = "added"  # or the total: what the terminal's last result tells

    def keeper(self, intent: Intent) -> Callable[[Evidence], Awaitable[Verdict]]:
        async def keep(evidence: Evidence) -> Verdict:
            if intent.evidence is not None:
                self.broken.append(f"{intent.kind}: asked twice to keep evidence")
            intent.evidence = evidence
            await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.0, 0.01, 0.01, 0.5, 3.0, 4.5)))
            word = self.rng.random()
            if word < 0.02:
                raise OSError("disk full")
            if word < 0.04:
                return Verdict.REJECT
            intent.stored = True
            self.stored.add(evidence.ref.trace)
            return Verdict.STORED

        return keep

    def open_receipts(self) -> set[int]:
        return {hold.ref.receipt for hold in self.holds if hold.ended_by is None}

    def note(self, intent: Intent) -> None:
        """The outcome of a dialogue."""
        outcome = intent.outcome
        if isinstance(outcome, Done):
            insist(intent.stored, f"{intent.kind} is done, its evidence was not stored")
            self._executed(intent, outcome.evidence)
        elif isinstance(outcome, Refused | NotSent):
            intent.word = NOT_EXECUTED

    def _executed(self, intent: Intent, evidence: Evidence) -> None:
        intent.word, intent.evidence = EXECUTED, intent.evidence or evidence
        if intent.hold is not None and intent.kind != "increment":
            intent.hold.ended_by = intent
            return
        assert evidence.amount is not None
        held_minor = evidence.amount.amount_minor
        if intent.hold is not None:
            intent.hold.held_minor = held_minor
            return
        self.holds.append(Hold(evidence.ref, held_minor, intent.amount_minor))

    async def ask(self, driver: Any) -> bool:
        """Settle what is open, as far as the terminal's answers go. False when it did not answer."""
        for _ in range(ASK_TRIES):
            try:
                await driver.connect()
                last = await driver.last_result()
                listed = await driver.open_holds()
            except DeviceUnavailable:
                await asyncio.sleep(self.rng.choice((1, 5, 30)))
                continue
            told = last.evidence if last is not None and last.result == 0 else None
            for intent in self.intents:
                if intent.word == OPEN:
                    self._resolve(intent, told, set(listed.receipts), listed.complete)
            return True
        return False

    def _resolve(
        self, intent: Intent, told: Evidence | None, listed: set[int], complete: bool
    ) -> None:
        kept = intent.evidence
        if intent.kind == "increment":
            self._resolve_increment(intent, told)
            return
        if intent.hold is not None:
            if intent.hold.ref.receipt in listed:
                intent.word = NOT_EXECUTED
            elif told is not None and self._is_of(intent, told) and complete:
                self._executed(intent, told)
            return
        new = listed - self.open_receipts()
        if kept is not None and kept.ref.receipt in new:
            self._executed(intent, kept)
        elif told is not None and told.ref.receipt in new and self._is_of(intent, told):
            self._executed(intent, told)
        elif complete and not new:
            intent.word = NOT_EXECUTED
        if intent.word == EXECUTED:
            self.holds[-1].adopted = True

    def _resolve_increment(self, intent: Intent, told: Evidence | None) -> None:
        """The list of open holds tells no amounts: only the last result does. What it does not confirm
        never counts."""
        assert intent.hold is not None
        if told is None or not self._is_of(intent, told):
            intent.word = NOT_EXECUTED
            return
        if intent.evidence is not None:
            self._executed(intent, intent.evidence)
            return
        assert told.amount is not None
        grown_minor = told.amount.amount_minor
        if self.increment_reports == "added":
            grown_minor += intent.before_minor
        self._executed(intent, replace(told, amount=Money(grown_minor, "EUR")))

    def _is_of(self, intent: Intent, told: Evidence) -> bool:
        """Whether a repeated result can be that of `intent`. Numbers of one's own say more than
        amounts."""
        others = {i.evidence.ref.trace for i in self.intents if i.evidence and i is not intent}
        if told.ref.trace in others:
            return False
        if intent.evidence is not None:
            return told.ref.trace == intent.evidence.ref.trace
        assert told.amount is not None
        if intent.kind == "increment":
            less = intent.before_minor if self.increment_reports == "total" else 0
            return 0 < told.amount.amount_minor - less <= intent.amount_minor
        if intent.hold is None:
            return 0 < told.amount.amount_minor <= intent.amount_minor
        return told.amount.amount_minor in (intent.amount_minor, 0, intent.hold.held_minor)


# --- The judge ------------------------------------------------------------------------------------


def compare(ours: Ours, theirs: Theirs, *, promised: bool) -> None:
    """`promised`: a result answered positively was stored before. Raises Disagreement."""
    theirs.settle()
    insist(not ours.broken, f"{ours.broken}")
    if promised:
        insist(not theirs.unstored, f"answered before it was stored: traces {theirs.unstored}")
    wanted = [i.amount_minor for i in ours.intents if i.kind in ("hold", "increment")]
    for amount, times in theirs.asked.items():
        insist(times == 1, f"{amount} was asked of the host {times} times")
        insist(amount in wanted, f"{amount} was asked of the host, and nobody wanted it")
    traces = Counter(row["trace"] for row in theirs.rows(*MOVEMENTS))
    insist(max(traces.values(), default=1) == 1, f"booked twice: {traces}")
    _compare_evidence(ours, theirs)
    _compare_open(ours, theirs)
    _compare_ends(ours, theirs)


def _compare_evidence(ours: Ours, theirs: Theirs) -> None:
    booked = {row["trace"]: row for row in theirs.rows(*MOVEMENTS)}
    gone = theirs.reversed_traces()
    for intent in ours.intents:
        trace = None if intent.evidence is None else intent.evidence.ref.trace
        where = f"{intent.kind} of {intent.amount_minor}, trace {trace}: {intent.outcome}"
        if isinstance(intent.outcome, Done):
            insist(trace in booked and trace not in gone, f"{where}: not at the acquirer")
            row, told = booked[trace], intent.evidence
            insist(row["kind"] == intent.kind, f"{where}: booked as {row['kind']}")
            assert told is not None
            if intent.kind != "release":
                amount_minor = row["amount_minor"] + intent.before_minor
                insist(told.amount == Money(amount_minor, "EUR"), f"{where}: {row}")
        elif isinstance(intent.outcome, Refused | NotSent):
            insist(trace is None or trace not in booked or trace in gone, f"{where}: but booked")


def _compare_open(ours: Ours, theirs: Theirs) -> None:
    """Every hold of theirs is one of ours or in doubt, and the other way round."""
    doubted = {i.amount_minor for i in ours.intents if i.kind == "hold" and i.word == OPEN}
    ending = {id(i.hold) for i in ours.intents if i.hold is not None and i.word == OPEN}
    held = {h.ref.receipt: h for h in ours.holds if h.ended_by is None}
    for receipt, (asked, amount) in theirs.open().items():
        if receipt not in held:
            insist(
                asked in doubted, f"a hold of {asked} is open there, receipt {receipt}; not here"
            )
            continue
        insist(held[receipt].asked_minor == asked, f"receipt {receipt} is another hold: {asked}")
        insist(held[receipt].held_minor == amount, f"receipt {receipt} holds {amount}")
    for receipt, hold in held.items():
        there = receipt in theirs.open() or id(hold) in ending
        insist(there, f"the hold {receipt} of {hold.asked_minor} is open here and not there")


def _compare_ends(ours: Ours, theirs: Theirs) -> None:
    """One capture or one release per hold, of the amount that we know."""
    ends: dict[int, list[dict[str, Any]]] = {}
    for row in theirs.standing("capture", "release"):
        ends.setdefault(row["hold_receipt"], []).append(row)
    for receipt, rows in ends.items():
        insist(len(rows) == 1, f"the hold {receipt} ended {len(rows)} times: {rows}")
    for hold in ours.holds:
        if hold.ended_by is not None:
            rows = ends.get(hold.ref.receipt, [])
            insist(rows, f"the hold {hold.ref.receipt} has ended here, not there")
            insist(rows[0]["kind"] == hold.ended_by.kind, f"{hold.ended_by.kind}: {rows}")
            if hold.ended_by.kind == "capture":
                wanted = hold.ended_by.amount_minor
                insist(rows[0]["amount_minor"] == wanted, f"captured {wanted}: {rows}")
