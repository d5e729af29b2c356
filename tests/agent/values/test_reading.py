import pytest

from agent.values import Reading, ReadingState


@pytest.mark.parametrize("state", ReadingState)
def test_only_an_ok_reading_is_ok(state: ReadingState) -> None:
    reading = Reading(state, 5)
    assert reading.ok is (state is ReadingState.OK)


def test_a_reading_carries_nothing_by_itself() -> None:
    reading = Reading(ReadingState.NO_ANSWER, 5, why="no reply in 300 ms")
    assert (reading.energy_import_wh, reading.power_w, reading.serial) == (None, None, None)


@pytest.mark.parametrize("state", [s for s in ReadingState if s is not ReadingState.OK])
@pytest.mark.parametrize("numbers", [(100, None), (None, 0), (0, 0)])
def test_a_reading_that_is_not_ok_carries_no_number(
    state: ReadingState, numbers: tuple[int | None, int | None]
) -> None:
    with pytest.raises(ValueError, match="expected nothing"):
        Reading(state, 5, *numbers)


@pytest.mark.parametrize("numbers", [(100.0, 0), (100, 0.5)])
def test_a_reading_is_made_of_integers(numbers: tuple[float, float]) -> None:
    with pytest.raises(TypeError, match="integers"):
        Reading(ReadingState.OK, 5, *numbers)  # type: ignore[arg-type]  # the point of the test


def test_a_reading_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Reading(ReadingState.OK, 5, 100).energy_import_wh = 200  # type: ignore[misc]  # the point
