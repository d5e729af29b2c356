"""A kept tariff is the same tariff."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tariff import Tariff
from agent.tariff.model import EnergyPrice, FixedPrice, PriceBasis, Rounding, TimePrice
from agent.tariff.stored import digest, from_named, from_text, to_text

prices = st.decimals("0", "999", places=4)


@given(
    energy=prices,
    time=st.none() | prices,
    fixed=st.none() | prices,
    rounding=st.sampled_from(Rounding),
    basis=st.sampled_from(PriceBasis),
    words=st.dictionaries(st.sampled_from(["de", "en"]), st.text(max_size=20)),
)
def test_what_is_kept_comes_back(
    energy: Decimal,
    time: Decimal | None,
    fixed: Decimal | None,
    rounding: Rounding,
    basis: PriceBasis,
    words: dict[str, str],
) -> None:
    tariff = Tariff(
        id="t",
        currency="EUR",
        prices=basis,
        vat_percent=Decimal("19"),
        rounding=rounding,
        energy=(EnergyPrice(energy),),
        charging_time=() if time is None else (TimePrice(time),),
        idle_time=() if time is None else (TimePrice(time / 2),),
        fixed=() if fixed is None else (FixedPrice(fixed),),
        description=words,
    )
    text = to_text(tariff)
    assert from_text(text) == tariff and text.isascii()
    assert digest(from_text(text)) == digest(tariff)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"id": 1}', to_text.__doc__ or "x"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_text(text)


TARIFF = Tariff(
    id="t",
    currency="EUR",
    prices=PriceBasis.INCLUDING_VAT,
    vat_percent=Decimal("19"),
    rounding=Rounding.HALF_UP,
    energy=(EnergyPrice(Decimal("0.49")),),
    charging_time=(),
    idle_time=(),
    fixed=(),
    description={},
)


def test_a_price_of_a_newer_version_is_not_left_out() -> None:
    body = json.loads(to_text(TARIFF)) | {"parking_by_night": ["1.00"]}
    with pytest.raises(ValueError, match="parking_by_night"):
        from_text(json.dumps(body))


@pytest.mark.parametrize("change", [{"energy": ["9.99"]}, {"vat_percent": "19.0"}, {"id": "u"}])
def test_a_text_that_is_not_the_one_its_name_was_made_of_is_refused(
    change: dict[str, object],
) -> None:
    name = digest(TARIFF)
    assert from_named(name, to_text(TARIFF)) == TARIFF
    changed = json.dumps(json.loads(to_text(TARIFF)) | change)
    from_text(changed)  # a tariff, but another one
    with pytest.raises(ValueError, match=name):
        from_named(name, changed)
