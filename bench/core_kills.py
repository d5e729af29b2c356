"""SIGKILL of a real process at exact steps of its disk: before a write or sync, in the middle of a write, or
after it. The next process must find everything that was told.

The process is a fork that works on real files; a layer above SQLite's own file system counts its calls and
ends the process at the chosen one. What a kill leaves is what the kernel has: this proves the recovery, the
images of core_cuts prove the durability."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from agent.trust.keys import RecordKey
from bench.core_work import Told, Work, judge

_REAL = apsw.vfs_names()[0]
STEPS = {"write": ("before", "within", "after")}
STEPS_ELSE = ("before", "after")
_ANSWERED = b"."


@dataclass(slots=True)
class Kills:
    seed: int
    kills: int = 0
    lost: int = 0
    corrupt: int = 0
    seconds: float = 0.0
    first: str = ""
    where: Counter[str] = field(default_factory=Counter)


class _File(apsw.VFSFile):
    def __init__(
        self, tick: Callable[[str], str], name: str | apsw.URIFilename, flags: list[int]
    ) -> None:
        self._tick = tick
        super().__init__(_REAL, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        step = self._tick("write")
        if step == "within":
            super().xWrite(data[: len(data) // 2], offset)
            _die()
        super().xWrite(data, offset)
        if step == "after":
            _die()

    def xSync(self, flags: int) -> None:  # noqa: N802
        step = self._tick("sync")
        super().xSync(flags)
        if step:
            _die()

    def xTruncate(self, size: int) -> None:  # noqa: N802
        step = self._tick("truncate")
        super().xTruncate(size)
        if step:
            _die()


class _CountingVFS(apsw.VFS):
    """`at`: the operation at which this process ends; 0 for never."""

    def __init__(self, at: int, step: str) -> None:
        self.kinds: list[str] = []
        self._at, self._step = at, step
        super().__init__("counting", base=_REAL, makedefault=True)

    def tick(self, kind: str) -> str:
        """Counts; "" unless the process is to end in or after this operation."""
        self.kinds.append(kind)
        if len(self.kinds) != self._at:
            return ""
        if self._step == "before":
            _die()
        return self._step

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        assert name is not None
        return _File(self.tick, name, flags)

    def xDelete(self, name: str, synced: bool) -> None:  # noqa: N802
        step = self.tick("delete")
        super().xDelete(name, synced)
        if step:
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _forked(folder: Path, seed: int, key: RecordKey, at: int, step: str) -> tuple[int, int]:
    """A process that works in `folder` until operation `at`: how many calls were answered, how it ended."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            vfs = _CountingVFS(at, step)  # kept: without a reference it would be gone
            for _ in Work(folder / "ledger.db", random.Random(seed), key).calls():
                os.write(write, _ANSWERED)
            status = 0 if vfs.kinds else 1
        finally:
            os._exit(status)
    os.close(write)
    answered = 0
    while chunk := os.read(read, 4096):
        answered += len(chunk)
    os.close(read)
    return answered, os.waitpid(child, 0)[1]


def _rehearse(folder: Path, seed: int, key: RecordKey) -> tuple[list[Told], list[str]]:
    """What is told after each call, and every operation, of a run that nobody ends."""
    vfs = _CountingVFS(0, "")
    try:
        work = Work(folder / "ledger.db", random.Random(seed), key)
        told = [work.told.copy(), *(work.told.copy() for _ in work.calls())]
        return told, list(vfs.kinds)
    finally:
        apsw.set_default_vfs(_REAL)
        vfs.unregister()


def run(folder: Path, kills: int, seed: int) -> Kills:
    """`kills` processes ended in `folder`, each at another operation of its life, as far as they go."""
    done, rng, key = Kills(seed), random.Random(seed), RecordKey.generate()
    began = time.perf_counter()
    while done.kills < kills:
        life = rng.randrange(2**32)
        with tempfile.TemporaryDirectory(dir=folder) as rehearsal:
            told, kinds = _rehearse(Path(rehearsal), life, key)
        for at in _places(kinds, rng, kills - done.kills):
            step = rng.choice(STEPS.get(kinds[at - 1], STEPS_ELSE))
            _one(done, folder / "killed", life, key, at, step, told, kinds)
    done.seconds = time.perf_counter() - began
    return done


def _places(kinds: list[str], rng: random.Random, most: int) -> list[int]:
    """Operations to end a life at: each once at most, syncs and writes in equal parts as far as they go."""
    writes = [at for at, kind in enumerate(kinds, 1) if kind == "write"]
    others = [at for at, kind in enumerate(kinds, 1) if kind != "write"]
    rng.shuffle(writes)
    rng.shuffle(others)
    return (others[: most // 2] + writes)[:most]


def _one(
    done: Kills, folder: Path, life: int, key: RecordKey, at: int, step: str,
    told: list[Told], kinds: list[str],
) -> None:  # fmt: skip
    folder.mkdir()
    try:
        answered, status = _forked(folder, life, key, at, step)
        if os.WTERMSIG(status) != signal.SIGKILL:
            raise RuntimeError(
                f"operation {at} never came: the same seed did not give the same calls"
            )
        wrong = judge(folder / "ledger.db", told[answered])
    finally:
        shutil.rmtree(folder)
    done.kills += 1
    done.where[f"{step} a {kinds[at - 1]}"] += 1
    if wrong is None:
        return
    if wrong.kind == "lost":
        done.lost += 1
    else:
        done.corrupt += 1
    done.first = done.first or f"life {life}, {step} operation {at} ({kinds[at - 1]}): {wrong.what}"
