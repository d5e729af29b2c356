"""What a terminal is asked without moving money: which holds are open, how the last transaction ended; and
the text on its display."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from agent.ports import NOT_TOLD, DeviceUnavailable, LastResult, OpenHolds, TerminalSpec
from drivers.terminal.zvt import commands, results
from drivers.terminal.zvt import outcomes as o
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.bookings import with_aid
from drivers.terminal.zvt.channel import Channel, Ran
from drivers.terminal.zvt.decode import open_receipts
from drivers.terminal.zvt.joining import Joining
from drivers.terminal.zvt.profile import Profile
from drivers.terminal.zvt.text import fit
from drivers.terminal.zvt.troubles import unusable

ENQUIRY_TRIES = 2  # 06 1E B8 without any receipt says nothing; once more
OPEN_HOLDS = 0xB8
NOTHING_TO_REPEAT = frozenset({0x64, 0x66, 0x6A, 0x6C, 0x83, 0xB5, 0xFF})

Turn = Callable[[], AbstractAsyncContextManager[None]]


class Asking:
    """Its methods need the terminal's turn."""

    def __init__(
        self, spec: TerminalSpec, profile: Profile, channel: Channel, joining: Joining
    ) -> None:
        self._spec, self._profile = spec, profile
        self._channel, self._joining = channel, joining

    async def open_holds(self, turn: Turn) -> OpenHolds:
        """06 23 for receipt FFFF; always answered by an Abort (PA00P015). A terminal that tells only the
        first of its open holds tells the same one until that is ended, so the others cannot be asked
        for: the list is then not complete."""
        for _ in range(ENQUIRY_TRIES):
            async with turn():
                ran = await self._joining.ask(commands.enquiry(), "enquiry")
            outcome = ran.outcome
            if not isinstance(outcome, o.Aborted) or outcome.code != OPEN_HOLDS:
                raise self._unusable("enquiry of open holds", ran)
            receipts = tuple(open_receipts(outcome.apdu))
            if outcome.apdu.text("receipt") == commands.NO_RECEIPT and not receipts:
                return OpenHolds(())
            if receipts:
                return OpenHolds(receipts, complete=_whole_list(outcome.apdu))
        return OpenHolds((), complete=False)

    async def last_result(self) -> LastResult | None:
        """06 20 with service byte 03: the last status information again, nothing printed. One of a payment
        that failed has no receipt; its number is 0 then."""
        if not self._profile.repeat_result:
            return None
        ran = await self._joining.ask(commands.repeat(self._spec.password), "repeat")
        outcome = ran.outcome
        if isinstance(outcome, o.Aborted | o.Negative) and outcome.code in NOTHING_TO_REPEAT:
            return None
        if not isinstance(outcome, o.Completed):
            raise self._unusable("repeat receipt", ran)
        if outcome.status is None:
            return None
        terminal_id = self._joining.terminal_id
        found = results.evidence(outcome.status, self._spec.currency, terminal_id)
        result = outcome.status.integer("result")
        if found is None and result:
            return LastResult(result, results.of_a_failed_one(outcome.status, terminal_id))
        if found is None:
            return None
        return LastResult(NOT_TOLD if result is None else result, with_aid(found, self._profile))

    async def show(self, lines: Sequence[str], hold_s: int) -> None:
        """06 E0. A terminal that has no display, or is busy with itself, shows nothing."""
        if self._joining.excused and not self._channel.registered:
            return
        charset = self._profile.charset
        fitted = fit(lines, self._profile.display_columns, charset)
        ran = await self._joining.ask(commands.display(fitted, hold_s, charset), "display")
        if isinstance(ran.outcome, o.Broken):
            raise self._unusable("display text", ran)

    def _unusable(self, what: str, ran: Ran) -> DeviceUnavailable:
        return unusable(what, ran.outcome, self._spec.line, self._channel.garbage)


def _whole_list(apdu: Apdu) -> bool:
    """Whether the answer lists all open holds (tag 23), and every entry is a receipt."""
    listed = apdu.values("08")
    readable = [v for v in listed if len(v) == 2 and v.hex().isdecimal()]
    return bool(apdu.find("23")) and len(readable) == len(listed)
