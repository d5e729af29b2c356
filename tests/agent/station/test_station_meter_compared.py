"""What is compared between a meter's signed record and the bill: each difference has its words."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from support.signing_rig import MODELS, START_WH, Site, Station, run

from agent.session import Session
from agent.station.meter_values import meter_values, trouble_in

TARIFF = "001;EUR;0;59;0;0"  # as signing_rig.text tells the meter
WH = 7_350


@functools.cache
def _signed(model: str) -> tuple[str, str]:
    """A record and its key."""
    found: list[str] = []

    async def job(site: Site) -> None:
        data = await Station(site, "52523535-231-7", WH).run()
        key = await site.driver().public_key()
        assert key is not None
        found.extend((data.decode("ascii"), key.hex()))

    run(model, job)
    return found[0], found[1]


def session(model: str) -> Session:
    """As billed by the register that the record tells."""
    text, key = _signed(model)
    return Session(
        "975",
        hold={"terminal_id": "52523535", "receipt": 231, "trace": 7},
        meter_serial="KX012345",
        begin_wh=START_WH,
        last_wh=START_WH + WH,
        end_wh=START_WH + WH,
        meter_values={"text": text, "public_key": key},
    )


def told(s: Session, tariff: str = TARIFF) -> tuple[str, str]:
    found = trouble_in(s, meter_values(s), tariff)
    return ("", "") if found is None else (found["id"], found["why"])


def changed(s: Session, old: str, new: str) -> Session:
    """Another text, and no key by which that would be seen."""
    text = str(s.meter_values["text"])
    assert old in text
    return replace(s, meter_values={"text": text.replace(old, new), "public_key": ""})


each_model = pytest.mark.parametrize("model", MODELS)


@each_model
def test_a_genuine_record_of_this_bill_has_nothing_amiss(model: str) -> None:
    assert told(session(model)) == ("", "")


@each_model
@pytest.mark.parametrize("moved_wh", [-1_000, -15, 15, 1_000])
def test_the_same_energy_of_another_register_is_told(model: str, moved_wh: int) -> None:
    s = session(model)
    assert s.begin_wh is not None and s.end_wh is not None
    code, why = told(replace(s, begin_wh=s.begin_wh + moved_wh, end_wh=s.end_wh + moved_wh))
    assert code == "STA-063" and "Wh at begin, the bill says" in why


@each_model
def test_another_energy_is_told(model: str) -> None:
    code, why = told(replace(session(model), end_wh=START_WH + WH + 15))
    assert code == "STA-063" and "7365 Wh are billed" in why


@each_model
def test_another_meter_is_told(model: str) -> None:
    code, why = told(replace(session(model), meter_serial="KX099999"))
    assert code == "STA-063" and "of meter KX012345, energy was read from KX099999" in why


@each_model
def test_another_payment_is_told(model: str) -> None:
    s = session(model)
    code, why = told(replace(s, hold={**s.hold, "receipt": 232}))
    assert code == "STA-063" and "not of payment 52523535-232-7" in why


@pytest.mark.parametrize("model", ["carlogavazzi_em580", "iskra_wm3m4"])
def test_another_tariff_is_told(model: str) -> None:
    code, why = told(session(model), "001;EUR;0;99;0;0")
    assert code == "STA-063" and "another tariff" in why


@each_model
def test_a_reading_that_the_meter_does_not_vouch_for_is_told(model: str) -> None:
    s = session(model)
    code, why = told(changed(s, '"ST":"G"', '"ST":"E"'))
    assert code == "STA-063" and "marks its own begin as not good (status E)" in why
    first, last = str(s.meter_values["text"]).rsplit('"ST":"G"', 1)
    code, why = told(replace(s, meter_values={"text": f'{first}"ST":"E"{last}', "public_key": ""}))
    assert code == "STA-063" and "marks its own end as not good" in why


def test_a_zero_that_is_not_written_makes_no_number_coarser() -> None:
    s = replace(session("carlogavazzi_em580"), begin_wh=104_000, end_wh=104_350)
    text = str(s.meter_values["text"]).replace("104.211", "104").replace("111.561", "104.350")
    s = replace(s, meter_values={"text": text, "public_key": ""})
    assert told(s)[0] == "STA-064", "all but the key"
    assert told(replace(s, end_wh=104_850))[0] == "STA-063"


@pytest.mark.parametrize("said", ['"MS":"4222222222222"', '"ST":"4222222222222"'])
def test_what_looks_like_a_card_number_is_not_repeated(said: str) -> None:
    """Nobody would sign the record, and the session could not end."""
    old = '"MS":"KX012345"' if "MS" in said else '"ST":"G"'
    code, why = told(changed(session("carlogavazzi_em580"), old, said))
    assert code == "STA-063" and "4222" not in why


@each_model
def test_without_a_key_it_is_not_called_verified(model: str) -> None:
    s = session(model)
    code, why = told(replace(s, meter_values={**s.meter_values, "public_key": ""}))
    assert code == "STA-064" and "no public key" in why


@each_model
def test_a_changed_record_is_told(model: str) -> None:
    s = session(model)
    text = str(s.meter_values["text"]).replace('"ST":"G"', '"ST":"g"')
    assert told(replace(s, meter_values={**s.meter_values, "text": text}))[0] == "STA-064"


def test_lines_within_a_record_stay_in_it() -> None:
    s = session("carlogavazzi_em580")
    text = str(s.meter_values["text"])
    broken = text.replace(',"RD":', ',\n"RD":')
    values = meter_values(replace(s, meter_values={"text": broken, "public_key": ""}))
    assert [value["text"] for value in values] == [broken]
    both = meter_values(replace(s, meter_values={"text": f"{text}\n{broken}", "public_key": ""}))
    assert [value["text"] for value in both] == [text, broken]
