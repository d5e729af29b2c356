"""What the command line does with a meter: look at it, watch it, find it, list the models. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.ports import DriverEnv, LineSpec, MeterSpec
from drivers.meter.catalogue import SHIPPED, ModelError, find_model, load_all
from drivers.meter.look import Look, Looker
from drivers.meter.model import Model
from drivers.meter.rtu import open_bus

Told = dict[str, Any]


def models(models_dir: str | None = None) -> Told:
    """Every model with what a technician wants to know, and what is wrong with files. Entry point
    `tool.meter_catalogue`. `wrong` has each mistake by itself."""
    found, wrong = load_all(_folder(models_dir))
    return {
        "models": [_described(model) for model in found.values()],
        "problems": [str(error) for error in wrong],
        "wrong": [
            {"file": str(one.path), "line": one.line, "why": one.text}
            for error in wrong
            for one in error.problems
        ],
    }


def _described(model: Model) -> Told:
    return {
        "model": model.id,
        "vendor": model.vendor,
        "models": list(model.models),
        "phases": model.phases,
        "baud": model.baud,
        "framing": model.framing,
        "unit": model.unit,
        "signing": model.signing,
        "values": len(model.values) + len(model.texts),
        "energy_confidence": model.confidence["energy_import"],
        "file": "shipped" if model.path.parent == SHIPPED else str(model.path),
    }


def factory_line(model: str, models_dir: str | None = None) -> Told:
    """Baud, framing and unit that the model leaves the factory with; None for what nobody knows.
    `quiet_ms`: how long the line is listened to before the first request. Entry point `tool.meter_line`.
    Raises ModelError."""
    found = find_model(model, _folder(models_dir))
    late_ms = found.signing_unit.reply_ms if found.signing_unit is not None else None
    return {
        "baud": found.baud,
        "framing": found.framing,
        "unit": found.unit,
        "quiet_ms": max(found.timing.longest_reply_ms, late_ms or 0),
    }


async def watch(
    model: str,
    line: LineSpec,
    unit: int,
    env: DriverEnv,
    told: Callable[[Told], None],
    *,
    models_dir: str | None = None,
    everything: bool = True,
    times: int = 1,
    every_ms: int = 1000,
) -> None:
    """Look at the meter `times` times and tell each look; entry point `tool.meter_watch`. With
    `everything` also each value and its registers. Raises ModelError, OptionError."""
    folder = _folder(models_dir)
    found = find_model(model, folder)
    options = {} if folder is None else {"models_dir": str(folder)}
    bus = open_bus(line, env)
    try:
        looker = Looker(found, MeterSpec(found.id, unit, options=options), bus, env)
        due_ms = env.boot_ms()
        for n in range(times):
            if n:
                # From plan to plan, so that the pace does not sink by what a look takes.
                due_ms = max(due_ms + every_ms, env.boot_ms())
                await asyncio.sleep((due_ms - env.boot_ms()) / 1000)
            seen = await looker.look() if everything else Look(await looker.reading())
            told(_looked(found, line, unit, seen))
    finally:
        await bus.close()


def _looked(model: Model, line: LineSpec, unit: int, seen: Look) -> Told:
    reading = seen.reading
    return {
        "model": model.id,
        "serial": reading.serial,
        "energy_import_wh": reading.energy_import_wh,
        "power_w": reading.power_w,
        "state": str(reading.state),
        "why": reading.why,
        "port": line.port,
        "baud": None if line.is_modbus_tcp else line.baud,
        "framing": None if line.is_modbus_tcp else line.framing,
        "unit": unit,
        "identity": seen.tells,
        "values": [value.json() for value in seen.values],
        "strange": seen.strange,
        "signing": seen.signs,
    }


def _folder(models_dir: str | None) -> Path | None:
    return Path(models_dir) if models_dir else None


__all__ = ["ModelError", "factory_line", "models", "watch"]
