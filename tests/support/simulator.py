"""One `python -m hil NAME ...` as a process of its own, for a test.

    with Simulator("charger", folder, "--load-w", "7200") as charger:
        charger.ask("plug")
        charger.link                    # the pty to open

`--link`, `--control` and `--store` point into `folder` unless given; `start()` after `kill()` uses them
again, as a board that comes back.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hil.common.control import ask

READY_S = 20.0  # two cores shared with other tests
STOP_S = 10.0
_WITH_LINE = ("charger", "meter", "evse", "terminal")


class Simulator:
    def __init__(self, name: str, folder: Path, *options: str) -> None:
        self.name = name
        self.control = folder / f"{name}.sock"
        self.link = folder / f"{name}.pty"
        self.store = folder / f"{name}.store"
        given = ["--control", str(self.control)]
        if name in _WITH_LINE:
            given += ["--link", str(self.link), "--store", str(self.store)]
        self._command = [sys.executable, "-m", "hil", name, *given, *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.ready = ""

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.ready = self._first_line()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        return ask(self.control, do=do, **request)

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self._end(lambda process: process.kill())

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(lambda process: process.terminate())

    def _end(self, how: Any) -> int:
        process, self._process = self._process, None
        assert process is not None, "not started"
        how(process)
        try:
            process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return process.returncode

    def _first_line(self) -> str:
        """The `ready ...` line; raises with what the process said instead."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        limit, seen = time.monotonic() + READY_S, b""
        while not seen.endswith(b"\n"):
            left = limit - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                break
            chunk = os.read(process.stdout.fileno(), 4096)
            if not chunk:
                break
            seen += chunk
        if seen.startswith(b"ready"):
            return seen.decode().strip()
        self._process = None
        process.kill()
        _, error = process.communicate()
        raise RuntimeError(f"{self.name} did not get ready: {seen!r} {error.decode()}")
