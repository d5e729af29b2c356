"""What a signing meter is told of the time, and what its record says of it: never more than is known."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.signing_rig import Site, run, text

WM3M4 = "iskra_wm3m4"
SYNCHRONISED, INFORMATIVE, UNKNOWN = (f"2026-11-21T12:40:00,000+0100 {status}" for status in "SIU")


def _times(data: bytes) -> list[str]:
    payload: dict[str, Any] = json.loads(data.decode("ascii").split("\n")[0].split("|")[1])
    return [reading["TM"] for reading in payload["RD"]]


async def _transaction(site: Site, ident: str, time: str) -> list[str]:
    meter = site.driver()
    await meter.begin(text(ident, TM=time))
    await asyncio.sleep(60)
    await meter.end()
    told = _times(await meter.fetch())
    await meter.acknowledge()
    return told


@pytest.mark.parametrize(("time", "status"), [(SYNCHRONISED, "S"), (INFORMATIVE, "I")])
def test_wm3m4_calls_a_time_synchronised_only_where_the_station_does(
    time: str, status: str
) -> None:
    async def job(site: Site) -> None:
        told = await _transaction(site, "975-231", time)
        assert [tm[-1] for tm in told] == [status, status], told
        assert [tm[:19] for tm in told] == ["2026-11-21T12:40:00", "2026-11-21T12:41:00"]

    run(WM3M4, job)


def test_wm3m4_keeps_its_synchronised_time_when_the_station_has_none() -> None:
    async def job(site: Site) -> None:
        await _transaction(site, "975-231", SYNCHRONISED)
        told = await _transaction(site, "975-232", INFORMATIVE.replace("12:40", "09:15"))
        assert [tm[-1] for tm in told] == ["S", "S"]
        assert told[0] > "2026-11-21T12:41"
        assert site.unit.told()["clock_sets"] == 1

    run(WM3M4, job)


def test_wm3m4_gets_a_better_time_as_soon_as_there_is_one() -> None:
    async def job(site: Site) -> None:
        await _transaction(site, "975-231", INFORMATIVE.replace("12:40", "09:15"))
        told = await _transaction(site, "975-232", SYNCHRONISED)
        assert (told[0][:16], told[0][-1]) == ("2026-11-21T12:40", "S")

    run(WM3M4, job)


def test_wm3m4_gets_no_time_that_is_not_known() -> None:
    async def job(site: Site) -> None:
        await _transaction(site, "975-231", SYNCHRONISED)
        await _transaction(site, "975-232", UNKNOWN)
        assert site.unit.told()["clock_sets"] == 1

    run(WM3M4, job)
