"""What the judge has to remember of a world, because nobody can ask for it afterwards: how the sessions went,
when plugs came and went, and what flowed while the agent was dead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from simulate.loop import Time

# States of a session in which energy may flow, and the one in which it is being stopped.
RUNNING = frozenset({"starting", "charging", "suspended"})


class Step(NamedTuple):
    """One event of a session, when the agent has told it in its log."""

    at_ms: int
    event: str
    state: str
    evse: str | None = None


class Plugged(NamedTuple):
    """A plug that came or went, and the true energy of its connector up to then."""

    at_ms: int
    plugged: bool
    energy_mwh: int


class Act(NamedTuple):
    """A card held up at a terminal, for a connector; or an emergency stop pressed at one."""

    at_ms: int
    where: str
    what: str
    connector: int = -1


@dataclass(slots=True)
class Span:
    """The true energy of a connector from a death of the agent until it could do something about it."""

    from_mwh: int
    to_mwh: int | None = None


class Story:
    """Of one session. `steps` is never empty."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps

    @property
    def began_ms(self) -> int:
        return self.steps[0].at_ms

    @property
    def whole(self) -> bool:
        """The agent has told its beginning: it did not die between storing and telling it."""
        return self.steps[0].event in ("tapped", "foreign")

    @property
    def evse(self) -> str | None:
        """Its connector, where it has told of one."""
        return next((step.evse for step in reversed(self.steps) if step.evse), None)

    def evse_at(self, at_ms: int) -> str | None:
        """The one that it had told of by then."""
        return next((s.evse for s in reversed(self.steps) if s.evse and s.at_ms <= at_ms), None)

    @property
    def settled_ms(self) -> int:
        """When it came to the state that it has in the end."""
        last = self.steps[-1].state
        for step in reversed(self.steps):
            if step.state != last:
                break
            found = step.at_ms
        return found

    def entered(self, *states: str) -> list[int]:
        """When it came to one of these from another one."""
        before, found = "", []
        for step in self.steps:
            if step.state in states and before not in states:
                found.append(step.at_ms)
            before = step.state
        return found

    def at(self, event: str) -> int | None:
        """When it was told of this first."""
        return next((step.at_ms for step in self.steps if step.event == event), None)

    def state_at(self, at_ms: int) -> str:
        """Before anything was told of it: empty."""
        state = ""
        for step in self.steps:
            if step.at_ms > at_ms:
                break
            state = step.state
        return state


class Chronicle:
    def __init__(self, time: Time, connectors: int) -> None:
        self._time = time
        self._steps: dict[str, list[Step]] = {}
        self.plugs: list[list[Plugged]] = [[] for _ in range(connectors)]
        self.loads: list[list[tuple[int, int]]] = [[] for _ in range(connectors)]  # (ms, W wanted)
        self.dead: list[list[Span]] = [[] for _ in range(connectors)]
        self.lives: list[tuple[int, int]] = []  # when the agent was started, and by which tariff
        self.asked: dict[str, list[int]] = {}  # by terminal: when it was asked for its last result
        self.taps: list[Act] = []
        self.stops: list[Act] = []
        self.orders: list[Act] = []  # accepted on the control socket, by session

    def told(self, session: str, event: str, state: str, evse: str | None) -> None:
        self._steps.setdefault(session, []).append(Step(self._time.ms, event, state, evse))

    def story(self, session: str) -> Story | None:
        steps = self._steps.get(session)
        return None if steps is None else Story(steps)

    @property
    def sessions(self) -> list[str]:
        """That have told anything."""
        return list(self._steps)

    def plug(self, connector: int, plugged: bool, energy_mwh: int) -> None:
        before = self.plugs[connector]
        if plugged != (bool(before) and before[-1].plugged):
            before.append(Plugged(self._time.ms, plugged, energy_mwh))

    def unplugged_between(self, connector: int, from_ms: int, to_ms: int) -> list[Plugged]:
        return [p for p in self.plugs[connector] if not p.plugged and from_ms <= p.at_ms <= to_ms]

    def load(self, connector: int, load_w: int) -> None:
        self.loads[connector].append((self._time.ms, load_w))

    def plugged_at(self, connector: int, at_ms: int) -> bool:
        before = [p for p in self.plugs[connector] if p.at_ms <= at_ms]
        return bool(before) and before[-1].plugged

    def wants(self, connector: int, from_ms: int, to_ms: int) -> bool:
        """Its car would draw power all the time."""
        before = [load_w for at_ms, load_w in self.loads[connector] if at_ms <= from_ms]
        then = [load_w for at_ms, load_w in self.loads[connector] if from_ms < at_ms <= to_ms]
        return bool(before) and all([before[-1], *then])
