"""Whatever is lost, killed or cut, at every request of a signed transaction: each record that the meter
makes is stored before it is acknowledged, none is discarded, and its energy is the truth."""

from __future__ import annotations

import json

import pytest
from support.signing_rig import MODELS, Mishap, Site, Station, run

from agent.trust import ocmf

WHATS = ("drop", "lose", "kill", "kill_after", "cut", "cut_after")


def judge(site: Site, wh: int) -> None:
    """What must hold after a transaction, however it went."""
    key = bytes.fromhex(site.unit.told()["public_key"])
    assert site.memory["discarded"] == 0
    disk = dict(site.disk)
    found = [bytes(data) for data in disk.pop("found", [])]
    records = [bytes(of["record"]) for of in disk.values()]
    pages: set[str] = set()
    for data in (*found, *records):
        for line in data.decode("ascii").split("\n"):
            assert ocmf.verify(line, key).signature == "valid", line
            pages.add(json.loads(line.split("|")[1])["PG"])
    truth = site.memory["truth"]
    for of in disk.values():
        assert _signed_wh(of["record"], truth) is not None
    if site.model != "bauer_bsm_ws36a":  # a snapshot that a power cut took was never there
        assert pages == set(truth), site.memory
    cut = any(what.startswith("cut") for what in site.happened)
    signed = [_signed_wh(data, truth) for data in records]
    if (
        not cut or site.model != "carlogavazzi_em580"
    ):  # which ends a transaction when it loses power
        assert signed == [wh] * len(records), site.happened
        assert not found


def _signed_wh(data: bytes, truth: dict[str, object]) -> int:
    """What flowed between the two readings, as the meter knows it; the record says the same."""
    told = []
    for line in data.decode("ascii").split("\n"):
        payload = json.loads(line.split("|")[1])
        told += payload["RD"]
        known = truth[payload["PG"]]
        if isinstance(known, list):
            begin, end = known
            for reading, of in zip(payload["RD"], (begin, end), strict=True):
                assert round(float(reading["RV"]) * 1000) in (of, of // 10 * 10)
            return int(end) - int(begin)
        assert payload["RD"][0]["XV"] == known
    return int(told[1]["XV"]) - int(told[0]["XV"])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("what", WHATS)
def test_at_every_request(model: str, what: str) -> None:
    async def job(site: Site) -> None:
        await Station(site, "975-231", 7_350).run()

    plain = run(model, job)
    judge(plain, 7_350)
    for at in range(len(plain.requests)):
        site = run(model, job, [Mishap(what, at)])
        assert site.happened == [what]
        try:
            judge(site, 7_350)
        except AssertionError as error:
            raise AssertionError(f"{what} at request {at}, {plain.requests[at]}") from error
