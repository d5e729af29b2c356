"""Signing meters behind the port: what comes out verifies with three judges, and nothing is lost."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from support.signing_rig import MODELS, START_WH, Site, run, text

from agent.ports import SigningMeter
from agent.trust import ocmf
from drivers.meter.signing.steps import SigningState


def lines(data: bytes) -> list[str]:
    return data.decode("ascii").split("\n")


def energy_wh(data: bytes) -> tuple[Decimal, Decimal]:
    """First and last register of the record, total import, in Wh."""
    readings = [own for line in lines(data) for own in json.loads(line.split("|")[1])["RD"]]
    found = []
    for reading in (readings[0], readings[-1]):
        value, unit = (
            (reading["XV"], reading["XU"]) if "XV" in reading else (reading["RV"], reading["RU"])
        )
        found.append(Decimal(str(value)) * (1000 if unit == "kWh" else 1))
    return found[0], found[1]


@pytest.mark.parametrize("model", MODELS)
def test_a_transaction_from_begin_to_acknowledgement(model: str) -> None:
    async def job(site: Site) -> None:
        meter = site.driver()
        assert isinstance(meter, SigningMeter)
        assert await meter.signing_state() is SigningState.FREE
        await meter.begin(text("975-231"))
        assert await meter.signing_state() is SigningState.OPEN
        site.flow(7_350)
        await meter.end()
        assert await meter.signing_state() is SigningState.RECORD
        data = await meter.fetch()
        assert await meter.fetch() == data
        assert await site.driver().fetch() == data
        await meter.acknowledge()
        assert await meter.signing_state() is SigningState.FREE
        key = await meter.public_key()
        assert key is not None and key.hex() == site.unit.told()["public_key"]
        for line in lines(data):
            verdict = ocmf.verify(line, key)
            assert verdict.signature == "valid", verdict
        begin, end = energy_wh(data)
        assert (begin, end) == (
            START_WH // 10 * 10 if model != "carlogavazzi_em580" else START_WH,
            end,
        )
        assert abs(end - begin - 7_350) <= (0 if model == "carlogavazzi_em580" else 10)
        assert site.memory["discarded"] == 0

    run(model, job)
