"""The word on goods that a payment waits for (PA00P015, 06 01): issued, not yet, a part, none. Pure."""

from __future__ import annotations

from dataclasses import replace

from agent.ports import Evidence, Handover, PartIssued
from agent.ports import Goods as Word
from drivers.terminal.zvt.outcomes import Decision, Later, Partly
from drivers.terminal.zvt.profile import Profile

# BMP 01: how long the terminal waits for each word of ours. It comes at once, but for the durable write.
GOODS_WAIT_S = 30
# BMP 02: how often "not yet" may be said, each time for two seconds: a minute, and then nothing comes.
GOODS_WAITS_MAX = 30


class Goods:
    """Of one payment. Whoever hands the goods out is asked with every 04 0F."""

    def __init__(self, handover: Handover, profile: Profile, waits_max: int) -> None:
        self._handover, self._profile, self._waits_left = handover, profile, waits_max

    def decide(self, approved: Evidence) -> tuple[Decision, Evidence]:
        """The decision, and the evidence with what is charged by it."""
        word = self._handover(approved)
        if isinstance(word, PartIssued):
            return self._part(word, approved)
        if word is Word.ISSUED:
            return True, approved
        if word is Word.WAITING and self._profile.vending_wait and self._waits_left > 0:
            self._waits_left -= 1
            return Later(), approved
        return False, approved

    def _part(self, word: PartIssued, approved: Evidence) -> tuple[Decision, Evidence]:
        whole = approved.amount
        if whole is None or not self._profile.partial_issue:
            return False, approved
        if word.amount == whole:
            return True, approved
        if (
            word.amount.currency != whole.currency
            or not 0 < word.amount.amount_minor < whole.amount_minor
        ):
            return False, approved
        return Partly(word.amount.amount_minor), replace(approved, amount=word.amount)
