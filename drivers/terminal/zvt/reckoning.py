"""What the 04 0F of one dialogue come to: which is evidence, which is a repeat, which is none of ours, and
how the command ended by all of them. Answers as Apdus; no link, no time.

A result that nobody asked for is never answered positively, because the terminal books on that answer."""

from __future__ import annotations

from drivers.terminal.zvt.answers import AGAIN, POSITIVE, REFUSED, partly
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.outcomes import (
    NO_CODE,
    Aborted,
    Completed,
    Decision,
    Disputed,
    Ends,
    Later,
    Outcome,
    Partly,
    Results,
    abort_code,
    is_booking,
    is_of_a_card,
    is_of_the_day,
    result_code,
    same_booking,
)

MONEY = frozenset({Results.EVIDENCE, Results.DAY})
# PA00P015 knows a word on the goods for these alone.
VENDING = frozenset({"0601", "06e6"})


class Reckoning:
    def __init__(self, command: str, results: Results, ends: Ends) -> None:
        self._command, self._results, self._ends = command, results, ends
        self.offered: Apdu | None = None  # the evidence that waits for a decision
        self._kept: Apdu | None = None  # the evidence that was stored
        self._issued_minor: int | None = None  # the part of it that stands
        self._status: Apdu | None = None  # the last other 04 0F
        self._refused = False  # we said no to a result
        self._unreadable = False

    # --- 04 0F ------------------------------------------------------------------------------------

    def status(self, apdu: Apdu) -> Apdu | None:
        """The answer to a 04 0F; None when it is evidence, on which a decision is wanted first."""
        if self._results is Results.EVIDENCE:
            return self._claim(apdu)
        if self._results is Results.DAY:
            return self._day(apdu)
        strange = is_booking(apdu) and not (self._results is Results.CARD and is_of_a_card(apdu))
        if self._results is not Results.REPORT and strange:
            return REFUSED
        if self._status is None or self._status.get("result") != 0:
            self._status = apdu
        return POSITIVE

    def _claim(self, apdu: Apdu) -> Apdu | None:
        """What a money command's 04 0F says. Evidence is offered once; the same booking told again,
        perhaps with more fields, is answered as before; another one is refused."""
        if not is_booking(apdu):
            self._status = apdu
            return POSITIVE
        if self._kept is not None:
            again = self._again(self._kept, apdu)
            if again is not None:
                return again
        if self._kept is not None or self._refused or apdu.get("result") is None:
            self._refused = True
            return REFUSED
        self._offer(apdu)
        return None

    def _again(self, kept: Apdu, told: Apdu) -> Apdu | None:
        """The answer to what was booked told again; None for another booking."""
        if self._issued_minor is None:
            return POSITIVE if same_booking(kept, told) else None
        if told.get("amount_minor") == self._issued_minor and same_booking(
            kept, told, amount=False
        ):
            return POSITIVE  # what it has booked of it
        return partly(self._issued_minor) if same_booking(kept, told) else None

    def _day(self, apdu: Apdu) -> Apdu | None:
        """A batch may have been closed with several hosts, each with its own result: the first is the
        evidence."""
        if not is_of_the_day(apdu):
            if is_booking(apdu):
                return REFUSED
            self._status = apdu
            return POSITIVE
        if self._kept is not None:
            return POSITIVE
        if self._refused:
            return REFUSED
        self._offer(apdu)
        return None

    def _offer(self, apdu: Apdu) -> None:
        self.offered, self._status = apdu, None

    def decided(self, decision: Decision) -> Apdu:
        """The answer to the evidence that was offered. Raises ValueError for a word on goods where the
        document knows none."""
        if isinstance(decision, Later | Partly) and self._command not in VENDING:
            raise ValueError(f"{self._command} hands out no goods")
        offered, self.offered = self.offered, None
        if isinstance(decision, Later):
            return AGAIN
        if decision is False:
            self._refused = True
            return REFUSED
        self._kept = offered
        if isinstance(decision, Partly):
            self._issued_minor = decision.amount_minor
            return partly(decision.amount_minor)
        return POSITIVE

    def unreadable(self) -> Apdu:
        """The answer to a 04 0F whose fields cannot be told."""
        self._unreadable = True
        if self._results in MONEY:
            self._refused = True
        return REFUSED

    # --- the end ----------------------------------------------------------------------------------

    def card(self) -> Outcome | None:
        """The end of 06 C0: its 04 0F. None while there was none."""
        if self._unreadable:
            return Disputed("its result cannot be read")
        return None if self._status is None else Completed(self._status, self._status)

    def completed(self, apdu: Apdu) -> Outcome:
        """06 0F."""
        if self._ends is Ends.WITH_STATUS:
            return Aborted(NO_CODE, apdu)  # an end without the card that was asked for
        if self._results not in MONEY:
            if self._unreadable and self._results is not Results.NONE:
                return Disputed("its result cannot be read")
            return Completed(apdu, self._status)
        told = [a for a in (self._status, apdu) if a is not None]
        failed = next((a for a in told if _has_failed(a)), None)
        if self._refused:
            return Disputed("its result was not accepted, and it completed")
        if self._kept is not None and failed is not None and not self._is_notice(failed):
            return Disputed(f"success and then result {result_code(failed):02x}")
        if self._kept is None and failed is not None:
            return Aborted(result_code(failed), failed)
        return Completed(apdu, self._kept, self._issued_minor)

    def _is_notice(self, apdu: Apdu) -> bool:
        """06 0F of an end of day tells in its result what comes next (27 E0, 27 FC): no failure."""
        return self._results is Results.DAY and apdu.command == "060f"

    def aborted(self, apdu: Apdu) -> Outcome:
        """06 1E."""
        code = abort_code(apdu)
        if self._refused:
            return Disputed(f"its result was not accepted; it ended with {code:02x}")
        if self._kept is not None:
            return Disputed(f"ended with {code:02x} after its result was stored")
        if self._unreadable and self._results is Results.REPORT:
            return Disputed("its result cannot be read")
        return Aborted(code, apdu)

    def unanswered(self, apdu: Apdu) -> Outcome:
        """06 1E instead of an answer: of our command, or left over from the one before."""
        code = abort_code(apdu)
        if self._results in MONEY:
            return Disputed(f"ended with {code:02x} before it was answered")
        return Aborted(code, apdu)


def _has_failed(apdu: Apdu) -> bool:
    return apdu.get("result") not in (0, None)
