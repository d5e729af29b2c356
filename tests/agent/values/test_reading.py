import pytest

from agent.values import Reading, ReadingState


@pytest.mark.parametrize("state", ReadingState)
def test_only_an_ok_reading_is_ok(state: ReadingState) -> None:
    reading = Reading(state, 5)
    assert reading.ok is (state is ReadingState.OK)


def test_a_reading_carries_nothing_by_itself() -> None:
    reading = Reading(ReadingState.NO_ANSWER, 5, why="no reply in 300 ms")
    assert (reading.energy_import_wh, reading.power_w, reading.serial) == (None, None, None)


def test_a_reading_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Reading(ReadingState.OK, 5, 100).energy_import_wh = 200  # type: ignore[misc]  # the point
