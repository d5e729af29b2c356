"""Runs a case against the ZVT driver in virtual time."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.virtual_loop import VirtualLoop
from support.zvt_bench import Bench, Case
from support.zvt_profiles import read_once

from drivers.terminal.zvt import terminal as zvt


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Runs a case in virtual time; nothing may be left running, and nothing may fail unseen."""

    def run_it(case: Case, **spec: Any) -> None:
        loop = VirtualLoop()
        asyncio.set_event_loop(loop)

        async def main() -> None:
            read_once(monkeypatch)
            bench = Bench(**spec)
            monkeypatch.setattr(zvt, "open_line", bench.cable.open)
            try:
                await case(bench)
                await bench.driver.close()
            finally:
                bench.serving.cancel()
                await asyncio.gather(bench.serving, return_exceptions=True)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left

        try:
            loop.run_until_complete(main())
            assert not loop.troubles, loop.troubles
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    yield run_it
