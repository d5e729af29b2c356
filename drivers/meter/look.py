"""Everything a meter tells, once: for a person in front of it, not for billing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from agent.ports import DriverEnv, MeterSpec
from agent.values import Reading, ReadingState
from drivers.meter.modbus import BusError, Function, Request
from drivers.meter.modbus_meter import ModbusMeter, open_model
from drivers.meter.model import Block, Model, Text, Value
from drivers.meter.quantity import OutOfRange, number_in, shown, text_in, words_of
from drivers.meter.rtu import Bus
from drivers.meter.values import NotAvailable

# Mains are 50 or 60 Hz; outside of this the number is something else.
_FREQUENCY_HZ = (40, 70)
# What a phase may have. A charger on 120 V does not exist here, and 0 V is a phase that is not there.
_VOLTAGE_V = (80, 300)


@dataclass(frozen=True, slots=True)
class Seen:
    """One value: `number` in `unit`, or `text`; both None where there is none, and `why` then says why.
    `words` are its registers in the order of the wire."""

    name: str
    block: str
    unit: str = ""
    number: Fraction | None = None
    text: str | None = None
    why: str = ""
    words: Sequence[int] = ()

    def json(self) -> dict[str, object]:
        value = self.text if self.number is None else shown(self.number)
        return {"name": self.name, "value": value, "unit": self.unit, "why": self.why,
                "block": self.block, "raw": " ".join(f"{word:04x}" for word in self.words)}  # fmt: skip


@dataclass(slots=True)
class Look:
    """`reading` is as billing would get it. `tells`: what the identity registers say. `strange`: what a
    person should look at. `signs`: state and public key of a meter that signs."""

    reading: Reading
    values: list[Seen] = field(default_factory=list)
    tells: dict[str, str | None] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    signs: dict[str, str | None] | None = None


async def look(model: Model, spec: MeterSpec, bus: Bus, env: DriverEnv) -> Look:
    """Raises OptionError. A meter that does not answer is a state of the reading."""
    return await Looker(model, spec, bus, env).look()


class Looker:
    """Looks again and again at one meter; the meter's own state (its serial number, its register) is
    kept from one look to the next."""

    def __init__(self, model: Model, spec: MeterSpec, bus: Bus, env: DriverEnv) -> None:
        self._model, self._spec, self._bus = model, spec, bus
        self._meter: ModbusMeter = open_model(model, spec, bus, env)
        self._meter.blank_ms = 0

    @property
    def model(self) -> Model:
        return self._model

    async def reading(self) -> Reading:
        return await self._meter.read()

    async def look(self) -> Look:
        found = Look(await self._meter.read())
        # The registers of another model would be read by the wrong map.
        if found.reading.state in (ReadingState.NO_ANSWER, ReadingState.WRONG_MODEL):
            return found
        blocks: dict[str, tuple[int, ...] | str] = {}
        for name, block in self._model.blocks.items():
            try:
                blocks[name] = await self._words(block)
            except BusError as error:
                blocks[name] = error.why
        for name, value in self._model.values.items():
            found.values.append(_seen_number(name, value, blocks[value.block]))
        for name, text in self._model.texts.items():
            found.values.append(_seen_text(name, text, blocks[text.block]))
        for mark in self._model.identity:
            found.tells[mark.name] = _seen_text(mark.name, mark.text, blocks[mark.text.block]).text
        found.strange = _strange(self._model, found)
        found.signs = await self._meter.signs()
        return found

    async def _words(self, block: Block) -> tuple[int, ...]:
        request = Request(self._spec.unit, Function(block.function), block.address, block.count)
        answer = await self._bus.transact(request, timing=self._meter.timing)
        return answer.values


def _seen_number(name: str, value: Value, words: tuple[int, ...] | str) -> Seen:
    if isinstance(words, str):
        return Seen(name, value.block, value.unit, why=words)
    raw = words_of(value, words)
    try:
        number = number_in(value, words)
    except (NotAvailable, OutOfRange) as error:
        return Seen(name, value.block, value.unit, why=str(error), words=raw)
    return Seen(name, value.block, value.unit, number.value, words=raw)


def _seen_text(name: str, text: Text, words: tuple[int, ...] | str) -> Seen:
    if isinstance(words, str):
        return Seen(name, text.block, why=words)
    raw = words[text.at : text.at + text.registers]
    found = text_in(text, words)
    return Seen(name, text.block, text=found, why="" if found else "not told", words=raw)


def _strange(model: Model, found: Look) -> list[str]:
    texts = []
    for mark in model.identity:
        told = found.tells[mark.name]
        if told is not None and told not in mark.expected:
            expected = " or ".join(mark.expected)
            texts.append(f"{mark.name} is {told!r}; expected {expected}: is this the right model?")
    for seen in found.values:
        if seen.number is None:
            continue
        if seen.name.startswith("voltage_l") and seen.unit == "V":
            if seen.number == 0:
                texts.append(f"{seen.name} is 0 V: is the phase connected?")
            elif not _VOLTAGE_V[0] <= seen.number <= _VOLTAGE_V[1]:
                texts.append(f"{seen.name} is {shown(seen.number)} V: is this the right model?")
        if seen.name == "frequency" and not _within(seen.number, _FREQUENCY_HZ):
            texts.append(f"frequency is {shown(seen.number)} Hz: is this the right model?")
        if seen.name == "power" and seen.number < 0:
            texts.append("power is negative: is the meter's input on its output side?")
    return texts


def _within(number: Fraction, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= number <= bounds[1]
