"""Phoenix Contact EV-CC-AC1 (EV Charge Control Basic) on an RTU bus. Implements `agent.ports.Evse`.

Source: user manual 106377_en_04, table 9-2 (registers), table 9-1 (status of IEC 61851-1 annex A).

The controller has no fail-safe timer: released, it stays released when nobody speaks any more. So the
driver arms a lease with every release and takes the release back from within `snapshot` once the lease is
over. That covers an agent that runs but no longer re-asserts. It does not cover a dead one: for that,
something outside must call `withdraw` in a process of its own (the service manager, after the agent has
ended); `open_evse` and `withdraw` alone are enough for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from agent.ports import (
    DeviceUnavailable,
    DriverEnv,
    EvseAbilities,
    EvseSnapshot,
    EvseSpec,
    EvseState,
)
from drivers.evse.phoenix_registers import (
    BY_MODBUS,
    COIL_ENABLE,
    COIL_LOCK,
    CONTROL_MODE,
    ERROR_NAMES,
    ERRORS,
    LEAST_CURRENT_A,
    LOCK_MODE,
    MAX_CURRENT,
    STATUS,
    STATUS_REGISTERS,
    Settings,
    settings_of,
)
from drivers.evse.pilot import Pilot
from drivers.meter.modbus import BusError, ExceptionReply, Function, Request
from drivers.meter.rtu import Answer, Bus, Priority, unavailable

# A state that says "no car" must hold this long in two reads in a row: a car that is plugged in, and some
# controllers that wake up, touch A for a moment.
DEBOUNCE_MS = 1_000
# Refused addresses or functions: the table is another one than this driver was written after.
_NOT_THERE = frozenset({1, 2, 3})


def open_evse(spec: EvseSpec, bus: Bus, env: DriverEnv) -> PhoenixRtu:
    """The controller of `spec` on `bus`; nothing is sent yet.

    Options: address_offset (added to every address, -1 where the wire counts from zero differently),
    status_function (4 input or 3 holding registers; without it both are tried), max_current_a (6 to 63),
    set_control_mode (true: write 3 to register 4000 when it is another), lock_by_coil (true: register
    4002 is 3, lock at release, `unlock` unlocks), estop_input (EN XR ML CCR IN: input that the emergency
    stop reports to) with estop_level (0 or 1: level when pressed), failsafe_s (silence after which this
    installation withdraws by itself), turnaround_ms, longest_reply_ms, min_gap_ms. Raises OptionError."""
    return PhoenixRtu(spec.id, settings_of(spec), bus, env)


class PhoenixRtu:
    """See the module and `agent.ports.Evse`. `withdraw` and `stop` go before everything else: a release
    under way is given up, and its enable can no longer follow."""

    def __init__(self, name: str, settings: Settings, bus: Bus, env: DriverEnv) -> None:
        self._who = f"evse {name}, unit {settings.unit}"
        self._set, self._bus, self._env = settings, bus, env
        self._pilot = Pilot(DEBOUNCE_MS)
        self._variants = [(f, n) for n in (STATUS_REGISTERS, 1) for f in settings.functions]
        if settings.estop_input is not None:
            self._variants = self._variants[: len(settings.functions)]
        self._mode_checked = False
        self._lost_since_ms: int | None = None
        self._told: tuple[str, ...] = ()
        self._limit_a: int | None = None
        self._lease_until_ms: int | None = None
        self._off_pending = False
        self._withdrawals = 0
        self._withdrawing = 0
        self._release_turn = asyncio.Lock()
        self._releasing: asyncio.Task[None] | None = None

    @property
    def abilities(self) -> EvseAbilities:
        return EvseAbilities(
            failsafe_s=self._set.failsafe_s,
            can_unlock=self._set.lock_by_coil,
            reports_estop=self._set.estop_input is not None,
        )

    # --- Port ---------------------------------------------------------------------------------

    async def snapshot(self) -> EvseSnapshot:
        """Never raises. Every snapshot is read from the controller; nothing old is repeated, except
        that a first A reports the state before it until a second one confirms it."""
        await self._keep_lease()
        try:
            answer = await self._read_status()
            raw = answer.values[0].to_bytes(2, "big")
            text = raw.decode("ascii", "backslashreplace").rstrip("\0 ")
            state = self._pilot.see(text, answer.received_ms)
            codes: tuple[str, ...] = ()
            if state is EvseState.FAULT:
                codes = (text[:1], *await self._read_errors())
            elif not self._pilot.known(text):
                codes = ("EVS-004",)
            self._tell(codes, text)
        except BusError as error:
            return self._silent(unavailable(error, self._who))
        self._back()
        return EvseSnapshot(
            state,
            answer.received_ms,
            estop=self._estop(answer),
            fault_codes=codes,
            limit_ma=self._offered_ma(answer),
        )

    async def release(self, limit_ma: int, lease_s: int) -> None:
        """Current first, then enable; both are read back. Whole amperes, rounded down, at most
        max_current_a. Raises DeviceUnavailable, also for less than 6 A, with nothing changed then."""
        amps = min(limit_ma // 1000, self._set.most_current_a)
        if amps < LEAST_CURRENT_A:
            raise self._unavailable(
                "EVS-006",
                f"release with {limit_ma} mA",
                f"at least {LEAST_CURRENT_A} A",
                "withdraw the release to pause charging",
            )
        wish = self._withdrawals
        async with self._release_turn:
            if wish == self._withdrawals:
                task = asyncio.get_running_loop().create_task(self._release(amps, lease_s))
                self._releasing = task
                try:
                    await task
                    return
                except asyncio.CancelledError:
                    current = asyncio.current_task()
                    if wish == self._withdrawals or (current is not None and current.cancelling()):
                        raise
                finally:
                    self._releasing = None
        raise self._unavailable("EVS-009", "release overtaken by a withdraw or stop")

    async def withdraw(self) -> None:
        """Enable off, read back. Tried again by every snapshot until it has worked."""
        self._withdrawals += 1
        self._withdrawing += 1
        self._off_pending, self._lease_until_ms = True, None
        try:
            releasing = self._releasing
            if releasing is not None:
                releasing.cancel()
                await asyncio.wait({releasing})
            await self._guarded(self._switch_off())
        finally:
            self._withdrawing -= 1

    async def stop(self) -> None:
        """As `withdraw`; a car that stays shows as FINISHED from now on."""
        self._pilot.end()
        await self.withdraw()

    async def unlock(self) -> None:
        """Open the plug's lock. Raises DeviceUnavailable where the lock is not by coil, and while
        energy may flow."""
        if not self._set.lock_by_coil:
            raise self._unavailable(
                "EVS-007", "unlock asked for", "option lock_by_coil with register 4002 = 3"
            )
        snapshot = await self.snapshot()
        if snapshot.state in (EvseState.CHARGING, EvseState.UNKNOWN):
            raise self._unavailable(
                "EVS-008", f"unlock while {snapshot.state}", "no energy", "stop first"
            )
        await self._guarded(self._write_coil(COIL_LOCK, False, Priority.COMMAND))

    # --- Steps of a command -------------------------------------------------------------------

    async def _release(self, amps: int, lease_s: int) -> None:
        # Armed before the first write: an enable whose answer is lost may have worked.
        self._off_pending = False
        self._lease_until_ms = self._env.boot_ms() + 1000 * max(1, lease_s)
        await self._guarded(self._switch_on(amps))

    async def _switch_on(self, amps: int) -> None:
        await self._check_mode(Priority.COMMAND)
        # A controller with a fail-safe timer wants to be written to, not only read.
        always = self._set.failsafe_s is not None
        if always or await self._read_holding(MAX_CURRENT, Priority.COMMAND) != amps:
            request = self._request(Function.WRITE_REGISTER, MAX_CURRENT, values=(amps,))
            await self._send(request, Priority.COMMAND, repeatable=True)
            seen = await self._read_holding(MAX_CURRENT, Priority.COMMAND)
            self._same(MAX_CURRENT, seen, amps)
        self._limit_a = amps
        if self._set.lock_by_coil:
            await self._write_coil(COIL_LOCK, True, Priority.COMMAND)
        if always or not await self._read_coil(COIL_ENABLE, Priority.COMMAND):
            self._pilot.release()
            await self._write_coil(COIL_ENABLE, True, Priority.COMMAND)
        self._pilot.release()

    async def _switch_off(self) -> None:
        await self._write_coil(COIL_ENABLE, False, Priority.STOP)
        # In any other mode the coil is accepted and without effect.
        await self._check_mode(Priority.STOP)
        self._off_pending = False
        self._pilot.withdraw()

    async def _keep_lease(self) -> None:
        until = self._lease_until_ms
        if until is not None and self._env.boot_ms() >= until:
            self._env.log("evse_lease_over", id="EVS-010", evse=self._who)
            self._lease_until_ms, self._off_pending = None, True
        if self._off_pending and not self._withdrawing:
            try:
                await self.withdraw()
            except DeviceUnavailable:
                return  # the snapshot that follows says that the controller is silent

    async def _check_mode(self, priority: Priority) -> None:
        """Once, and again after every silence: the coils must be what releases."""
        if self._mode_checked:
            return
        mode = await self._read_holding(CONTROL_MODE, priority)
        if mode != BY_MODBUS and self._set.set_control_mode:
            request = self._request(Function.WRITE_REGISTER, CONTROL_MODE, values=(BY_MODBUS,))
            await self._send(request, priority, repeatable=True)
            self._env.log("evse_control_mode_set", evse=self._who, was=mode)
            mode = await self._read_holding(CONTROL_MODE, priority)
        if mode != BY_MODBUS:
            raise self._unavailable(
                "EVS-002",
                f"register {CONTROL_MODE} is {mode}, so the controller does not listen to Modbus",
                f"{BY_MODBUS}",
                "set it, or set the option set_control_mode",
            )
        if self._set.lock_by_coil:
            lock = await self._read_holding(LOCK_MODE, priority)
            if lock != BY_MODBUS and priority is not Priority.STOP:
                raise self._unavailable(
                    "EVS-002",
                    f"register {LOCK_MODE} is {lock}, but lock_by_coil is set",
                    f"{BY_MODBUS}",
                    "set DIP switch S1/3 and the register, or drop the option",
                )
        self._mode_checked = True

    # --- Registers ----------------------------------------------------------------------------

    def _request(
        self, function: Function, address: int, count: int = 0, values: tuple[int, ...] = ()
    ) -> Request:
        return Request(self._set.unit, function, address + self._set.offset, count, values)

    async def _send(
        self, request: Request, priority: Priority, *, repeatable: bool | None = None
    ) -> Answer:
        return await self._bus.transact(
            request, timing=self._set.timing, priority=priority, repeatable=repeatable
        )

    async def _read_holding(self, address: int, priority: Priority) -> int:
        request = self._request(Function.READ_HOLDING, address, 1)
        return (await self._send(request, priority)).values[0]

    async def _read_coil(self, address: int, priority: Priority) -> bool:
        request = self._request(Function.READ_COILS, address, 1)
        return bool((await self._send(request, priority)).values[0])

    async def _write_coil(self, address: int, value: bool, priority: Priority) -> None:
        # Off may be repeated at will. On is not: between two tries somebody may have switched off.
        request = self._request(Function.WRITE_COIL, address, values=(int(value),))
        await self._send(request, priority, repeatable=not value)
        # The acknowledgement of a coil is the request's own bytes, which an echoing adapter returns too.
        self._same(address, int(await self._read_coil(address, priority)), int(value))

    def _same(self, address: int, seen: int, wanted: int) -> None:
        if seen != wanted:
            raise self._unavailable(
                "EVS-003",
                f"register {address} reads {seen} after {wanted} was written",
                f"{wanted}",
                "look for a second master or a controller that restarts",
            )

    async def _read_status(self) -> Answer:
        """The first way of asking that the controller knows; remembered."""
        while True:
            function, count = self._variants[0]
            request = self._request(function, STATUS, count)
            try:
                return await self._send(request, Priority.READ)
            except ExceptionReply as error:
                if error.code not in _NOT_THERE or len(self._variants) == 1:
                    raise
                del self._variants[0]

    async def _read_errors(self) -> list[str]:
        """Names of the error bits; none where the controller does not tell."""
        function, _ = self._variants[0]
        try:
            answer = await self._send(self._request(function, ERRORS, 1), Priority.READ)
        except BusError:
            return []
        bits = answer.values[0]
        return [ERROR_NAMES.get(bit, f"bit_{bit}") for bit in range(16) if bits >> bit & 1]

    def _estop(self, answer: Answer) -> bool:
        bit = self._set.estop_input
        if bit is None or len(answer.values) < STATUS_REGISTERS:
            return False
        return (answer.values[4] >> bit & 1) == self._set.estop_level

    def _offered_ma(self, answer: Answer) -> int | None:
        if len(answer.values) >= STATUS_REGISTERS:
            return 1000 * answer.values[3]
        return None if self._limit_a is None else 1000 * self._limit_a

    # --- Failures -----------------------------------------------------------------------------

    async def _guarded(self, steps: Awaitable[None]) -> None:
        try:
            await steps
        except BusError as error:
            self._mode_checked = False
            raise unavailable(error, self._who) from error

    def _unavailable(
        self, code: str, seen: str, expected: str = "", remedy: str = ""
    ) -> DeviceUnavailable:
        return DeviceUnavailable(code, f"{self._who}: {seen}", expected, remedy)

    def _tell(self, codes: tuple[str, ...], text: str) -> None:
        """Log a fault when it comes or changes, not with every snapshot."""
        if codes and codes != self._told:
            known = self._pilot.known(text)
            event, error_id = ("evse_fault", "EVS-005") if known else ("evse_state", "EVS-004")
            self._env.log(event, id=error_id, evse=self._who, seen=text, codes=list(codes))
        self._told = codes

    def _silent(self, error: DeviceUnavailable) -> EvseSnapshot:
        now = self._env.boot_ms()
        self._mode_checked = False
        self._pilot.lose()
        if self._lost_since_ms is None:
            self._lost_since_ms = now
            self._env.log("evse_lost", id=error.code, evse=self._who, why=str(error))
        return EvseSnapshot(EvseState.UNKNOWN, now, fault_codes=(error.code,))

    def _back(self) -> None:
        if self._lost_since_ms is not None:
            after = self._env.boot_ms() - self._lost_since_ms
            self._env.log("evse_back", evse=self._who, after_ms=after)
            self._lost_since_ms = None
