"""One set of seams and one folder of places for all tests of the simulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.untraced import untraced

from simulate import shipped
from simulate.episode import Episode, Result
from simulate.place import Places
from simulate.plan import Plan
from simulate.seams import Board, installed


class Rig:
    def __init__(self, board: Board, places: Places) -> None:
        self.board, self.places = board, places

    def episode(self, plan: Plan, verbose: bool = False) -> Episode:
        return Episode(self.board, self.places, plan, verbose)

    def run(self, plan: Plan, verbose: bool = False) -> Result:
        return self.episode(plan, verbose).run()


@pytest.fixture(autouse=True)
def without_coverage() -> Iterator[None]:
    """The station's own tests show which lines they run; worlds are many, and time is what they need."""
    with untraced():
        yield


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    shipped.import_all()
    places = Places()
    with installed(Board()) as board:
        yield Rig(board, places)
    places.close()
