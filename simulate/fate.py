"""Where a process of the agent dies: at the n-th step of one kind while a session is in one state, and what
was covered by that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

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
DAY_END = "day_end"  # no state of a session: the terminal is told to end its day


@dataclass(frozen=True, slots=True)
class Kill:
    """Die at the `nth` step of kind `step` that is met while a session is in `state` ("" for any).
    `power`: the board loses its power instead of the process its life. `away_s`: until it starts again.
    `visit`: not before this visit begins. An empty `step` is any."""

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
        self._seen = False

    @property
    def next(self) -> Kill | None:
        """The kill that is waited for, if its visit has begun."""
        kill = self._waiting[0] if self._waiting else None
        return None if kill is None or kill.visit > self.visit else kill

    def visit_ended(self, number: int) -> None:
        """What was planned for this visit will not come any more: die at the next step, whatever it is.
        Every session has its kill."""
        while self._waiting and self._waiting[0].visit < number:
            self._waiting.pop(0)
        kill = self.next
        if kill is not None and kill.visit == number:
            self._loosen(kill, "")

    def _loosen(self, kill: Kill, step: str) -> None:
        self._waiting[0] = replace(kill, state="", step=step, nth=1)
        self._left, self._seen = 1, False

    def meets(self, step: str) -> Kill | None:
        """The kill that is due before this step, once."""
        self.steps[step] += 1
        kill = self.next
        if kill is None:
            return None
        states = self.states()
        if kill.state and not (kill.state in states or (kill.state == NO_SESSION and not states)):
            if self._seen:  # it was there and has gone before its steps were through
                self._loosen(kill, kill.step)
            return None
        self._seen = bool(kill.state)
        if kill.step not in (step, ""):
            return None
        self._left -= 1
        if self._left > 0:
            return None
        self._waiting.pop(0)
        self._left, self._seen = (self._waiting[0].nth if self._waiting else 0), False
        for state in sorted(states) or [NO_SESSION]:
            self.killed[state, step] += 1
        return kill
