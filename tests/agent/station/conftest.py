"""Worlds for the station's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.station_world import World, world

from agent.station import meter_signing, meter_values, model_files

# The agent imports them late; imported here, they are all there when coverage begins to count.
LATE = (meter_signing, meter_values, model_files)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """A world with a running agent; `start=False` leaves the start to the test."""
    with ExitStack() as stack:

        def made(*, start: bool = True, first: str = "tap", **options: Any) -> World:
            w = stack.enter_context(world(tmp_path, monkeypatch, start=first, **options))
            if start:
                w.start()
                w.run(3)
            return w

        yield made
