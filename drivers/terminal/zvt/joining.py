"""Becoming acquainted: a line, its rate, registration (06 00), and who is there in what state (05 01)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from agent.ports import DeviceUnavailable, DriverEnv, Need, TerminalIdentity, TerminalSpec
from drivers.terminal.zvt import commands, results
from drivers.terminal.zvt import housekeeping as h
from drivers.terminal.zvt import outcomes as o
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.channel import NOT_REGISTERED, Channel, Ran
from drivers.terminal.zvt.codes import TEMPORARY
from drivers.terminal.zvt.profile import Profile
from drivers.terminal.zvt.sequences import SEQUENCES
from drivers.terminal.zvt.transfer import Files
from drivers.terminal.zvt.troubles import registration_refused, unusable, wrong_currency

WRONG_CURRENCY = 0x6F
# PA00P015, 08 40: the new rate can be used two seconds after the answer at the old one.
BAUD_SETTLE_S = 2.0


class Joining:
    """Its methods need the terminal's turn."""

    def __init__(
        self, spec: TerminalSpec, env: DriverEnv, profile: Profile, channel: Channel
    ) -> None:
        self._spec, self._env, self._profile, self._channel = spec, env, profile, channel
        self._bits: int | None = None  # BMP 19 of the last registration
        self._known = TerminalIdentity(None, None, None, None, False, "", "not asked yet")
        self._may_be_other = True  # another terminal than the one that was here before
        self._asked_ms: int | None = None
        self.absence = h.Absence(profile.eod_update_s * 1000)
        self._refusals = h.Refusals()
        self._refused: Ran | None = None  # the last registration that was

    @property
    def terminal_id(self) -> str | None:
        return self._known.terminal_id

    @property
    def excused(self) -> bool:
        """The terminal is at work on itself, as it said."""
        return self.absence.excuses(self._env.boot_ms())

    def status_age_ms(self) -> int | None:
        """How long ago the terminal was last asked for its status."""
        return None if self._asked_ms is None else self._env.boot_ms() - self._asked_ms

    async def connect(self) -> TerminalIdentity:
        """Raises DeviceUnavailable, unless the terminal has announced its absence."""
        if self._refused is not None and self._refusals.forbid(self._env.boot_ms()):
            raise self._refusal(self._refused)
        try:
            if self._channel.lost() is not None:
                await self._channel.open()
                self._may_be_other = True
            await self._find()
            return await self.status()
        except DeviceUnavailable:
            await self._channel.close()
            if not self.excused:
                raise
            return self._away()

    async def identify(self) -> TerminalIdentity:
        """Raises DeviceUnavailable as `connect`."""
        if self.excused and not self._channel.registered:
            return await self.connect()
        try:
            return await self.status()
        except DeviceUnavailable:
            if not self.excused:
                raise
            await self._channel.close()
            return self._away()

    def _away(self) -> TerminalIdentity:
        self._known = replace(
            self._known,
            ready=False,
            status_code=f"{h.MAINTENANCE_STATUS:02x}",
            status_text="update or restart, as announced",
            needs=(str(Need.MAINTENANCE),),
        )
        return self._known

    async def ask(
        self, command: Apdu, name: str, *, extra_ms: int = 0, files: Files | None = None
    ) -> Ran:
        """A command that moves no money. One that the terminal refuses because it has forgotten its
        registration is asked again after a new one."""
        sequence = SEQUENCES[name]
        ran = await self._channel.run(command, sequence, extra_ms=extra_ms, files=files)
        if ran.code != NOT_REGISTERED or not self._channel.usable:
            return ran
        await self.register()
        return await self._channel.run(command, sequence, extra_ms=extra_ms, files=files)

    # --- status -----------------------------------------------------------------------------------

    async def status(self) -> TerminalIdentity:
        ran = await self.ask(commands.status(self._spec.password, self._profile), "status")
        self._asked_ms = self._env.boot_ms()
        if not isinstance(ran.outcome, o.Completed):
            raise self._unusable("status enquiry", ran)
        found = results.identity(ran.outcome.completion, self.terminal_id)
        self._known = replace(found, needs=h.needs(int(found.status_code, 16), self._bits))
        if found.ready:
            self.absence.ends()
        elif found.status_code == f"{h.MAINTENANCE_STATUS:02x}":
            self.absence.hinted(self._asked_ms)
        return self._known

    # --- registration -----------------------------------------------------------------------------

    async def register(self) -> None:
        """06 00 at the rate of the line. Raises DeviceUnavailable."""
        ran = await self._offer()
        if not isinstance(ran.outcome, o.Completed):
            raise self._refusal(ran)

    async def _offer(self) -> Ran:
        spec = self._spec
        command = commands.registration(spec.password, spec.currency, self._profile)
        ran = await self._channel.run(command, SEQUENCES["registration"])
        if isinstance(ran.outcome, o.Completed):
            completion = ran.outcome.completion
            self._channel.registered, self._channel.met_anew = True, False
            self._refusals.forgive()
            self._bits = h.registration_bits(completion)
            before = None if self._may_be_other else self.terminal_id
            self._known = replace(self._known, terminal_id=completion.text("tid") or before)
            self._may_be_other = False
        elif ran.code == h.MAINTENANCE_STATUS:
            self.absence.hinted(self._env.boot_ms())
        elif isinstance(ran.outcome, o.Negative | o.Aborted) and ran.code not in TEMPORARY:
            self._refusals.happened(self._env.boot_ms())
            self._refused = ran
        return ran

    def _refusal(self, ran: Ran) -> DeviceUnavailable:
        if ran.code == WRONG_CURRENCY:
            return wrong_currency(self._spec.currency)
        if isinstance(ran.outcome, o.Negative) and ran.code not in TEMPORARY:
            return registration_refused(ran.code)
        return self._unusable("registration", ran)

    async def _find(self) -> None:
        """Register at the configured rate; where nobody answers, at those the terminal may have fallen
        back to. Raises DeviceUnavailable."""
        ran = await self._offer()
        if isinstance(ran.outcome, o.Completed):
            return
        refusal = self._refusal(ran)
        if not isinstance(ran.outcome, o.Broken) or self._channel.is_tcp:
            raise refusal
        for baud in self._profile.baud_fallback:
            if baud == self._spec.line.baud:
                continue
            await self._channel.open(baud)
            if isinstance((await self._offer()).outcome, o.Completed):
                await self._raise_rate(baud)
                return
        raise refusal

    # --- rate -------------------------------------------------------------------------------------

    async def _raise_rate(self, found: int) -> None:
        wanted = self._spec.line.baud
        self._env.log(
            "terminal_at_other_rate",
            level="warning",
            id="TRM-015",
            terminal=self._spec.id,
            seen=found,
            expected=wanted,
        )
        ran = await self.change_rate(wanted)
        if not isinstance(ran.outcome, o.Completed):
            self._env.log(
                "terminal_keeps_its_rate",
                level="warning",
                id="TRM-015",
                terminal=self._spec.id,
                seen=found,
                code=f"{ran.code:02x}",
            )

    async def change_rate(self, baud: int) -> Ran:
        """08 40 and all that follows. Ends registered, at the new rate or at the one before. Raises
        DeviceUnavailable when the terminal answers at neither."""
        before = self._channel.baud
        ran = await self.ask(commands.baud(baud), "baud")
        if not isinstance(ran.outcome, o.Completed):
            if isinstance(ran.outcome, o.Broken):
                await self._reopen(before)
            return ran
        await asyncio.sleep(BAUD_SETTLE_S)
        await self._channel.open(baud)
        again = await self._offer()
        if isinstance(again.outcome, o.Broken):
            await self._reopen(before)
            return again
        if not isinstance(again.outcome, o.Completed):
            raise self._refusal(again)
        return ran

    async def _reopen(self, baud: int) -> None:
        await self._channel.open(baud)
        await self.register()

    def _unusable(self, what: str, ran: Ran) -> DeviceUnavailable:
        return unusable(what, ran.outcome, self._spec.line, self._channel.garbage)
