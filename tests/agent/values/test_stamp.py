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


@pytest.mark.parametrize("now", Quality)
@pytest.mark.parametrize("then", Quality)
def test_a_wall_clock_is_believed_across_a_reboot_only_as_well_known_both_times(
    then: Quality, now: Quality
) -> None:
    before = Stamp(1_000_000, 400_000, "boot-1", then)
    after = Stamp(1_600_000, 20_000, "boot-2", now)
    alike = then is now and then is not Quality.UNKNOWN
    assert after.by_wall_clock_ms(before) == (600_000 if alike else None)
    set_back = Stamp(1_019_999, 20_000, "boot-2", now)
    assert set_back.by_wall_clock_ms(before) is None, "this boot alone has lasted longer"


@pytest.mark.parametrize(
    ("first", "later", "learned"),
    [
        (Quality.UNKNOWN, Quality.TRUSTED, True),
        (Quality.UNKNOWN, Quality.RESTORED, True),
        (Quality.RESTORED, Quality.TRUSTED, True),
        (Quality.RESTORED, Quality.RESTORED, True),  # a clock that somebody set, unseen by us
        (Quality.RESTORED, Quality.UNKNOWN, False),
        (Quality.TRUSTED, Quality.RESTORED, False),
    ],
)
def test_a_boot_that_learns_the_time_knows_when_things_happened_before(
    first: Quality, later: Quality, learned: bool
) -> None:
    then = Stamp(0, 5_000, "boot", first)
    now = Stamp(90_000_000, 65_000, "boot", later)
    expected = Stamp(89_940_000, 5_000, "boot", later) if learned else then
    assert then.as_told_by(now) == expected
    elsewhere = Stamp(90_000_000, 65_000, "boot-2", later)
    assert then.as_told_by(elsewhere) == then


def test_a_clock_that_only_drifts_moves_nothing() -> None:
    then = Stamp(0, 5_000, "boot", Quality.TRUSTED)
    assert then.as_told_by(Stamp(60_040, 65_000, "boot", Quality.TRUSTED)) is then


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
