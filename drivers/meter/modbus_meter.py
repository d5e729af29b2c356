"""An energy meter on an RTU bus, after its model file. Implements `agent.ports.Meter`.

What a reading stands for: energy is stamped when the last byte of its reply was seen, and rounded once to
whole Wh; power comes from the same reply where the model has both in one block, else from the next. The
first reading, and the first after any silence (also where nobody asked), is taken twice, and model and
serial number are read again before: a meter that was off may answer zeros for a moment, or may be another
meter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path

from agent.ports import DeviceUnavailable, DriverEnv, LineSpec, MeterIdentity, MeterSpec
from agent.values import Reading, ReadingState
from drivers.meter.agreement import PowerWatch
from drivers.meter.catalogue import load_model
from drivers.meter.claims import claim
from drivers.meter.modbus import BusError, ExceptionReply, Function, Request
from drivers.meter.model import Block, Mark, Model, Text, Value
from drivers.meter.options import Options, timing_of
from drivers.meter.plausible import UNKNOWN_RATED_POWER_W, RegisterWatch, most_rise_wh
from drivers.meter.quantity import Number, OutOfRange, number_in, text_in
from drivers.meter.rtu import Answer, Bus, open_bus, unavailable
from drivers.meter.timing import DeviceTiming
from drivers.meter.values import NotAvailable

_SERIAL = "serial number"
_RIGHT_MODEL = "correct `model`, or the unit number if another meter was meant"
# Nobody puts another meter in between two replies that lie closer together.
HEARD_MS = 5_000
# A meter that has just been switched on may tell zeros for so long. Shorter than the station's GRACE_MS, and
# than its wait for a meter after a restart.
BLANK_MS = 8_000
# Highest rated power an option may give; chargers end far below.
_MOST_RATED_W = 10_000_000


class _Unusable(Exception):
    """The meter answered, and the answer cannot be billed."""

    def __init__(
        self, state: ReadingState, why: str, at_ms: int, serial: str | None = None
    ) -> None:
        super().__init__(why)
        self.state, self.why, self.at_ms, self.serial = state, why, at_ms, serial


@dataclass(frozen=True, slots=True)
class _Registers:
    """Both values of one reply."""

    energy_wh: int
    power_w: int
    step_wh: Fraction
    at_ms: int


def open_meter(spec: MeterSpec, bus: Bus, env: DriverEnv) -> ModbusMeter:
    """The meter of `spec` on `bus`; nothing is sent yet.

    Options: models_dir (folder with own model files), rated_power_w (bounds how fast the register may
    rise), and turnaround_ms, longest_reply_ms, min_gap_ms, signing_reply_ms instead of the model's, for
    gateways that slow the bus down. A meter that signs is a `SigningMeter` too. Raises ModelError or
    OptionError (both ValueError)."""
    folder = spec.options.get("models_dir")
    models_dir = Path(folder) if isinstance(folder, str) and folder.strip() else None
    return open_model(load_model(spec.model, models_dir), spec, bus, env)


def open_model(model: Model, spec: MeterSpec, bus: Bus, env: DriverEnv) -> ModbusMeter:
    """As `open_meter` for a model that is at hand. Raises OptionError."""
    options = Options(spec.options, "MTR-011", f"meter {spec.model}")
    folder = options.text("models_dir")
    rated = options.optional_integer("rated_power_w", 1, _MOST_RATED_W)
    timing = timing_of(options, model.timing)
    late_ms = options.optional_integer("signing_reply_ms", 1, 60_000)
    options.check(1 <= spec.unit <= 247, f"unit is {spec.unit}; expected 1 to 247")
    options.done()
    models_dir = Path(folder) if folder else None
    if model.signing_unit is None:
        return ModbusMeter(model, spec, bus, env, timing, rated, models_dir)
    # Imported late: most meters do not sign, and a board has little memory.
    from drivers.meter.signing.meter import UNITS, SigningModbusMeter

    late_ms = late_ms or model.signing_unit.reply_ms
    patience = None if late_ms is None else _patient(timing, late_ms)
    meter = SigningModbusMeter(model, spec, bus, env, timing, rated, models_dir)
    return meter.attach(UNITS[model.signing_unit.protocol](), patience)


def _patient(timing: DeviceTiming, late_ms: int) -> DeviceTiming:
    """Timing of a meter that answers up to `late_ms` late; never less than its usual one."""
    turnaround = max(late_ms, timing.turnaround_ms)
    return DeviceTiming(turnaround, max(turnaround, timing.longest_reply_ms), timing.min_gap_ms)


async def read_once(model: str, line: LineSpec, unit: int, env: DriverEnv) -> dict[str, object]:
    """One reading without any configuration, for `meter read`: model, serial, energy_import_wh, power_w,
    state, why. Raises ModelError for an unknown model; a meter that does not answer is a state."""
    bus = open_bus(line, env)
    try:
        meter = open_meter(MeterSpec(model, unit), bus, env)
        meter.blank_ms = 0
        reading = await meter.read()
    finally:
        await bus.close()
    return {
        "model": model,
        "serial": reading.serial,
        "energy_import_wh": reading.energy_import_wh,
        "power_w": reading.power_w,
        "state": str(reading.state),
        "why": reading.why,
    }


class ModbusMeter:
    """See the module. One reading at a time; further callers wait their turn."""

    def __init__(
        self,
        model: Model,
        spec: MeterSpec,
        bus: Bus,
        env: DriverEnv,
        timing: DeviceTiming,
        rated_power_w: int | None,
        models_dir: Path | None = None,
    ) -> None:
        self._models_dir = models_dir
        self._model, self._spec, self._bus, self._env = model, spec, bus, env
        self._timing = timing
        self._claimed: dict[str, tuple[str, str]] = {}
        self._watch, self._power = RegisterWatch(rated_power_w), PowerWatch()
        self._turn = asyncio.Lock()
        self._serial: str | None = None  # the last that was told, and kept while none is
        # Serial number checked and register confirmed since the last silence.
        self._heard_of, self._heard_ms = False, 0
        self._refused = False  # to tell who it is, by an exception
        self.blank_ms = BLANK_MS  # 0 for whoever asks only once
        self._blank_since_ms: dict[str, int] = {}  # what it tells nothing for, although it answers

    @property
    def timing(self) -> DeviceTiming:
        """As its model and the options say."""
        return self._timing

    @property
    def _who(self) -> str:
        return f"meter {self._spec.model}, unit {self._spec.unit}"

    async def identity(self) -> MeterIdentity:
        """Ask the meter who it is. The answer becomes what later readings are compared with, so it is
        for the caller to compare two identities. Raises DeviceUnavailable, MTR-015 where the meter
        claims to be of another model."""
        async with self._turn:
            try:
                other = await self._wrong_model()
                seen = await self._read_serial(self._serial)
            except BusError as error:
                self._heard_of = False
                raise unavailable(error, self._who) from error
            except _Unusable as error:
                code, _, why = error.why.partition(": ")
                raise DeviceUnavailable(code, f"{self._who}: {why}") from error
            if other:
                self._heard_of = False
                raise DeviceUnavailable(
                    "MTR-015", f"{self._who}: {other}", self._model.id, _RIGHT_MODEL
                )
            if seen is not None and seen != self._serial:
                if self._serial is not None:
                    self._watch.forget()
                    self._power = PowerWatch()
                    self._heard_of = False
                self._serial = seen
            return MeterIdentity(self._model.id, seen)

    async def signs(self) -> dict[str, str | None] | None:
        """For a person: what its signing part does, as plain JSON; None where it has none."""
        return None

    async def read(self) -> Reading:
        """A reading; its state says what is wrong with it, `why` in words with an error id."""
        async with self._turn:
            try:
                return await self._read()
            except ExceptionReply as error:
                why, state = str(unavailable(error, self._who)), ReadingState.NOT_AVAILABLE
                if error.code in ExceptionReply.GATEWAY:
                    self._heard_of, state = False, ReadingState.NO_ANSWER
            except BusError as error:
                self._heard_of = False
                why, state = str(unavailable(error, self._who)), ReadingState.NO_ANSWER
            except _Unusable as unusable:
                why = f"{unusable.why} ({self._who})"
                serial = unusable.serial or self._serial
                return Reading(unusable.state, unusable.at_ms, serial=serial, why=why)
            return Reading(state, self._env.boot_ms(), serial=self._serial, why=why)

    async def _read(self) -> Reading:
        if not self._heard_of or self._env.boot_ms() - self._heard_ms > HEARD_MS:
            self._heard_of = self._refused = False
            await self._check_model()
            await self._check_serial()
            first = await self._read_registers()
            got = await self._read_registers()
            self._agree(first, got)
            if self._refused:  # as a meter at fault refuses everything; now it works
                await self._check_model()
                await self._check_serial()
            self._heard_of = True
        else:
            got = await self._read_registers()
        self._heard_ms = got.at_ms
        state, why = self._watch.judge(got.energy_wh, got.step_wh, got.at_ms)
        code = "MTR-012"
        if state is ReadingState.OK:
            state, why = self._power.judge(got.energy_wh, got.power_w, got.step_wh, got.at_ms)
            code = "MTR-020"
        if state is not ReadingState.OK:
            raise _Unusable(
                state, f"{code}: {why}; check the meter, then restart the agent", got.at_ms
            )
        step_wh = ceil(got.step_wh)
        return Reading(state, got.at_ms, got.energy_wh, got.power_w, self._serial, step_wh=step_wh)

    def _agree(self, first: _Registers, second: _Registers) -> None:
        rated = self._watch.rated_power_w or UNKNOWN_RATED_POWER_W
        most = most_rise_wh(rated, second.at_ms - first.at_ms, second.step_wh)
        if not 0 <= second.energy_wh - first.energy_wh <= most:
            raise _Unusable(
                ReadingState.NOT_AVAILABLE,
                f"MTR-013: the first two readings do not agree: {first.energy_wh} and "
                f"{second.energy_wh} Wh",
                second.at_ms,
            )

    # --- Which meter it is --------------------------------------------------------------------

    async def _wrong_model(self) -> str:
        """What the meter claims to be, if that is not this model; empty where it is, or says nothing.
        Registers that are known from one weak source only (`sure` is false) refuse nobody."""
        for mark in self._model.identity:
            if not mark.sure:
                continue
            seen = await self._told_twice(mark.name, mark.text, mark.expected)
            if seen == "" and self._is_new(mark.name):
                raise self._unusable(f"MTR-013: the meter tells no {mark.name} yet")
            if seen is not None and seen not in mark.expected:
                return await self._claim(mark, seen or "nothing")
        return ""

    def _is_new(self, name: str) -> bool:
        """It has told nothing for less than BLANK_MS."""
        now = self._env.boot_ms()
        return now - self._blank_since_ms.setdefault(name, now) < self.blank_ms

    def _unusable(self, why: str) -> _Unusable:
        return _Unusable(ReadingState.NOT_AVAILABLE, why, self._env.boot_ms())

    async def _claim(self, mark: Mark, seen: str) -> str:
        """The whole catalogue is read for it, so once and beside the loop."""
        if self._claimed.get(mark.name, ("", ""))[0] != seen:
            text = await asyncio.to_thread(claim, self._model, mark, seen, self._models_dir)
            self._claimed[mark.name] = (seen, text)
        return self._claimed[mark.name][1]

    async def _check_model(self) -> None:
        other = await self._wrong_model()
        if other:
            raise _Unusable(
                ReadingState.WRONG_MODEL,
                f"MTR-015: {other}; expected {self._model.id}; {_RIGHT_MODEL}",
                self._env.boot_ms(),
            )

    async def _check_serial(self) -> None:
        expected = self._spec.serial or self._serial
        seen = await self._read_serial(expected)
        if seen is None and expected is not None:
            raise self._unusable(f"MTR-013: the meter tells no serial number; expected {expected}")
        if seen is None and self._model.serial_number is not None and self._is_new(_SERIAL):
            raise self._unusable("MTR-013: the meter tells no serial number yet")
        if expected is not None and seen != expected:
            raise _Unusable(
                ReadingState.WRONG_SERIAL,
                f"MTR-010: serial number {seen}; expected {expected}; "
                "the meter was changed, or the configuration names another one",
                self._env.boot_ms(),
                seen,
            )
        self._serial = seen

    async def _read_serial(self, expected: str | None) -> str | None:
        place = self._model.serial_number
        if place is None:
            return None
        known = () if expected is None else (expected,)
        return await self._told_twice(_SERIAL, place, known) or None

    async def _told_twice(self, name: str, text: Text, expected: Sequence[str]) -> str | None:
        """As `_told`; something else than expected only when it is told again at once. It ends a session, or
        becomes what is expected, and one damaged or early answer must not."""
        seen = await self._told(text)
        if seen:
            self._blank_since_ms.pop(name, None)
        if not seen or seen in expected:
            return seen
        again = await self._told(text)
        if again == seen or again in expected:
            return again
        told = f"MTR-013: the meter tells its {name} as {seen}, then as {again or 'nothing'}"
        raise self._unusable(told)

    async def _told(self, text: Text) -> str | None:
        """None where the meter refuses to tell it, empty where it tells nothing there."""
        try:
            answer = await self._ask(self._model.blocks[text.block])
        except ExceptionReply as error:
            if error.code in ExceptionReply.GATEWAY or error.code in ExceptionReply.BUSY:
                raise
            self._refused = True
            return None
        return text_in(text, answer.values) or ""

    # --- Energy and power ---------------------------------------------------------------------

    async def _ask(self, block: Block) -> Answer:
        function = Function(block.function)
        request = Request(self._spec.unit, function, block.address, block.count)
        return await self._bus.transact(request, timing=self.timing)

    async def _read_registers(self) -> _Registers:
        energy_import, power = self._model.energy_import, self._model.power
        answer = await self._ask(self._model.blocks[energy_import.block])
        energy = self._value("energy", energy_import, answer)
        beside = answer
        if power.block != energy_import.block:
            beside = await self._ask(self._model.blocks[power.block])
        power_w = round(self._value("power", power, beside).value)
        return _Registers(round(energy.value), power_w, energy.step, answer.received_ms)

    def _value(self, name: str, value: Value, answer: Answer) -> Number:
        try:
            return number_in(value, answer.values)
        except NotAvailable as error:
            raise _Unusable(
                ReadingState.NOT_AVAILABLE,
                f"MTR-013: the meter has no value for {name} ({error})",
                answer.received_ms,
            ) from error
        except OutOfRange as error:
            raise _Unusable(
                ReadingState.OUT_OF_RANGE, f"MTR-014: {name} {error}", answer.received_ms
            ) from error
