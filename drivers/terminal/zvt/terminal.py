"""The terminal port over ZVT: one line, one command at a time, verbs made of dialogues.

A money verb, and `show`, end a running card read by aborting it. Nothing that moves money is sent twice:
a dialogue that breaks after its first byte ends as Unknown, and the caller asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from agent.ports import (
    Card,
    CardKind,
    DeviceUnavailable,
    Done,
    DriverEnv,
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
from agent.ports import Evidence as PortEvidence
from agent.values import Money
from agent.values.money import currency_of_numeric
from drivers.line import Line, LineLost, open_line
from drivers.terminal.zvt import dialogue as d
from drivers.terminal.zvt.codec import Apdu, build, tag
from drivers.terminal.zvt.codes import USABLE_STATUS, explain, status_text
from drivers.terminal.zvt.decode import classify, open_receipts
from drivers.terminal.zvt.drive import Drive, Store
from drivers.terminal.zvt.frames import Link
from drivers.terminal.zvt.profile import Profile, load_profile
from drivers.terminal.zvt.text import displayable

# Registration with a terminal that has just booted: it answers, or it does not.
REGISTER_BUSY_MS = 60_000
ENQUIRY_TRIES = 2  # 06 1E B8 without any receipt says nothing; once more
DISPLAY_LINE_MAX = 40
NO_RECEIPT = "ffff"
OPEN_HOLDS = 0xB8
NOTHING_TO_REPEAT = frozenset({0x64, 0x66, 0x6A, 0x6C, 0x83, 0xB5, 0xFF})
BUSY = frozenset({0x9C, 0xE0, 0xA0})


class ZvtTerminal:
    def __init__(self, spec: TerminalSpec, env: DriverEnv, profile: Profile) -> None:
        self._spec, self._env, self._profile = spec, env, profile
        self._line: Line | None = None
        self._link = Link()
        self._turn = asyncio.Lock()
        self._reading: d.Dialogue | None = None
        self._wake = asyncio.Event()
        self._tid: str | None = None

    # --- link -------------------------------------------------------------------------------------

    async def connect(self) -> TerminalIdentity:
        async with self._turn:
            if self._line is None:
                try:
                    self._line = await open_line(self._spec.line)
                except LineLost as error:
                    raise DeviceUnavailable("TRM-001", str(error)) from None
                self._link = Link()
            await self._register()
            return await self._status()

    async def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def identify(self) -> TerminalIdentity:
        async with self._at_turn():
            return await self._status()

    async def _register(self) -> None:
        spec, profile = self._spec, self._profile
        tlv = (tag("26", tag("0a", hex_value="06d3")),) if profile.print_blocks else None
        values: dict[str, int | str] = {
            "password": spec.password,
            "config_byte": profile.config_byte,
            "currency": Money(0, spec.currency).numeric_currency,
        }
        command = build("0600", values, tlv)
        outcome = await self._ask(command, run_ms=REGISTER_BUSY_MS)
        if isinstance(outcome, d.Completed):
            self._tid = outcome.completion.text("tid") or self._tid
            return
        if isinstance(outcome, d.Negative):
            raise DeviceUnavailable(
                "TRM-005",
                f"the terminal refuses the registration ({outcome.code:02X})",
                f"password and currency {spec.currency} as set in the terminal",
                "check both with its operator",
            )
        raise self._unusable("registration", outcome)

    async def _status(self) -> TerminalIdentity:
        values = {"password": self._spec.password, "service_byte": self._profile.status_service}
        command = build("0501", values)
        outcome = await self._ask(command)
        if not isinstance(outcome, d.Completed):
            raise self._unusable("status enquiry", outcome)
        return self._identity(outcome.completion)

    def _identity(self, apdu: Apdu) -> TerminalIdentity:
        self._tid = apdu.tag_text("1f44") or self._tid
        code = str(apdu.parts.get("terminal_status", "00"))
        software = apdu.parts.get("sw_version")
        return TerminalIdentity(
            terminal_id=self._tid,
            device_serial=apdu.tag_text("1f42"),
            software=None if software is None else str(software),
            model=apdu.tag_text("1f40"),
            ready=int(code, 16) in USABLE_STATUS,
            status_code=code,
            status_text=status_text(int(code, 16)),
        )

    def _unusable(self, what: str, outcome: d.Outcome) -> DeviceUnavailable:
        if isinstance(outcome, d.Broken):
            return DeviceUnavailable(
                "TRM-006",
                f"no ZVT terminal answers on {self._spec.line.port}: {what}: {outcome.why}",
                f"a ZVT terminal at {self._spec.line.baud} {self._spec.line.framing}",
                "check cable, speed and that the terminal is set to ZVT",
            )
        code = outcome.code if isinstance(outcome, d.Negative | d.Aborted) else 0xFF
        return DeviceUnavailable("TRM-007", f"{what} ended with {code:02X}, {explain(code)[1]}")

    # --- cards ------------------------------------------------------------------------------------

    async def read_card(self, timeout_s: int) -> Card | None:
        if not 1 <= timeout_s <= 15:
            raise ValueError(f"timeout_s is {timeout_s}; expected 1 to 15")
        profile = self._profile
        command = build(
            "06c0",
            {"timeout_s": timeout_s, "payment_type": "10", "dialog": profile.read_dialog},
            (
                tag("1f15", hex_value=profile.read_control),
                tag("1f60", hex_value=profile.read_technologies),
            ),
        )
        async with self._turn:
            self._require_line()
            dialogue = d.Dialogue(
                self._link,
                command,
                ends=d.Ends.WITH_STATUS,
                run_ms=timeout_s * 1000 + d.CARD_GRACE_MS,
            )
            self._reading = dialogue
            try:
                outcome = await self._drive(dialogue, None)
            finally:
                self._reading = None
        if isinstance(outcome, d.Completed):
            return self._card(outcome.completion)
        if isinstance(outcome, d.Broken):
            raise DeviceUnavailable("TRM-008", f"the card read broke: {outcome.why}")
        if isinstance(outcome, d.Negative) and outcome.code not in BUSY:
            raise self._unusable("card read", outcome)
        return None

    def _card(self, apdu: Apdu) -> Card | None:
        if apdu.get("result") not in (0, None):
            return None
        token = apdu.tag_text("1f14") or apdu.tag_text("4c")
        limit = apdu.tag_text("1f0b")
        return Card(
            CardKind(classify(apdu)),
            None if token is None else bytes.fromhex(token),
            Money(int(limit), self._spec.currency) if limit and limit.isdecimal() else None,
        )

    # --- money ------------------------------------------------------------------------------------

    async def authorize(self, amount: Money, reference: str, keep: Keep) -> Outcome:
        tlv = None
        if self._profile.reference_tag:
            own = tag("1f62", text=self._profile.reference_tag), tag("1f63", text=reference)
            tlv = (tag("e9", *own),)
        values: dict[str, int | str] = {
            "payment_type": self._profile.payment_type,
            "currency": amount.numeric_currency,
            "amount_minor": amount.amount_minor,
        }
        command = build("0622", values, tlv)
        return await self._money(command, None, keep)

    async def capture(self, ref: HoldRef, held: Money, amount: Money, keep: Keep) -> Outcome:
        """06 23: the amount it carries is the part to release."""
        rest = held - amount
        command = self._reversal("0623", ref, rest)
        return await self._money(command, ref, keep, held)

    async def release(self, ref: HoldRef, held: Money, keep: Keep) -> Outcome:
        return await self._money(self._reversal("0625", ref, None), ref, keep)

    def _reversal(self, name: str, ref: HoldRef, amount: Money | None) -> Apdu:
        values: dict[str, int | str] = {}
        if self._profile.release_payment_type:
            values["payment_type"] = self._profile.payment_type
        values["receipt"] = f"{ref.receipt:04d}"
        values["currency"] = Money(0, self._spec.currency).numeric_currency
        if amount is not None:
            values["amount_minor"] = amount.amount_minor
        if self._profile.trace_in_reversal and ref.trace is not None:
            values["trace"] = ref.trace
        return build(name, values)

    async def _money(
        self, command: Apdu, ref: HoldRef | None, keep: Keep, captured_of: Money | None = None
    ) -> Outcome:
        rejected = False

        async def store(apdu: Apdu) -> bool:
            nonlocal rejected
            evidence = self._evidence(apdu, ref, captured_of)
            stored = evidence is not None and await keep(evidence) is Verdict.STORED
            rejected = rejected or not stored
            return stored

        self._interrupt()
        async with self._turn:
            if self._line is None:
                return NotSent("the link to the terminal is down")
            outcome = await self._drive(d.Dialogue(self._link, command, money=True), store)
        if rejected:
            return Unknown("the evidence could not be stored; the terminal was told no")
        return self._outcome(outcome, ref, captured_of)

    def _outcome(
        self, outcome: d.Outcome, ref: HoldRef | None, captured_of: Money | None
    ) -> Outcome:
        if isinstance(outcome, d.Completed):
            evidence = (
                None if outcome.status is None else self._evidence(outcome.status, ref, captured_of)
            )
            if evidence is None:
                return Unknown("the terminal completed without a status information")
            return Done(evidence)
        if isinstance(outcome, d.Aborted):
            reason, text = explain(outcome.code)
            said = outcome.apdu.text("text") or outcome.apdu.tag_text("1f17") or text
            return Refused(reason, f"{outcome.code:02x}", said)
        if isinstance(outcome, d.Negative):
            reason, text = explain(outcome.code)
            if outcome.code in BUSY:
                return NotSent(f"the terminal is busy: {text}")
            return Refused(
                reason if outcome.code != 0x83 else Reason.NOT_SUPPORTED,
                f"{outcome.code:02x}",
                text,
            )
        return Unknown(outcome.why)

    def _evidence(
        self, apdu: Apdu, ref: HoldRef | None, captured_of: Money | None
    ) -> PortEvidence | None:
        """None when the terminal did not say which receipt it is: then it cannot be found again."""
        receipt = apdu.text("receipt")
        if receipt is None or not receipt.isdecimal():
            if ref is None:
                return None
            receipt = str(ref.receipt)
        trace = apdu.integer("trace")
        long_trace = apdu.tag_text("1f2b")
        if not trace and long_trace is not None and long_trace.isdecimal():
            trace = int(long_trace)
        made = HoldRef(
            terminal_id=apdu.text("tid") or self._tid or "",
            receipt=int(receipt),
            turnover=apdu.integer("turnover"),
            trace=trace,
            date=apdu.text("date"),
            time=apdu.text("time"),
        )
        return PortEvidence(made, self._amount(apdu, captured_of), self._details(apdu))

    def _amount(self, apdu: Apdu, captured_of: Money | None) -> Money | None:
        minor = apdu.integer("amount_minor")
        numeric = apdu.text("currency")
        currency = self._spec.currency if numeric is None else currency_of_numeric(numeric)
        if minor is None or currency != self._spec.currency:
            return None
        if captured_of is not None and self._profile.capture_amount == "reversed":
            minor = captured_of.amount_minor - minor
        return Money(minor, currency)

    def _details(self, apdu: Apdu) -> dict[str, int | str]:
        found: dict[str, int | str] = {}
        for name in ("card_name", "aid", "vu", "text", "card_type", "payment_type"):
            value = apdu.get(name)
            if value is not None:
                found[name] = value.strip() if isinstance(value, str) else value
        if apdu.card_last4 is not None:
            found["card_last4"] = apdu.card_last4
        emv_aid = apdu.tag_text("43")
        if emv_aid is not None:
            found["emv_aid"] = emv_aid
        return found

    # --- asking -----------------------------------------------------------------------------------

    async def open_holds(self) -> OpenHolds:
        """06 23 for receipt FFFF; always answered by an Abort (PA00P015)."""
        command = build("0623", {"receipt": NO_RECEIPT}, ())
        for _ in range(ENQUIRY_TRIES):
            async with self._at_turn():
                outcome = await self._ask(command)
            if not isinstance(outcome, d.Aborted) or outcome.code != OPEN_HOLDS:
                raise self._unusable("enquiry of open holds", outcome)
            first = outcome.apdu.text("receipt")
            receipts = tuple(open_receipts(outcome.apdu))
            if first == NO_RECEIPT and not receipts:
                return OpenHolds(())
            if receipts:
                return OpenHolds(receipts, complete=bool(outcome.apdu.find("23")))
        return OpenHolds((), complete=False)

    async def last_result(self) -> LastResult | None:
        """06 20 with service byte 03: the last status information again, nothing printed."""
        command = build("0620", {"password": self._spec.password, "service_byte": "03"})
        async with self._at_turn():
            outcome = await self._ask(command)
        if isinstance(outcome, d.Aborted | d.Negative) and outcome.code in NOTHING_TO_REPEAT:
            return None
        if not isinstance(outcome, d.Completed):
            raise self._unusable("repeat receipt", outcome)
        if outcome.status is None:
            return None
        evidence = self._evidence(outcome.status, None, None)
        if evidence is None:
            return None
        return LastResult(outcome.status.integer("result") or 0, evidence)

    async def show(self, lines: Sequence[str], hold_s: int = 0) -> None:
        shown = [displayable(line)[:DISPLAY_LINE_MAX] for line in lines]
        values: dict[str, int | str] = {"display_s": hold_s}
        values |= {f"line_{i}": text for i, text in enumerate(shown[:8], start=1)}
        command = build("06e0", values)
        async with self._at_turn():
            outcome = await self._ask(command, ends=d.Ends.WITH_ANSWER)
        if isinstance(outcome, d.Broken):
            raise self._unusable("display text", outcome)

    # --- driving a dialogue -----------------------------------------------------------------------

    @asynccontextmanager
    async def _at_turn(self) -> AsyncIterator[None]:
        self._interrupt()
        async with self._turn:
            yield

    def _interrupt(self) -> None:
        """A card read waits for nobody."""
        if self._reading is not None:
            self._reading.abort(self._env.boot_ms())
            self._wake.set()

    def _require_line(self) -> Line:
        if self._line is None:
            raise DeviceUnavailable("TRM-009", "the link to the terminal is down")
        return self._line

    async def _ask(
        self, command: Apdu, *, ends: d.Ends = d.Ends.WITH_COMPLETION, run_ms: int = d.T4_MS
    ) -> d.Outcome:
        self._require_line()
        return await self._drive(d.Dialogue(self._link, command, ends=ends, run_ms=run_ms), None)

    async def _drive(self, dialogue: d.Dialogue, store: Store | None) -> d.Outcome:
        line = self._require_line()
        line.discard()
        try:
            drive = Drive(self._env, line, self._link, dialogue, store, self._wake)
            outcome = await drive.run()
        except LineLost as error:
            outcome = d.Broken(str(error))
        if isinstance(outcome, d.Broken):
            # Both ends must begin anew: registration on a fresh link.
            await self.close()
        return outcome


def open_terminal(spec: TerminalSpec, env: DriverEnv) -> Terminal:
    """Entry point `terminal.zvt`. Opens nothing; raises DeviceUnavailable for a wrong profile."""
    return ZvtTerminal(spec, env, load_profile(spec.profile, spec.options))
