"""Links to terminals that were given up for a trouble that was over by then. Whoever waits for the end of a
dialogue that a line has swallowed waits for T4."""

from __future__ import annotations

from simulate.world import World

# T4 of PA00P015, and what a dialogue has taken before.
NOTICED_MS = 180_000 + 5_000


def given_up(world: World, terminal: str, from_ms: int, to_ms: int) -> list[int]:
    """When."""
    lost = [
        line["at_ms"]
        for line in world.logs
        if line["event"] == "device_lost"
        and line.get("terminal") == terminal
        and from_ms <= line["at_ms"] <= to_ms
    ]
    during = world.troubles.during
    return [ms for ms in lost if any(True for _ in during(ms - NOTICED_MS, ms, terminal))]
