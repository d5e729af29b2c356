"""Who hangs on this bus, at which speed and address, and which model may it be? Reads only, one request at a
time, each waited for: a scan disturbs nobody but by the time it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from agent.ports import DriverEnv, LineSpec
from drivers.meter.catalogue import load_all
from drivers.meter.modbus import BadFrame, BusError, ExceptionReply, Function, LineGone, Request
from drivers.meter.model import Block, Mark, Model, Text
from drivers.meter.quantity import OutOfRange, number_in, text_in
from drivers.meter.rtu import Bus, open_bus, unavailable
from drivers.meter.timing import DeviceTiming
from drivers.meter.values import NotAvailable

Told = dict[str, Any]

# How long an address is waited for. Meters take 20 to 100 ms; slower ones are found with a longer wait.
WAIT_MS = 150
# What the first request asks. A Modbus device answers it with registers or with an exception; two registers,
# because some meters refuse half of a float.
PROBE = (Function.READ_INPUT, 0, 2)
# A number in these bounds may be a mains voltage or frequency; float, scale or place are wrong otherwise.
VOLTS, HERTZ = (Fraction(80), Fraction(300)), (Fraction(45), Fraction(65))


@dataclass(slots=True)
class _Device:
    """One address that answers, with what was read from it so far (None: refused)."""

    bus: Bus
    unit: int
    wait_ms: int
    read: dict[tuple[int, int, int], tuple[int, ...] | None] = field(default_factory=dict)

    async def words(self, block: Block, gap_ms: int) -> tuple[int, ...] | None:
        key = (block.function, block.address, block.count)
        if key not in self.read:
            self.read[key] = await self._ask(key, gap_ms)
        return self.read[key]

    async def _ask(self, key: tuple[int, int, int], gap_ms: int) -> tuple[int, ...] | None:
        # A block takes a meter longer than the probe.
        timing = DeviceTiming(2 * self.wait_ms, 3 * self.wait_ms, gap_ms)
        request = Request(self.unit, Function(key[0]), key[1], key[2])
        try:
            answer = await self.bus.transact(request, timing=timing)
        except LineGone:
            raise
        except BusError:
            return None
        return answer.values


async def scan(
    port: str,
    env: DriverEnv,
    told: Callable[[Told], None],
    *,
    lines: Sequence[tuple[int | None, str | None]],
    units: Sequence[int],
    models_dir: str | None = None,
    wait_ms: int = WAIT_MS,
    every_line: bool = False,
) -> list[Told]:
    """Every address of `units` at every (baud, framing) of `lines`, (None, None) on a network. A bus has one
    speed: after a line on which somebody answered the rest is left out, unless `every_line`. `told` hears
    of the progress before each request. Entry point `tool.meter_scan`. Raises DeviceUnavailable when the
    port cannot be used."""
    models = list(load_all(None if models_dir is None else Path(models_dir))[0].values())
    found: list[Told] = []
    for n, (baud, framing) in enumerate(lines):
        spec = LineSpec(port) if baud is None or framing is None else LineSpec(port, baud, framing)
        bus = open_bus(spec, env)
        try:
            for m, unit in enumerate(units):
                done = n * len(units) + m
                told({"done": done, "of": len(lines) * len(units), "baud": baud,
                      "framing": framing, "unit": unit, "found": len(found)})  # fmt: skip
                answered = await _answers(bus, unit, wait_ms)
                if answered is None:
                    continue
                device = _Device(bus, unit, wait_ms)
                about = await _recognised(device, models) if not answered else {}
                found.append({"baud": baud, "framing": framing, "unit": unit,
                              **_NOBODY, **about, "trouble": answered})  # fmt: skip
        except LineGone as error:
            raise unavailable(error, port) from error
        finally:
            await bus.close()
        if not every_line and any(not entry["trouble"] for entry in found):
            break
    return found


_NOBODY: Told = {"models": [], "sure": False, "serial": None, "told": {}}


async def _answers(bus: Bus, unit: int, wait_ms: int) -> str | None:
    """None: silence; empty: a device is there; else what came instead of an answer."""
    request = Request(unit, *PROBE)
    timing = DeviceTiming(wait_ms, wait_ms, 0)
    try:
        await bus.transact(request, timing=timing, repeatable=False)
    except LineGone:
        raise
    except ExceptionReply as error:
        # A gateway speaks for a device that is not there.
        return None if error.code in ExceptionReply.GATEWAY else ""
    except BadFrame as error:
        return error.why
    except BusError:
        return None
    return ""


# --- Which model ------------------------------------------------------------------------------------


async def _recognised(device: _Device, models: Iterable[Model]) -> Told:
    """Those that name themselves win; else those whose registers read like a mains connection."""
    named: list[Model] = []
    likely: list[Model] = []
    tells: dict[str, str] = {}
    for model in models:
        verdict = await _verdict(device, model, tells)
        if verdict == "named":
            named.append(model)
        elif verdict == "open" and await _plausible(device, model):
            likely.append(model)
    # A meter of one phase fits wherever one of three does, so those that explain more win.
    most = max((model.phases for model in likely), default=0)
    best = named or [model for model in likely if model.phases == most]
    return {
        "models": [model.id for model in best],
        "sure": len(named) == 1,
        "serial": await _serial(device, best),
        "told": tells,
    }


async def _verdict(device: _Device, model: Model, tells: dict[str, str]) -> str:
    """`named` when a register tells this model, `other` when one that can be trusted tells something
    else or nothing, `open` when the model has no such register."""
    verdict = "open"
    for mark in model.identity:
        text = await _text(device, model, mark.text)
        if text is not None and text.isprintable():
            tells.setdefault(_place(model, mark), text)
        if text in mark.expected:
            verdict = "named"
        elif mark.sure:
            return "other"
    return verdict


def _place(model: Model, mark: Mark) -> str:
    address = model.blocks[mark.text.block].address + mark.text.at
    return f"{mark.name} at {address:#06x}"


async def _plausible(device: _Device, model: Model) -> bool:
    """Every phase has a voltage. A meter of three phases with one connected is not recognised by that."""
    bounds = {f"voltage_l{n}": VOLTS for n in (1, 2, 3)} | {"frequency": HERTZ}
    for name, (low, high) in bounds.items():
        if name in model.values:
            number = await _number(device, model, name)
            if number is None or not low <= number <= high:
                return False
    return await _number(device, model, "energy_import") is not None


async def _number(device: _Device, model: Model, name: str) -> Fraction | None:
    value = model.values[name]
    words = await device.words(model.blocks[value.block], model.timing.min_gap_ms)
    if words is None:
        return None
    try:
        return number_in(value, words).value
    except (NotAvailable, OutOfRange):
        return None


async def _text(device: _Device, model: Model, text: Text) -> str | None:
    words = await device.words(model.blocks[text.block], model.timing.min_gap_ms)
    return None if words is None else text_in(text, words)


async def _serial(device: _Device, models: Sequence[Model]) -> str | None:
    """Where all that it may be agree."""
    serials = {
        await _text(device, model, model.serial_number)
        for model in models
        if model.serial_number is not None
    }
    return serials.pop() if len(serials) == 1 else None
