"""What a charger remembers without power: one small JSON file, replaced as a whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

VERSION = 1


@dataclass(slots=True)
class Memory:
    """Meter: serial, register, configuration. Controller: its retentive registers. The world: whether
    a car is plugged and what it wants, which no power cut changes either."""

    serial: int
    start_wh: int
    energy_mw_ns: int = 0
    plugged: bool = False
    load_w: int = 0
    meter_config: dict[int, int] = field(default_factory=dict)
    evse_retentive: dict[int, int] = field(default_factory=dict)


def load(path: Path) -> Memory | None:
    """None when there is no file yet. Raises ValueError for a file that is not ours."""
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    if not isinstance(raw, dict) or raw.pop("version", None) != VERSION:
        raise ValueError(f"{path} is no charger store of version {VERSION}; choose another --store")
    for name in ("meter_config", "evse_retentive"):
        raw[name] = {int(key): int(value) for key, value in raw[name].items()}
    return Memory(**raw)


def save(path: Path, memory: Memory) -> None:
    """Whole or not at all, also when the process is killed in the middle."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps({"version": VERSION, **asdict(memory)}))
    temporary.replace(path)
