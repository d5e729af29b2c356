"""The money work of one terminal: what a session owes becomes one verb, and its outcome one event.

Nothing is sent again here. Whether it may be is the session's business, after asking."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping

from agent.ledger import LedgerError
from agent.ports import (
    CanIncrement,
    CanReleaseForeign,
    DeviceUnavailable,
    Done,
    Evidence,
    HoldRef,
    KnowsLeastAmount,
    LastResult,
    NotSent,
    Outcome,
    Reason,
    Refused,
    TellsCaptures,
    Terminal,
    TerminalIdentity,
    Unknown,
    Verdict,
)
from agent.session import OWED, E, Effect, S, Session
from agent.session.acts import worth_asking
from agent.session.ask import (
    Answer,
    Judgement,
    LastSeen,
    judge_capture,
    judge_hold,
    judge_raise,
    judge_release,
    question_of,
)
from agent.session.raises import owed_now
from agent.station.context import Context
from agent.station.patience import bounded
from agent.trust import card_like
from agent.values import Money

# Design §2 rule 14: a commit that takes longer while a terminal waits counts as failed.
COMMIT_BOUND_S = 3.0
# ZVT's longest dialogue (T4, 180 s) plus its repeats; a desk that is silent for longer is stuck.
DESK_BOUND_MS = 240_000

# No run of digits this long is kept from a terminal's texts: it could be part of a card number.
DIGITS_KEPT_MAX = 10
_LONG_DIGITS = re.compile(rf"\d{{{DIGITS_KEPT_MAX + 1},}}")

JUDGES = {
    Effect.ASK_HOLD: judge_hold,
    Effect.ASK_CAPTURE: judge_capture,
    Effect.ASK_RELEASE: judge_release,
    Effect.ASK_RAISE: judge_raise,
}
_ENDS_UNCLEAR = (S.CAPTURE_UNCLEAR, S.RELEASE_UNCLEAR)
# The hold may still be open: it is ours, and explains its receipt.
MAYBE_OPEN = ("", "refused", "failed", "unknown", "away")
MONEY_EFFECTS = frozenset({Effect.AUTHORIZE, Effect.RAISE, Effect.CAPTURE, Effect.RELEASE, *JUDGES})


def owes(session: Session, effect: Effect) -> bool:
    """Whether a queued job is still due: the state may have moved on."""
    if owed_now(session) is effect:
        return True
    if session.state is S.UNRESOLVED:
        return worth_asking(session) and effect is question_of(session)
    return OWED.get(session.state) is effect


def made_elsewhere(session: Session, terminal_id: str | None) -> str:
    """Why this is not the terminal that the hold was made at; empty when it is. At another one the
    same receipt number may be somebody else's hold."""
    made_at = session.hold.get("terminal_id") or session.terminal_id
    if not made_at or not terminal_id or made_at == terminal_id:
        return ""
    return f"the hold was made at terminal {made_at}, this is terminal {terminal_id}"


def clean_text(text: str) -> str:
    """A text of a terminal without anything that could be a card number."""
    return "*" if card_like.in_text(text) else _LONG_DIGITS.sub("*", text)


def clean(details: Mapping[str, int | str]) -> dict[str, object]:
    """Facts of a terminal without anything that could be a card number. Its driver drops card data by
    field; free texts of a host may still repeat it."""
    return {
        key: clean_text(value) if isinstance(value, str) else value
        for key, value in details.items()
    }


class Till:
    """`identity` is what the terminal last said it is."""

    def __init__(self, terminal_id: str, terminal: Terminal, context: Context) -> None:
        self.id = terminal_id
        self.identity: TerminalIdentity | None = None
        self.strange_holds: tuple[int, ...] = ()
        self.exchanged: Callable[[], None] = lambda: None  # what follows when it is another one
        self._met: str | None = ""  # the device that was told of last
        self._rejected = False  # the terminal was told no to its evidence
        self._terminal = terminal
        self._keeper, self._log = context.keeper, context.log
        self._progress = context.progress

    async def do(self, session: Session, effect: Effect) -> Outcome:
        """AUTHORIZE, CAPTURE or RELEASE, reported to the session. Raises DeviceUnavailable after an
        unknown outcome, so that the link is made anew before anything is asked."""
        self._rejected = False
        if effect is Effect.AUTHORIZE:
            outcome: Outcome = await self._authorize(session)
        elif effect is Effect.RAISE:
            stranger = self._stranger(session)
            outcome = NotSent(stranger) if stranger else await self._raise(session)
        elif effect is Effect.RELEASE and session.freeing:
            outcome = await self._free(session)
        elif await self._is_away(session):
            return NotSent("another terminal has the hold")
        elif effect is Effect.CAPTURE:
            outcome = await self._settle(session, Money(session.to_capture_minor, session.currency))
        else:
            outcome = await self._settle(session, None)
        if effect is Effect.RAISE:
            await self._report_raise(session, outcome)
        else:
            await self._report(session, effect, outcome)
        return outcome

    def meet(self, identity: TerminalIdentity) -> None:
        """It has said who it is. One may be exchanged, and come back, without a word."""
        self.identity = identity
        if self._met != identity.terminal_id:
            self._met = identity.terminal_id
            self._log("terminal_connected", terminal=self.id, tid=identity.terminal_id)
            self.exchanged()

    @property
    def connected_id(self) -> str | None:
        """How the terminal that is connected calls itself; None where nobody knows."""
        return None if self.identity is None else self.identity.terminal_id

    def _stranger(self, session: Session) -> str:
        """Why the hold cannot be ended here; empty where it can."""
        why = made_elsewhere(session, self.connected_id)
        if why:
            self._log("other_terminal", level="error", id="STA-025", session=session.id, why=why)
        return why

    async def _is_away(self, session: Session) -> bool:
        """Nothing is sent to another terminal than the one that has the hold: it is listed until that one
        is back."""
        why = self._stranger(session)
        if not why:
            return False
        return (await self._keeper.tell(session.id, E.AWAY, {"why": why})).taken

    async def _authorize(self, session: Session) -> Outcome:
        async def keep(evidence: Evidence) -> Verdict:
            data = {
                "approved_minor": None if evidence.amount is None else evidence.amount.amount_minor,
                "hold": evidence.ref.to_json(),
                "details": clean(evidence.details),
            }
            return await self._keep(session.id, E.APPROVED, data)

        amount = Money(session.requested_minor, session.currency)
        return await self._terminal.authorize(amount, session.id, keep)

    async def _raise(self, session: Session) -> Outcome:
        """06 22 once more, in ZVT's words: the same hold, a larger amount."""
        terminal = self._terminal
        if not isinstance(terminal, CanIncrement):
            return Refused(Reason.NOT_SUPPORTED, "", "the terminal cannot raise a hold")

        async def keep(evidence: Evidence) -> Verdict:
            total = None if evidence.amount is None else evidence.amount.amount_minor
            result = evidence.ref.to_json() | clean(evidence.details)
            data = {"total_minor": total, "result": result}
            return await self._keep(session.id, E.RAISE_APPROVED, data)

        ref = HoldRef.from_json(session.hold)  # type: ignore[arg-type]  # stored by this desk
        held = Money(session.held_minor or 0, session.currency)
        return await terminal.increment(
            ref, held, Money(session.raise_minor, session.currency), keep
        )

    async def _report_raise(self, session: Session, outcome: Outcome) -> None:
        tell = self._keeper.tell
        if isinstance(outcome, Done):
            await tell(session.id, E.RAISED)
        elif isinstance(outcome, Refused):
            data: dict[str, object] = {
                "why": clean_text(outcome.text),
                "reason": str(outcome.reason),
                "code": outcome.code,
                "again": False,
                "rejected": self._rejected,
            }
            await tell(session.id, E.RAISE_FAILED, data)
        elif isinstance(outcome, NotSent):
            why = clean_text(outcome.why)
            await tell(session.id, E.RAISE_FAILED, {"why": why, "again": True})
        else:
            await self._unclear(session, outcome, E.RAISE_UNCLEAR)

    async def _free(self, session: Session) -> Outcome:
        """A technician's order: 06 26, in ZVT's words, where another terminal made the hold."""
        ref = HoldRef.from_json(session.hold)  # type: ignore[arg-type]  # stored by this desk
        if not self._stranger(session):
            return await self._settle(session, None)
        if not isinstance(self._terminal, CanReleaseForeign):
            return Refused(Reason.NOT_SUPPORTED, "", "the terminal frees no hold of another one")
        if ref.trace is None or not ref.aid:
            return Refused(Reason.NOT_SUPPORTED, "", "its trace number and AID were never told")
        return await self._settle(session, None, foreign=self._terminal)

    async def _settle(
        self, session: Session, amount: Money | None, foreign: CanReleaseForeign | None = None
    ) -> Outcome:
        async def keep(evidence: Evidence) -> Verdict:
            booked = None if evidence.amount is None else evidence.amount.amount_minor
            result = evidence.ref.to_json() | clean(evidence.details)
            data = {"amount_minor": booked, "result": result}
            if amount is not None and booked is not None and booked != amount.amount_minor:
                self._log(
                    "booked_differs",
                    level="error",
                    id="TRM-002",
                    session=session.id,
                    seen=booked,
                    expected=amount.amount_minor,
                )
            return await self._keep(session.id, E.EVIDENCE, data)

        ref = HoldRef.from_json(session.hold)  # type: ignore[arg-type]  # stored by this desk
        held = Money(session.held_minor or 0, session.currency)
        if foreign is not None:
            return await foreign.release_foreign(ref, held, keep)
        if amount is None:
            return await self._terminal.release(ref, held, keep)
        return await self._terminal.capture(ref, held, amount, keep)

    async def _keep(self, session_id: str, name: E, data: Mapping[str, object]) -> Verdict:
        self._rejected = True
        try:
            async with asyncio.timeout(COMMIT_BOUND_S):
                step = await self._keeper.tell(session_id, name, data)
        except (TimeoutError, LedgerError) as error:
            self._log(
                "commit_late", level="error", id="STA-026", session=session_id, why=repr(error)
            )
            return Verdict.REJECT
        self._rejected = not step.taken
        return Verdict.REJECT if self._rejected else Verdict.STORED

    async def _report(self, session: Session, effect: Effect, outcome: Outcome) -> None:
        tell = self._keeper.tell
        if isinstance(outcome, Done):
            await tell(session.id, E.HELD if effect is Effect.AUTHORIZE else E.SETTLED)
        elif isinstance(outcome, Refused):
            text = clean_text(outcome.text)
            data = {"reason": str(outcome.reason), "code": outcome.code, "text": text}
            await tell(session.id, E.REFUSED, data)
        elif isinstance(outcome, NotSent):
            await tell(session.id, E.NOT_SENT, {"why": clean_text(outcome.why)})
        else:
            await self._unclear(session, outcome)

    async def _unclear(self, session: Session, outcome: Unknown, event: E = E.UNCLEAR) -> None:
        self._log(
            "outcome_unknown", level="error", id="TRM-003", session=session.id, why=outcome.why
        )
        data = {"why": clean_text(outcome.why), "rejected": self._rejected}
        await self._keeper.tell(session.id, event, data)
        # A fresh registration before anything is asked: the other end may have changed.
        raise DeviceUnavailable("TRM-003", f"the dialogue broke: {outcome.why}")

    async def ask(self, session: Session, effect: Effect) -> bool:
        """Ask the terminal how it ended and tell the session. False while it cannot be told."""
        answer = await self._question(session)
        if session.state in _ENDS_UNCLEAR and await self._is_away(session):
            return True
        judgement = JUDGES[effect](session, answer)
        self._note_strangers(session, answer, judgement)
        if judgement is None:
            self._log(
                "outcome_still_unknown",
                level="error",
                id="TRM-004",
                session=session.id,
                terminal_id=answer.terminal_id,
                open_receipts=list(answer.open_receipts),
            )
            return False
        known = session.state is S.UNRESOLVED and judgement.event is E.VANISHED
        if not known:
            await self._keeper.tell(session.id, judgement.event, judgement.data)
        return True

    async def _question(self, session: Session) -> Answer:
        """Identity first, then the last result, then the open holds (design §2 rule 2)."""
        identity = await bounded(self._terminal.identify(), self._beat)
        self.meet(identity)
        self._beat()
        last = await self._terminal.last_result()
        self._beat()
        open_holds = await self._terminal.open_holds()
        self._beat()
        keeper, terminal, here = self._keeper, self._terminal, identity.terminal_id
        claimed = [
            s
            for s in keeper.may_hold_at(self.id, here)
            if s.id != session.id and s.outcome in (*MAYBE_OPEN, "foreign")
        ]
        by_hand = keeper.left.at(self.id, here)
        return Answer(
            here,
            open_holds.receipts,
            _last_seen(last),
            keeper.known_results(self.id, here, session.id),
            _receipts(claimed, here),
            open_holds.complete,
            self._raise_reports(),
            _receipts(by_hand, here),
            bool(keeper.set_aside),
            terminal.capture_reports if isinstance(terminal, TellsCaptures) else "booked",
            frozenset(s.raising for s in keeper.at_terminal(self.id) if s.id != session.id) - {""},
        )

    async def last_ref(self) -> dict[str, object] | None:
        """Receipt and trace of the last result before an intent: what is the same afterwards was made by
        somebody else. {} where the terminal has none; None where it could not tell, so that nothing is
        adopted later. A link that broke shows at the next command. Where the result does not say that it
        is the terminal that is known, it is asked who it is: one may have been exchanged without a word,
        and no other could tell afterwards whether the hold was made."""
        try:
            last = await bounded(self._terminal.last_result(), self._beat)
            ref = {} if last is None else last.evidence.ref.to_json()
            if ref.get("terminal_id") != self.connected_id:
                self.meet(await bounded(self._terminal.identify(), self._beat))
        except DeviceUnavailable:
            return None
        return {key: ref[key] for key in ("receipt", "trace") if key in ref}

    @property
    def least_amount_minor(self) -> int:
        """The acquirer takes no smaller amount at this terminal."""
        terminal = self._terminal
        return terminal.least_amount_minor if isinstance(terminal, KnowsLeastAmount) else 0

    def _raise_reports(self) -> str:
        terminal = self._terminal
        return terminal.increment_reports if isinstance(terminal, CanIncrement) else "added"

    def _note_strangers(
        self, session: Session, answer: Answer, judgement: Judgement | None
    ) -> None:
        """Holds that no session of ours explains: reported, never touched (design §2 rule 2)."""
        ours = {session.hold.get("receipt")} | answer.known_open | answer.by_hand
        if judgement is not None and isinstance(found := judgement.data.get("hold"), dict):
            ours.add(found.get("receipt"))
        receipts = tuple(r for r in answer.open_receipts if r not in ours)
        if receipts and receipts != self.strange_holds:
            self._log(
                "strange_holds",
                level="warning",
                id="STA-027",
                terminal=self.id,
                receipts=list(receipts),
            )
        self.strange_holds = receipts

    def _beat(self) -> None:
        self._progress.beat(f"terminal {self.id}", DESK_BOUND_MS)


def _receipts(sessions: Iterable[Session], terminal_id: str | None) -> frozenset[int]:
    """Of their holds, as far as those are at this terminal."""
    here = [s.hold.get("receipt") for s in sessions if not made_elsewhere(s, terminal_id)]
    return frozenset(r for r in here if isinstance(r, int))


def _last_seen(last: LastResult | None) -> LastSeen | None:
    if last is None:
        return None
    evidence = last.evidence
    amount_minor = None if evidence.amount is None else evidence.amount.amount_minor
    return LastSeen(last.result, amount_minor, evidence.ref.to_json(), clean(evidence.details))
