import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.values import Quality, Stamp

stamps = st.builds(
    Stamp,
    st.integers(-(2**40), 2**45),
    st.integers(0, 2**45),
    st.sampled_from(["boot-a", "boot-b"]),
    st.sampled_from(Quality),
)


@given(stamps)
def test_a_stamp_survives_json(stamp: Stamp) -> None:
    assert Stamp.from_json(json.loads(json.dumps(stamp.to_json()))) == stamp


@given(stamps, stamps)
def test_elapsed_time_is_proven_within_one_boot_only(a: Stamp, b: Stamp) -> None:
    if a.boot_id == b.boot_id:
        assert b.since_ms(a) == b.boot_ms - a.boot_ms
    else:
        assert b.since_ms(a) is None


def test_the_wall_clock_is_never_used_for_elapsed_time() -> None:
    before = Stamp(1_000_000, 5_000, "boot", Quality.TRUSTED)
    after = Stamp(0, 6_500, "boot", Quality.UNKNOWN)  # the wall clock jumped back meanwhile
    assert after.since_ms(before) == 1_500


def test_json_of_a_stamp_holds_plain_values() -> None:
    assert Stamp(1, 2, "b", Quality.RESTORED).to_json() == {
        "utc_ms": 1,
        "boot_ms": 2,
        "boot_id": "b",
        "quality": "restored",
    }


@pytest.mark.parametrize("missing", ["utc_ms", "boot_ms", "boot_id", "quality"])
def test_an_incomplete_stamp_is_refused(missing: str) -> None:
    data = Stamp(1, 2, "b", Quality.TRUSTED).to_json()
    del data[missing]
    with pytest.raises(KeyError):
        Stamp.from_json(data)


def test_an_unknown_quality_is_refused() -> None:
    with pytest.raises(ValueError, match="excellent"):
        Stamp.from_json({"utc_ms": 1, "boot_ms": 2, "boot_id": "b", "quality": "excellent"})
