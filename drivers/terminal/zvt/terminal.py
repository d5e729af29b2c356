"""The terminal port over ZVT: one line, one command at a time, verbs made of dialogues.

Every other verb ends a running card read by aborting it. Nothing that moves money is sent twice: a dialogue
that breaks after its first byte ends as Unknown, and the caller asks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agent.ports import (
    Card,
    DeviceUnavailable,
    Done,
    DriverEnv,
    Evidence,
    HoldRef,
    Keep,
    LastResult,
    NotSent,
    OpenHolds,
    Outcome,
    Reason,
    Refused,
    Terminal,
    TerminalIdentity,
    TerminalSpec,
    Unknown,
    Verdict,
)
from agent.values import Money
from drivers.line import Line, LineLost, open_line
from drivers.terminal.zvt import commands, results
from drivers.terminal.zvt import outcomes as o
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codes import TEMPORARY, explain
from drivers.terminal.zvt.decode import open_receipts
from drivers.terminal.zvt.dialogue import Dialogue
from drivers.terminal.zvt.drive import Drive, Store
from drivers.terminal.zvt.frames import Link
from drivers.terminal.zvt.phases import CARD_GRACE_MS, T4_MS
from drivers.terminal.zvt.profile import Profile, load_profile

# Registration with a terminal that has just booted: it answers, or it does not.
REGISTER_BUSY_MS = 60_000
ENQUIRY_TRIES = 2  # 06 1E B8 without any receipt says nothing; once more
# A terminal that ends card reads at once is not asked again at once.
READ_PAUSE_S = 1.0
OPEN_HOLDS = 0xB8
WRONG_CURRENCY = 0x6F
NOTHING_TO_REPEAT = frozenset({0x64, 0x66, 0x6A, 0x6C, 0x83, 0xB5, 0xFF})
NO_CARD_NOW = frozenset(
    {Reason.CARD_REMOVED, Reason.CARD_NOT_ACCEPTED, Reason.PIN_REQUIRED, Reason.DECLINED}
)
_PASSWORD = re.compile(r"[0-9]{6}")


@dataclass(frozen=True, slots=True)
class _Booking:
    """A command that moves money, the hold it is about, and the amount of which its result tells the
    part given back."""

    apdu: Apdu
    ref: HoldRef | None = None
    reversed_of: Money | None = None


class ZvtTerminal:
    def __init__(self, spec: TerminalSpec, env: DriverEnv, profile: Profile) -> None:
        self._spec, self._env, self._profile = spec, env, profile
        self._line: Line | None = None
        self._link = Link()
        self._turn = asyncio.Lock()
        self._waiting = 0  # verbs before which a card read has to give way
        self._reading: Dialogue | None = None
        self._wake = asyncio.Event()
        self._tid: str | None = None

    # --- link -------------------------------------------------------------------------------------

    async def connect(self) -> TerminalIdentity:
        async with self._at_turn():
            if self._line is not None and _loss(self._line) is not None:
                await self.close()
            if self._line is None:
                try:
                    self._line = await open_line(self._spec.line)
                except LineLost as error:
                    raise DeviceUnavailable("TRM-001", str(error)) from None
                self._link, self._tid = Link(), None
            await self._register()
            return await self._status()

    async def close(self) -> None:
        """A verb that waits ends as when the line is lost."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def identify(self) -> TerminalIdentity:
        async with self._at_turn():
            return await self._status()

    async def _register(self) -> None:
        spec = self._spec
        command = commands.registration(spec.password, spec.currency, self._profile)
        outcome = await self._ask(command, run_ms=REGISTER_BUSY_MS)
        if isinstance(outcome, o.Completed):
            self._tid = outcome.completion.text("tid") or self._tid
            return
        code = _code(outcome)
        if code == WRONG_CURRENCY:
            raise DeviceUnavailable(
                "TRM-011",
                f"the terminal refuses {spec.currency}",
                "the currency that the terminal is set to",
                "correct `currency`, or have the terminal's operator change it",
            )
        if isinstance(outcome, o.Negative) and code not in TEMPORARY:
            raise DeviceUnavailable(
                "TRM-005",
                f"the terminal refuses the registration ({code:02X}, {explain(code)[1]})",
                "the password that is set in the terminal",
                "correct `password`, or ask the terminal's operator",
            )
        raise self._unusable("registration", outcome)

    async def _status(self) -> TerminalIdentity:
        outcome = await self._ask(commands.status_enquiry(self._spec.password, self._profile))
        if not isinstance(outcome, o.Completed):
            raise self._unusable("status enquiry", outcome)
        found = results.identity(outcome.completion, self._tid)
        self._tid = found.terminal_id
        return found

    def _unusable(self, what: str, outcome: o.Outcome) -> DeviceUnavailable:
        line = self._spec.line
        if isinstance(outcome, o.Broken):
            return DeviceUnavailable(
                "TRM-006",
                f"no ZVT terminal answers on {line.port}: {what}: {outcome.why}",
                f"a ZVT terminal at {line.baud} {line.framing}",
                "check cable, speed and that the terminal is set to ZVT",
            )
        if isinstance(outcome, o.Negative | o.Aborted):
            said = f"ended with {outcome.code:02X}, {explain(outcome.code)[1]}"
        else:
            said = outcome.why if isinstance(outcome, o.Disputed) else "ended without an answer"
        return DeviceUnavailable("TRM-007", f"{what}: {said}")

    # --- cards ------------------------------------------------------------------------------------

    async def read_card(self, timeout_s: int) -> Card | None:
        if not 1 <= timeout_s <= 15:
            raise ValueError(f"timeout_s is {timeout_s}; expected 1 to 15")
        async with self._turn:
            if self._waiting:
                return None
            line = self._require_line()
            until = self._env.boot_ms() + timeout_s * 1000
            run_ms = timeout_s * 1000 + CARD_GRACE_MS
            command = commands.read_card(timeout_s, self._profile)
            ends = o.Ends.WITH_STATUS
            dialogue = Dialogue(self._link, command, ends=ends, run_ms=run_ms)
            self._reading = dialogue
            try:
                outcome = await self._drive(line, dialogue, None)
            finally:
                self._reading = None
        found = self._card(outcome)
        if found is None and not self._waiting and self._env.boot_ms() < until:
            await asyncio.sleep(READ_PAUSE_S)
        return found

    def _card(self, outcome: o.Outcome) -> Card | None:
        """None where no card came or it was of no use; the read can be tried again at once or after a
        moment. Raises DeviceUnavailable where a person has to do something at the terminal."""
        if isinstance(outcome, o.Completed):
            return results.card(outcome.completion, self._spec.currency)
        if isinstance(outcome, o.Broken | o.Disputed):
            raise DeviceUnavailable("TRM-008", f"the card read broke: {outcome.why}")
        reason = explain(outcome.code)[0]
        if reason in NO_CARD_NOW or reason is Reason.TRY_LATER:
            return None
        raise self._unusable("card read", outcome)

    # --- money ------------------------------------------------------------------------------------

    async def authorize(self, amount: Money, reference: str, keep: Keep) -> Outcome:
        """Raises ValueError for an amount that cannot be asked for."""
        self._check(amount)
        return await self._money(_Booking(commands.hold(amount, reference, self._profile)), keep)

    async def capture(self, ref: HoldRef, held: Money, amount: Money, keep: Keep) -> Outcome:
        """06 23: the amount it carries is the part to release. Raises ValueError for more than is held."""
        self._check(amount)
        if amount > held:
            raise ValueError(f"capture of {amount} is more than the hold of {held}")
        command = commands.capture(ref, held - amount, self._profile)
        reversed_of = held if self._profile.capture_amount == "reversed" else None
        return await self._money(_Booking(command, ref, reversed_of), keep)

    async def release(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        """06 25. The amount of its evidence is 0 or the amount freed, as the terminal's make has it."""
        command = commands.release(ref, self._spec.currency, self._profile)
        return await self._money(_Booking(command, ref), keep)

    def _check(self, amount: Money) -> None:
        if amount.currency != self._spec.currency or amount.amount_minor <= 0:
            raise ValueError(f"{amount}; expected an amount above zero in {self._spec.currency}")

    async def _money(self, command: _Booking, keep: Keep) -> Outcome:
        """One dialogue whose result is offered to `keep` once."""
        kept: Evidence | None = None

        async def store(apdu: Apdu) -> bool:
            nonlocal kept
            found = self._evidence(apdu, command)
            if found is None:
                self._env.log(
                    "evidence_refused", level="error", id="TRM-012", terminal=self._spec.id
                )
                return False
            if await keep(found) is not Verdict.STORED:
                return False
            kept = found
            return True

        async with self._at_turn():
            line = self._line
            if line is None:
                return NotSent("the link to the terminal is down")
            evidence = o.Results.EVIDENCE
            dialogue = Dialogue(self._link, command.apdu, results=evidence)
            try:
                outcome = await self._drive(line, dialogue, store)
            except DeviceUnavailable as error:
                return NotSent(str(error))
        if isinstance(outcome, o.Completed):
            if kept is None:
                return Unknown("the terminal completed without a result")
            return Done(kept)
        if isinstance(outcome, o.Broken | o.Disputed):
            return Unknown(outcome.why)
        return self._definite_no(outcome, is_hold=command.ref is None)

    def _definite_no(self, outcome: o.Aborted | o.Negative, *, is_hold: bool) -> Outcome:
        """The terminal ended the command without any result, so nothing was moved. Capture and release
        are tried again where only the moment was wrong; the driver at the charger is told at once."""
        reason, text = explain(outcome.code)
        if isinstance(outcome, o.Aborted):
            text = results.error_text(outcome.apdu) or text
        if outcome.code in TEMPORARY and (not is_hold or isinstance(outcome, o.Negative)):
            return NotSent(f"not now: {outcome.code:02x}, {text}")
        return Refused(reason, f"{outcome.code:02x}", text)

    def _evidence(self, apdu: Apdu, command: _Booking) -> Evidence | None:
        spec = self._spec
        return results.evidence(apdu, spec.currency, self._tid, command.ref, command.reversed_of)

    # --- asking -----------------------------------------------------------------------------------

    async def open_holds(self) -> OpenHolds:
        """06 23 for receipt FFFF; always answered by an Abort (PA00P015)."""
        for _ in range(ENQUIRY_TRIES):
            async with self._at_turn():
                outcome = await self._ask(commands.enquiry())
            if not isinstance(outcome, o.Aborted) or outcome.code != OPEN_HOLDS:
                raise self._unusable("enquiry of open holds", outcome)
            receipts = tuple(open_receipts(outcome.apdu))
            if outcome.apdu.text("receipt") == commands.NO_RECEIPT and not receipts:
                return OpenHolds(())
            if receipts:
                return OpenHolds(receipts, complete=_whole_list(outcome.apdu))
        return OpenHolds((), complete=False)

    async def last_result(self) -> LastResult | None:
        """06 20 with service byte 03: the last status information again, nothing printed."""
        command = commands.repeat_result(self._spec.password)
        async with self._at_turn():
            outcome = await self._ask(command, reports=o.Results.REPORT)
        if isinstance(outcome, o.Aborted | o.Negative) and outcome.code in NOTHING_TO_REPEAT:
            return None
        if not isinstance(outcome, o.Completed):
            raise self._unusable("repeat receipt", outcome)
        if outcome.status is None:
            return None
        found = results.evidence(outcome.status, self._spec.currency, self._tid)
        if found is None:
            return None
        result = outcome.status.integer("result")
        return LastResult(o.NO_CODE if result is None else result, found)

    async def show(self, lines: Sequence[str], hold_s: int = 0) -> None:
        command = commands.display(lines, hold_s)
        async with self._at_turn():
            outcome = await self._ask(command, ends=o.Ends.WITH_ANSWER)
        if isinstance(outcome, o.Broken):
            raise self._unusable("display text", outcome)

    # --- driving a dialogue -----------------------------------------------------------------------

    @asynccontextmanager
    async def _at_turn(self) -> AsyncIterator[None]:
        """One command at a time, and a card read waits for nobody: neither one that runs nor one that
        would be next."""
        self._waiting += 1
        try:
            if self._reading is not None:
                self._reading.abort(self._env.boot_ms())
                self._wake.set()
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()

    def _require_line(self) -> Line:
        if self._line is None:
            raise DeviceUnavailable("TRM-009", "the link to the terminal is down")
        return self._line

    async def _ask(
        self,
        command: Apdu,
        *,
        ends: o.Ends = o.Ends.WITH_COMPLETION,
        reports: o.Results = o.Results.NONE,
        run_ms: int = T4_MS,
    ) -> o.Outcome:
        line = self._require_line()
        dialogue = Dialogue(self._link, command, ends=ends, results=reports, run_ms=run_ms)
        return await self._drive(line, dialogue, None)

    async def _drive(self, line: Line, dialogue: Dialogue, store: Store | None) -> o.Outcome:
        """Raises DeviceUnavailable TRM-009 when the line is gone before the first byte."""
        lost = _loss(line)
        if lost is not None:
            await self.close()
            raise DeviceUnavailable("TRM-009", lost)
        started = self._env.boot_ms()
        try:
            drive = Drive(self._env, line, self._link, dialogue, store, self._wake)
            outcome = await drive.run()
        except asyncio.CancelledError:
            await self.close()  # the terminal is in the middle of something
            raise
        self._env.log(
            "zvt_command",
            level="debug",
            terminal=self._spec.id,
            command=dialogue.name,
            outcome=type(outcome).__name__.lower(),
            code=f"{_code(outcome):02x}",
            after_ms=self._env.boot_ms() - started,
        )
        if isinstance(outcome, o.Broken | o.Disputed):
            # Both ends must begin anew: registration on a fresh link.
            await self.close()
        return outcome


def _code(outcome: o.Outcome) -> int:
    if isinstance(outcome, o.Negative | o.Aborted):
        return outcome.code
    return 0 if isinstance(outcome, o.Completed) else o.NO_CODE


def _loss(line: Line) -> str | None:
    """Why the line cannot be used; None when it can. Throws away what nobody has asked for."""
    try:
        line.discard()
        line.write(b"")
    except LineLost as error:
        return str(error)
    return None


def _whole_list(apdu: Apdu) -> bool:
    """Whether the answer lists all open holds (tag 23), and every entry is a receipt."""
    listed = apdu.values("08")
    readable = [v for v in listed if len(v) == 2 and v.hex().isdecimal()]
    return bool(apdu.find("23")) and len(readable) == len(listed)


def open_terminal(spec: TerminalSpec, env: DriverEnv) -> Terminal:
    """Entry point `terminal.zvt`. Opens nothing; raises DeviceUnavailable TRM-010 for settings that
    cannot be used."""
    if not _PASSWORD.fullmatch(spec.password):
        raise DeviceUnavailable(
            "TRM-010", "the terminal password", "six digits", "correct the file it is read from"
        )
    return ZvtTerminal(spec, env, load_profile(spec.profile, spec.options))
