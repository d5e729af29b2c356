"""What went wrong in a world, when, and at which terminal: the causes that the judge asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simulate.loop import Time

# Nothing of these can keep money or energy from going its usual way.
HARMLESS = ("backend", "broker", "tariff")
# What is told when it happens, not when it is made ready: see simulate.till and simulate.faults.
TOLD_LATER = frozenset({"terminal_refuses", "terminal_point", "terminal_reboot", "day_point"})
# A wrong clock changes no money, and no pause that was measured within one boot; a part is an approval, too.
NO_TROUBLE = frozenset({"clock_jump", "host_approves_less", *TOLD_LATER})
FOR_EVER_MS = 1 << 50


@dataclass(slots=True)
class Trouble:
    """`where`: the terminal that has it; empty when it is the board's or the bus'."""

    kind: str
    where: str
    from_ms: int
    to_ms: int = FOR_EVER_MS

    def overlaps(self, from_ms: int, to_ms: int) -> bool:
        return self.from_ms <= to_ms and self.to_ms >= from_ms


class Troubles:
    def __init__(self, time: Time) -> None:
        self._time = time
        self._all: list[Trouble] = []
        self._outage: Trouble | None = None

    def begin(self, kind: str, where: str = "") -> Trouble:
        made = Trouble(kind, where, self._time.ms)
        self._all.append(made)
        return made

    def end(self, trouble: Trouble) -> None:
        trouble.to_ms = min(trouble.to_ms, self._time.ms)

    def note(self, kind: str, where: str = "") -> None:
        """It lasts for a moment."""
        self.end(self.begin(kind, where))

    def outage(self) -> None:
        """The agent is dead, or is going down."""
        if self._outage is None:
            self._outage = self.begin("outage")

    def back(self) -> None:
        if self._outage is not None:
            self.end(self._outage)
            self._outage = None

    def during(self, from_ms: int, to_ms: int, where: str | None = None) -> Iterator[Trouble]:
        """All that overlap; with `where` those of that terminal and the board's."""
        for trouble in self._all:
            if trouble.overlaps(from_ms, to_ms) and where in (None, trouble.where or where):
                yield trouble


def is_trouble(kind: str) -> bool:
    """Whether this fault of a plan explains anything from its beginning on."""
    return kind not in NO_TROUBLE and kind.partition("_")[0] not in HARMLESS
