"""What every part of the station shares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo

from agent.station.clock import Clock
from agent.station.keeper import Keeper, Log
from agent.station.notify import Progress
from agent.station.tariffs import Tariffs
from agent.tariff import Tariff


@dataclass(frozen=True, slots=True)
class Context:
    clock: Clock
    keeper: Keeper
    progress: Progress
    tariffs: Tariffs
    log: Log
    zone: tzinfo = UTC  # of the station

    @property
    def tariff(self) -> Tariff:
        """What the next session begins by."""
        return self.tariffs.current
