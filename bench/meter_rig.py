"""A bus on a pty with the peer at its other end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

from agent.ports import DriverEnv


@contextlib.contextmanager
def slave(*options: str) -> Iterator[str]:
    """The path of the pty on which the peer answers; `options` are its."""
    master, port = os.openpty()
    tty.setraw(port)
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.meter_peer", str(master), *options],
        cwd=Path(__file__).parents[1],
        pass_fds=(master,),
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(master)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the peer did not start")
        yield os.ttyname(port)
    finally:
        os.close(port)
        process.kill()
        process.wait()


def env() -> DriverEnv:
    return DriverEnv(lambda: time.monotonic_ns() // 1_000_000, lambda *_words, **_values: None)
