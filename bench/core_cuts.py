"""Power cuts under the shipped ledger: its disk as a cut may leave it, at every disk operation, judged by the
shipped code.

The disk forgets what was not synced and tears what was not finished (simulate/disk.py). A cut may come while
the ledger recovers from one before. What a caller was told is stored must be there, byte for byte."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.ledger import Ledger, LedgerError
from agent.ledger import open as opening
from agent.trust.keys import RecordKey
from bench.core_work import STATION, Told, Work, judge
from simulate.disk import Disk, ForgetfulVFS, PowerCut, mounted

# (chance that what was not synced made it all the same, torn at sectors)
POLICIES = ((0.0, False), (1.0, False), (0.5, False), (0.5, True), (0.9, True))
# Images of one operation: the policies are drawn, so that many operations are cut rather than few often.
IMAGES_AN_OPERATION = 3
# One image in so many is cut a second time, while it is opened.
CUT_AGAIN = 8


@dataclass(slots=True)
class Cuts:
    """What a run has found. `seed` repeats it; `first`: the first thing that was wrong."""

    seed: int
    images: int = 0
    twice: int = 0
    lost: int = 0
    corrupt: int = 0
    seconds: float = 0.0
    first: str = ""

    def check(self, path: Path, told: Told, where: str) -> None:
        self.images += 1
        wrong = judge(path, told)
        if wrong is None:
            return
        if wrong.kind == "lost":
            self.lost += 1
        else:
            self.corrupt += 1
        self.first = self.first or f"{where}: {wrong.kind}, {wrong.what}"


@dataclass(frozen=True, slots=True)
class Image:
    where: str
    disk: Disk


class _Camera:
    """Photographs a disk as a cut would leave it, at each of its operations."""

    def __init__(self, disk: Disk, rng: random.Random) -> None:
        self.disk, self._rng = disk, rng
        self.images: list[Image] = []
        disk.on_operation = self._photograph

    def _photograph(self, number: int, kind: str, name: str) -> None:
        for keep, torn in self._rng.sample(POLICIES, IMAGES_AN_OPERATION):
            image = self.disk.after_cut(self._rng, keep, torn)
            where = f"operation {number} ({kind} of {Path(name).name}, keep {keep}, torn {torn})"
            self.images.append(Image(where, image))


def _cut_again(vfs: ForgetfulVFS, path: Path, image: Image, rng: random.Random) -> str:
    """Cut while what the first cut left is opened; where."""
    at = rng.randint(1, 12)

    def cut(number: int, kind: str, name: str) -> None:
        if number == at:
            raise PowerCut

    disk = vfs.disk = image.disk
    disk.operations, disk.on_operation = 0, cut
    # SQLite may put the cut into words of its own.
    with contextlib.suppress(PowerCut, LedgerError):
        Ledger.open(path, STATION, new_chain=lambda: "c" * 32).close()
    keep, torn = rng.choice(POLICIES)
    vfs.disk = disk.after_cut(rng, keep, torn)
    return f"{image.where}, then again at operation {at} of the recovery"


@contextlib.contextmanager
def _synchronous(word: str | None) -> Iterator[None]:
    """A weaker setting than the shipped one, to see that it loses; None leaves the shipped one alone."""
    shipped = opening._BEFORE_ACCESS
    if word is not None:
        setting = ("synchronous", word, {"normal": 1, "full": 2}[word])
        weaker = [setting if row[0] == "synchronous" else row for row in shipped]
        setattr(opening, "_BEFORE_ACCESS", tuple(weaker))  # noqa: B010  # its type is that of the shipped
    try:
        yield
    finally:
        setattr(opening, "_BEFORE_ACCESS", shipped)  # noqa: B010


def run(folder: Path, images: int, seed: int, *, synchronous: str | None = None) -> Cuts:
    """At least `images` images of ledgers in `folder`, none of which reaches a real disk."""
    cuts, rng, key = Cuts(seed), random.Random(seed), RecordKey.generate()
    began = time.perf_counter()
    with mounted() as vfs, _synchronous(synchronous):
        while cuts.images < images:
            _one_ledger(cuts, vfs, folder / "ledger.db", rng, key)
    cuts.seconds = time.perf_counter() - began
    return cuts


def _one_ledger(
    cuts: Cuts, vfs: ForgetfulVFS, path: Path, rng: random.Random, key: RecordKey
) -> None:
    vfs.disk = Disk()
    camera = _Camera(vfs.disk, rng)
    work = Work(path, rng, key)
    before = work.told.copy()
    for _ in work.calls():
        # Images taken during a call are judged by what was told before it.
        for image in camera.images:
            vfs.disk, where = image.disk, image.where
            if rng.randrange(CUT_AGAIN) == 0:
                where = _cut_again(vfs, path, image, rng)
                cuts.twice += 1
            cuts.check(path, before, where)
        camera.images.clear()
        vfs.disk = camera.disk
        before = work.told.copy()
