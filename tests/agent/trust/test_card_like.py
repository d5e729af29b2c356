"""The tripwire: card numbers trip it, what a station writes all day does not."""

from __future__ import annotations

import hashlib
import random
import uuid
from decimal import Decimal

import pytest

from agent.trust import card_like

# Public test numbers of the card schemes.
CARDS = ["4111111111111111", "5500005555555559", "378282246310005", "6011111111111117",
         "2223003122003222", "4222222222222", "6304000000000000"]  # fmt: skip


@pytest.mark.parametrize("card", CARDS)
def test_card_numbers_are_found_however_they_are_written(card: str) -> None:
    assert card_like.in_text(card)
    assert card_like.in_text(f"pan {card} exp")
    assert card_like.in_text(f"({card}).")
    assert card_like.find({"a": [{"b": card}]}) == "$.a[0].b"
    assert card_like.find({"a": int(card)}) == "$.a"
    if len(card) == 16:
        groups = [card[i : i + 4] for i in range(0, 16, 4)]
        assert card_like.in_text(" ".join(groups))
        assert card_like.in_text("-".join(groups))
    assert not card_like.in_text(card[:-1] + str((int(card[-1]) + 1) % 10))


def test_the_amex_grouping_is_found() -> None:
    assert card_like.in_text("3782 822463 10005")


def test_what_a_station_writes_all_day_is_let_through() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(20_000):
        innocent = [
            hashlib.sha256(rng.randbytes(8)).hexdigest(),
            str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            str(Decimal(rng.randrange(1, 10**6)) / Decimal(rng.randrange(3, 999))),
            "2026-08-21T10:00:00.123Z",
            "************1234",
        ]
        assert not any(card_like.in_text(text) for text in innocent), (seed, innocent)
        data = {
            "utc_ms": rng.randrange(10**12, 10**13),
            "boot_ms": rng.randrange(4 * 10**12, 10**13),
            "serial": str(rng.randrange(10**16)),
            "vu": str(rng.randrange(10**14, 10**15)),
            "energy_wh": rng.randrange(10**9),
        }
        assert card_like.find(data) is None, (seed, data)


def test_only_an_ocmf_record_has_serial_numbers_that_are_left_out() -> None:
    """Elsewhere a text with such names in it may be anybody's."""
    fields = '{"MS":"4111111111111111","ID":"52523535-231"}'
    assert not card_like.in_text(f"OCMF|{fields}|")
    assert card_like.in_text(fields)
    assert card_like.in_text('OCMF|{"MS":"KX1","ID":"4111111111111111"}|')
    assert card_like.masked(f"serial {'4111111111111111'}") == "serial ************1111"
    assert card_like.masked("serial KX012345, 104211 Wh") == "serial KX012345, 104211 Wh"
