"""asyncio on a clock that jumps: minutes pass in milliseconds, and nothing ever really sleeps.

The loop has no descriptors and no threads. When nothing is ready it moves its clock to the next timer
instead of waiting, so a run is the same every time. Work for executors runs on the loop itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

# What was killed is kept: a destroyed coroutine would run its `finally`, and the dead do not clean up.
GRAVEYARD: list[object] = []


class Killed(Exception):
    """The process was killed: its loop runs nothing more."""


class Stuck(Exception):
    """Nothing is scheduled: what is waited for can never happen."""


class VirtualLoop(asyncio.BaseEventLoop):
    """`start_s`: where the clock begins, so that a loop can go on where a killed one ended."""

    def __init__(self, start_s: float = 0.0) -> None:
        self.now_s = start_s
        self._killed = ""
        super().__init__()
        self._clock_resolution = 1e-6
        self._selector = self  # BaseEventLoop asks it, and only it, how long to wait
        self.signals: dict[int, Callable[[], None]] = {}
        self.troubles: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.troubles.append(context))

    def time(self) -> float:
        return self.now_s

    async def die(self, why: str) -> None:
        """For a task: the process is killed at this moment. What was about to run in this very moment
        still may, as in other threads; the caller does not come back."""
        self.doom(why)
        await self.create_future()

    def doom(self, why: str) -> None:
        """Killed before anything that is scheduled from now on."""
        self._killed = why

    def select(self, timeout: float | None) -> list[Any]:
        if self._killed:
            raise Killed(self._killed)
        if timeout is None:
            raise Stuck
        self.now_s += max(0.0, timeout)
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(  # type: ignore[override]  # nobody awaits the difference
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """On the loop, in the order of the calls; done even if its caller has gone, as in a thread."""
        future: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001  # handed to the caller
                if not future.cancelled():
                    future.set_exception(error)
            else:
                if not future.cancelled():
                    future.set_result(result)

        self.call_soon(work)
        return future

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:
        self.signals[sig] = lambda: callback(*args)

    async def create_unix_server(self, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        """No sockets here; what they carry is tested on the system's own loop."""
        return _NoServer()

    def bury(self) -> None:
        """After Killed: no task runs on, no `finally`, no callback."""
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            GRAVEYARD.append(task)
        GRAVEYARD.append((list(self._ready), list(self._scheduled)))  # type: ignore[attr-defined]
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.close()


class _NoServer:
    def close(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass
