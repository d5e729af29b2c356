"""When the readings of a session were taken: what its record says, against what the meter showed then."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from hil.backend.jose import payload_of
from hil.verify.sessions import resolution_wh
from simulate.backend import RECORDS_MAX
from simulate.charger import START_WH
from simulate.world import World

# From the moment for which the meter tells its register until the last byte of the reply, on a slow line.
ON_THE_WIRE_MS = 1_000
# What makes a meter show something else than it has counted.
FALSE = ("meter",)
_MWH_PER_WH = 1_000
_NS_PER_MS = 1_000_000


def check_stamps(world: World) -> Iterator[tuple[str, str]]:
    """Each session record that the back end has."""
    for row in world.backend.intake.database.records(None, 1, RECORDS_MAX):
        if row["type"] == "session":
            yield from _of_record(world, payload_of(row["jws"]))


def _of_record(world: World, body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    story = world.chronicle.story(body["session_id"])
    if story is not None and any(
        trouble.kind.startswith(FALSE)
        for trouble in world.troubles.during(story.began_ms, story.settled_ms)
    ):
        return
    names = [connector.name for connector in world.charger.connectors]
    connector = world.charger.connectors[names.index(body["evse"])]
    meter = body["meter"]
    for mark in ("begin", "end"):
        stamp, told_wh = meter[mark], meter[f"{mark}_wh"]
        if stamp is None or told_wh is None:
            continue
        boot = int(stamp["boot_id"].removeprefix("boot-"))
        at_ms = world.booted[boot - 1] + stamp["boot_ms"]
        early, late = (
            START_WH + Fraction(connector.energy_mwh_at(ms * _NS_PER_MS), _MWH_PER_WH)
            for ms in (at_ms - ON_THE_WIRE_MS, at_ms)
        )
        bound = resolution_wh(told_wh)
        if not early - bound <= told_wh <= late + bound:
            text = f"{body['session_id']}: {mark} {told_wh} Wh, when the meter showed {round(late)}"
            yield "stamp_of_another_moment", text
