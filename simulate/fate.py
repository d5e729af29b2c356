"""Where a process of the agent dies: at the n-th step of one kind while a session is in one state, and what
was covered by that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

# A step of the process that the outside can see, or that survives it. `write`, `sync`: of the ledger's files.
# Each is met before it has an effect; what comes after it is the moment before the next one.
STEPS = (
    "write",
    "sync",
    "terminal_send",
    "terminal_receive",
    "bus_send",
    "bus_receive",
    "mqtt_send",
    "mqtt_receive",
)
NO_SESSION = "none"


@dataclass(frozen=True, slots=True)
class Kill:
    """Die at the `nth` step of kind `step` that is met while a session is in `state` ("" for any).
    `power`: the board loses its power instead of the process its life. `away_s`: until it starts again.
    `visit`: not before this visit begins."""

    visit: int
    state: str
    step: str
    nth: int
    power: bool
    away_s: float


class Fate:
    """Counts the steps of all processes of one world, and ends the one that reaches its kill."""

    def __init__(self, kills: list[Kill], states: Callable[[], set[str]]) -> None:
        self.visit = 0
        self.steps: Counter[str] = Counter()
        self.killed: Counter[tuple[str, str]] = Counter()
        self.states = states
        self._waiting = list(kills)
        self._left = kills[0].nth if kills else 0

    @property
    def next(self) -> Kill | None:
        return self._waiting[0] if self._waiting else None

    def give_up(self) -> None:
        """What was planned for visits before this one will not come any more: die at the next step of
        that kind, whatever the state."""
        kill = self.next
        if kill is not None and kill.visit < self.visit and kill.state:
            self._waiting[0] = Kill(kill.visit, "", kill.step, 1, kill.power, kill.away_s)
            self._left = 1

    def meets(self, step: str) -> Kill | None:
        """The kill that is due before this step, once."""
        self.steps[step] += 1
        if not self._waiting:
            return None
        kill = self._waiting[0]
        if kill.step != step or kill.visit > self.visit:
            return None
        states = self.states()
        if kill.state and kill.state not in states:
            return None
        self._left -= 1
        if self._left > 0:
            return None
        self._waiting.pop(0)
        self._left = self._waiting[0].nth if self._waiting else 0
        for state in sorted(states) or [NO_SESSION]:
            self.killed[state, step] += 1
        return kill
