"""Power cuts and kills under the shipped ledger: whatever the disk kept, nothing is lost that was told."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent.ledger import Ledger
from bench import core_cuts, core_kills

IMAGES = 2_500
KILLS = 40


def a_seed() -> int:
    return random.randrange(2**32)


def test_no_image_of_a_power_cut_loses_a_row_or_is_corrupt(tmp_path: Path) -> None:
    cuts = core_cuts.run(tmp_path, IMAGES, a_seed())
    print(cuts)
    assert cuts.images >= IMAGES and cuts.twice > IMAGES // 20
    assert (cuts.lost, cuts.corrupt) == (0, 0), cuts


@pytest.mark.parametrize("weaker", ["normal", "full"])
def test_the_images_show_what_a_weaker_setting_loses(tmp_path: Path, weaker: str) -> None:
    cuts = core_cuts.run(tmp_path, 300, a_seed(), synchronous=weaker)
    assert cuts.lost > 0, cuts


def test_no_kill_at_an_exact_step_loses_a_row(tmp_path: Path) -> None:
    done = core_kills.run(tmp_path, KILLS, a_seed())
    print(done)
    assert done.kills == KILLS
    assert (done.lost, done.corrupt) == (0, 0), done
    assert done.where["within a write"] > 0
    assert done.where["before a sync"] + done.where["after a sync"] > 5


def test_the_kills_show_an_answer_before_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that commits every step with the next one: the kills must tell."""
    shipped = Ledger.append_many
    held: list[object] = []

    def late(self: Ledger, steps):  # type: ignore[no-untyped-def]
        if any(step.record is not None for step in steps):
            flushed = [held.pop(0) for _ in range(len(held))]
            return shipped(self, [*flushed, *steps])[len(flushed) :]  # type: ignore[list-item]
        held.extend(steps)
        return [None] * len(steps)

    monkeypatch.setattr(Ledger, "append_many", late)
    done = core_kills.run(tmp_path, 30, a_seed())
    assert done.lost > 0, done
