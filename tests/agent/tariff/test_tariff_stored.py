"""A kept tariff is the same tariff."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tariff import Tariff
from agent.tariff.model import EnergyPrice, FixedPrice, PriceBasis, Rounding, TimePrice
from agent.tariff.stored import digest, from_text, to_text

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
