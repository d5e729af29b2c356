"""After a broken dialogue: what the terminal's answers say about a session. Pure.

Design §2 rules 2 and 3: identity first, then the last result, then the open holds. A hold that vanished
counts as ended only if a result confirms it. Nothing is judged from a terminal that is not the one the
hold was made at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agent.session.events import E
from agent.session.raises import R, owed_now
from agent.session.session import Session
from agent.session.states import Effect, S

Ref = tuple[int, int | None]  # (receipt, trace): how a result is told from another


@dataclass(frozen=True, slots=True)
class LastSeen:
    """The terminal's last money result as it repeats it. `result` 0 is success, a negative one is not told
    (agent.ports.NOT_TOLD)."""

    result: int
    amount_minor: int | None
    ref: Mapping[str, int | str | None]  # agent.ports.HoldRef as JSON
    details: Mapping[str, object]

    @property
    def key(self) -> Ref:
        return ref_key(self.ref)


@dataclass(frozen=True, slots=True)
class Answer:
    """`known` are the results of our other sessions at this terminal: they explain nothing here.
    `known_open` are receipts that another session of ours believes to be its open hold, `by_hand` those
    of sessions that a person took off the list. `set_aside`: there are sessions that cannot be read, so
    that not all of these are known."""

    terminal_id: str | None
    open_receipts: tuple[int, ...]
    last: LastSeen | None
    known: frozenset[Ref]
    known_open: frozenset[int]
    complete: bool = True  # the terminal names every open hold, not only the first
    # What the result of a raise tells: the part that was "added", or the "total" held afterwards.
    raise_reports: str = "added"
    by_hand: frozenset[int] = frozenset()
    set_aside: bool = False
    # Whether a capture's result tells what was "booked", or the part of the hold "reversed".
    capture_reports: str = "booked"
    rivals: frozenset[str] = frozenset()  # where raises of other sessions stand that nobody knows


class Judgement(NamedTuple):
    event: E
    data: dict[str, object]


def ref_key(ref: Mapping[str, object]) -> Ref:
    receipt, trace = ref.get("receipt"), ref.get("trace")
    return (
        receipt if isinstance(receipt, int) else -1,
        trace if isinstance(trace, int) else None,
    )


def question_of(session: Session) -> Effect:
    """What is asked of an outcome that nobody knows."""
    if session.hold_doubted:
        return Effect.ASK_HOLD
    charges = session.to_capture_minor and not session.freeing
    return owed_now(session) or (Effect.ASK_CAPTURE if charges else Effect.ASK_RELEASE)


def may_be_nameless(session: Session) -> bool:
    """It is listed, and the terminal may have a hold of it whose receipt it does not know: an open hold
    that nobody explains may be this one."""
    return session.state is S.UNRESOLVED and session.hold_doubted and not session.hold


def _explains(answer: Answer, session: Session) -> LastSeen | None:
    """The last result, if it succeeded, is of this terminal, and is no other that is known already: of
    another session, the hold itself, or what raised it."""
    last = answer.last
    if last is None or last.result != 0 or last.key in answer.known:
        return None
    if session.hold and last.key in _refs(session) | {ref_key(session.raise_result)}:
        return None
    made_at = last.ref.get("terminal_id")
    if made_at and answer.terminal_id and made_at != answer.terminal_id:
        return None
    return last


def same_terminal(session: Session, answer: Answer) -> bool:
    made_at = session.hold.get("terminal_id") or session.terminal_id
    return not made_at or not answer.terminal_id or made_at == answer.terminal_id


def _disputed(session: Session, answer: Answer) -> bool:
    """The hold's receipt is listed as open, but another session of ours claims the same number:
    receipts are reused (design §2 rule 3). Whose it is cannot be told by asking."""
    receipt = session.hold.get("receipt")
    return receipt in answer.open_receipts and receipt in answer.known_open


def _same_card(last: LastSeen, session: Session) -> bool:
    """An equal amount on another card is a coincidence."""
    for name in ("card_last4", "card_name"):
        ours, theirs = session.card.get(name), last.details.get(name)
        if ours and theirs and ours != theirs:
            return False
    return True


def _made_since(session: Session, answer: Answer) -> LastSeen | None:
    """The last result, if only the intent of this session can have made it: it was not there before, and
    no session that cannot be read may claim it."""
    last = _explains(answer, session)
    if last is None or answer.set_aside or session.before in (None, last.key):
        return None
    return last


def _is_last(session: Session, answer: Answer) -> bool:
    last = answer.last
    return last is not None and last.result == 0 and last.key == ref_key(session.hold)


def judge_hold(session: Session, answer: Answer) -> Judgement | None:
    """HOLD_FOUND, HOLD_ABSENT, or None while it cannot be told."""
    if not same_terminal(session, answer) or _disputed(session, answer):
        return None
    if session.hold:
        if session.hold.get("receipt") in answer.open_receipts:
            found: dict[str, object] = {
                "approved_minor": session.held_minor,
                "hold": dict(session.hold),
                "details": dict(session.card),
            }
            return Judgement(E.HOLD_FOUND, found)
        if answer.complete and _is_last(session, answer):
            # Nothing was booked after it, and it is gone: the terminal took back what was not answered.
            return Judgement(E.HOLD_ABSENT, {"why": "taken back by the terminal"})
        if session.state is S.UNRESOLVED:
            return judge_release(session, answer)  # somebody may have ended it since
        if not answer.complete:
            return None
        # Reversed, or charged by an end of day that was not ours: only a person can tell (rule 2).
        return Judgement(E.VANISHED, {"why": "the terminal no longer lists the approved hold"})
    explained = answer.known_open | answer.by_hand
    strangers = [r for r in answer.open_receipts if r not in explained]
    if not strangers and not answer.complete:
        return None
    if not strangers:
        return Judgement(E.HOLD_ABSENT, {"why": "the terminal lists no hold of this session"})
    last = _made_since(session, answer)
    ours = (
        last is not None
        and last.ref.get("receipt") in strangers
        and last.amount_minor is not None
        and 0 < last.amount_minor <= session.requested_minor
    )
    if last is not None and ours:
        adopted: dict[str, object] = {
            "approved_minor": last.amount_minor,
            "hold": dict(last.ref),
            "details": dict(last.details),
        }
        return Judgement(E.HOLD_FOUND, adopted)
    return None


def judge_raise(session: Session, answer: Answer) -> Judgement | None:
    """RAISE_FOUND or RAISE_ABSENT; None while it cannot be told.

    While it is in doubt nothing else is booked at the terminal (agent.session.doubt). The last result is
    one that is older than the order, or failed: the hold was not raised. It is another one that fits: the
    hold was raised by what it says, or to it, as the terminal's make reports (`Answer.raise_reports`). Once
    it is given up others book again: a failed one says nothing, one that fits may be a raise of theirs."""
    if not session.hold or not same_terminal(session, answer) or _disputed(session, answer):
        return None
    last, given_up = answer.last, session.raising == R.LOST
    if last is None or last.result < 0:
        return None  # a terminal that restarted may have forgotten it
    if last.result != 0:
        itself = ref_key(session.raise_result) if session.raise_result else None
        contradicted = itself and last.key not in (itself, *session.raise_before)
        if (given_up and last.key != itself) or contradicted:
            return None
        why = "the terminal's last payment failed, and nothing was booked since the order"
        return Judgement(E.RAISE_ABSENT, {"why": why})
    if last.key in session.raise_before or last.key in _refs(session):
        return Judgement(E.RAISE_ABSENT, {"why": "the last result is the one before it"})
    if not _same_card(last, session):
        return None
    if session.raise_result and last.key == ref_key(session.raise_result):
        return _raised_to(session, answer, last)
    rivals = answer.rivals if given_up else answer.rivals - {R.LOST}
    if rivals or _explains(answer, session) is None:
        return None
    return _raised_to(session, answer, last)


def _refs(session: Session) -> frozenset[Ref]:
    """The hold and what raised it before; not the raise that is in doubt."""
    return frozenset({ref_key(session.hold), *session.raise_refs})


def _raised_to(session: Session, answer: Answer, last: LastSeen) -> Judgement | None:
    held, told = session.held_minor or 0, last.amount_minor
    if told is None:
        return None
    total = held + told if answer.raise_reports == "added" else told
    if not held < total <= held + session.raise_minor:
        return None
    result = dict(last.ref) | dict(last.details)
    return Judgement(E.RAISE_FOUND, {"total_minor": total, "result": result})


def judge_capture(session: Session, answer: Answer) -> Judgement | None:
    """STILL_OPEN, CONFIRMED or VANISHED; None while it cannot be told."""
    to_capture_minor = session.to_capture_minor
    told_minor = to_capture_minor
    if answer.capture_reports == "reversed":
        told_minor = (session.held_minor or 0) - to_capture_minor
    return _judge_end(session, answer, {told_minor: to_capture_minor})


def judge_release(session: Session, answer: Answer) -> Judgement | None:
    """As judge_capture. Terminals report a released hold as amount 0 or as the amount freed."""
    held_minor = session.held_minor or 0
    return _judge_end(session, answer, {0: 0, held_minor: held_minor})


def _judge_end(
    session: Session, answer: Answer, booked_minor: Mapping[int, int]
) -> Judgement | None:
    """`booked_minor`: what a last result that fits says, and how much that is."""
    if not session.hold or not same_terminal(session, answer) or _disputed(session, answer):
        return None
    if session.hold.get("receipt") in answer.open_receipts:
        return Judgement(E.STILL_OPEN, {"how": "listed as open"})
    last = answer.last
    fits = session.booked_minor in booked_minor.values()
    if last is not None and last.result == 0 and fits and _is_stored(last, session):
        return _confirmed(last, session.booked_minor)
    last = _explains(answer, session)
    told_minor = None if last is None else last.amount_minor
    booked = None if told_minor is None else booked_minor.get(told_minor)
    if last is not None and booked is not None and _same_card(last, session):
        return _confirmed(last, booked)
    if not answer.complete:
        return None
    why = "the hold is no longer open and the last result is another one"
    return Judgement(E.VANISHED, {"why": why})


def _is_stored(last: LastSeen, session: Session) -> bool:
    """It is the evidence that was stored before the dialogue broke."""
    return bool(session.result) and last.key == ref_key(session.result)


def _confirmed(last: LastSeen, amount_minor: int | None) -> Judgement:
    data: dict[str, object] = {
        "amount_minor": amount_minor,
        "result": dict(last.ref) | dict(last.details),
        "how": "last result of the terminal",
    }
    return Judgement(E.CONFIRMED, data)
