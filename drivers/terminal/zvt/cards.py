"""Reading cards (06 C0): bounded, and out of the way as soon as anything else wants the terminal."""

from __future__ import annotations

import asyncio

from agent.ports import Card, DeviceUnavailable, DriverEnv, Reason, TerminalSpec
from drivers.terminal.zvt import commands, results
from drivers.terminal.zvt import outcomes as o
from drivers.terminal.zvt.channel import NOT_REGISTERED, Channel, Ran
from drivers.terminal.zvt.codes import explain
from drivers.terminal.zvt.joining import Joining
from drivers.terminal.zvt.profile import Profile
from drivers.terminal.zvt.sequences import SEQUENCES
from drivers.terminal.zvt.troubles import unusable
from drivers.terminal.zvt.turns import Rank, Turnstile

TIMEOUT_S_MAX = 15
# A terminal that takes no abort is busy until the read is over, and a capture has to wait for that.
UNABORTABLE_S_MAX = 2
# A terminal that ends card reads at once is not asked again at once.
READ_PAUSE_S = 1.0
# Between two status enquiries (PA00P015, 05 01): the terminal runs its timed jobs in them.
STATUS_EVERY_MS = 60_000
NO_CARD_NOW = frozenset(
    {Reason.CARD_REMOVED, Reason.CARD_NOT_ACCEPTED, Reason.PIN_REQUIRED, Reason.DECLINED}
)


class Cards:
    def __init__(
        self,
        spec: TerminalSpec,
        env: DriverEnv,
        profile: Profile,
        channel: Channel,
        joining: Joining,
        turns: Turnstile,
    ) -> None:
        self._spec, self._env, self._profile = spec, env, profile
        self._channel, self._joining, self._turns = channel, joining, turns

    def interrupt(self) -> None:
        """Something else wants the terminal while a card is being read."""
        if self._profile.abort != "never":
            self._channel.abort()

    async def read(self, timeout_s: int) -> Card | None:
        if not 1 <= timeout_s <= TIMEOUT_S_MAX:
            raise ValueError(f"timeout_s is {timeout_s}; expected 1 to {TIMEOUT_S_MAX}")
        if self._profile.abort == "never":
            timeout_s = min(timeout_s, UNABORTABLE_S_MAX)
        others = self._turns.others
        async with self._turns.at(Rank.CARD):
            if self._turns.others != others:
                return None  # something has overtaken it, and it gives way as if it had begun
            until = self._env.boot_ms() + timeout_s * 1000
            ran = await self._read(timeout_s)
        found = None if ran is None else self._card(ran)
        if found is None and not self._turns.wanted() and self._env.boot_ms() < until:
            await asyncio.sleep(READ_PAUSE_S)
        return found

    async def _read(self, timeout_s: int) -> Ran | None:
        """None when something else wants the terminal before the first byte."""
        if self._status_due(timeout_s):
            # What it says is for `identify`; here it only keeps the terminal's jobs running.
            await self._joining.status()
        await self._channel.ready()
        if self._turns.wanted():
            return None
        command = commands.read_card(timeout_s, self._profile)
        ran = await self._channel.run(command, SEQUENCES["read_card"], extra_ms=timeout_s * 1000)
        if ran.code == NOT_REGISTERED and self._channel.usable:
            await self._joining.register()
        return ran

    def _status_due(self, timeout_s: int) -> bool:
        age_ms = self._joining.status_age_ms()
        return age_ms is not None and age_ms + timeout_s * 1000 >= STATUS_EVERY_MS

    def _card(self, ran: Ran) -> Card | None:
        """None where no card came or it was of no use; the read can be tried again at once or after a
        moment. Raises DeviceUnavailable where a person has to do something at the terminal."""
        outcome = ran.outcome
        if isinstance(outcome, o.Completed):
            return results.card(outcome.completion, self._spec.currency)
        if isinstance(outcome, o.Broken | o.Disputed):
            raise DeviceUnavailable("TRM-008", f"the card read broke: {outcome.why}")
        reason = explain(outcome.code)[0]
        if reason in NO_CARD_NOW or reason is Reason.TRY_LATER or outcome.code == NOT_REGISTERED:
            return None
        raise unusable("card read", outcome, self._spec.line)
