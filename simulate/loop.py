"""asyncio on a clock that jumps: minutes pass in milliseconds, and nothing ever really sleeps.

The loops have no descriptors and no threads. When nothing is ready the clock moves to the next timer instead
of waiting, so a run is the same every time. Work for executors runs on the loop itself."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import sys
import threading
from asyncio import _get_running_loop, _set_running_loop
from collections.abc import Callable, Iterator
from typing import Any

# What was killed is kept: a destroyed coroutine would run its `finally`, and the dead do not clean up.
GRAVEYARD: list[object] = []
# Turns of loops at one moment; a start of the agent takes some hundred.
TURNS_MAX = 50_000
# Timers this close to now are due: doubles of some days have no finer steps worth waiting for.
RESOLUTION_S = 1e-6


class Killed(Exception):
    """The process was killed: its loop runs nothing more."""


class Spinning(Exception):
    """Something is done over and over at one and the same moment."""


class Stuck(Exception):
    """Nothing is scheduled: what is waited for can never happen."""


class VirtualLoop(asyncio.BaseEventLoop):
    """`start_s`: where the clock begins, so that a loop can go on where a killed one ended."""

    def __init__(self, start_s: float = 0.0) -> None:
        self.now_s = start_s
        self._killed = ""
        super().__init__()
        self._clock_resolution = RESOLUTION_S
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

        self._execute(work)
        return future

    def _execute(self, work: Callable[[], None]) -> None:
        self.call_soon(work)

    def add_signal_handler(  # type: ignore[override]  # nobody passes anything else
        self, sig: int, callback: Callable[..., Any], *args: Any
    ) -> None:
        self.signals[sig] = lambda: callback(*args)

    async def create_unix_server(self, *_: Any, **__: Any) -> Any:
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


# --- Several loops on one clock -------------------------------------------------------------------


class Time:
    """The one time of a world."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    @property
    def ms(self) -> int:
        return round(self.now_s * 1000)

    @property
    def ns(self) -> int:
        return round(self.now_s * 1_000_000) * 1000


class SharedLoop(VirtualLoop):
    """One of several loops of a world: the world's own, and one for each process of the agent. A `Conductor`
    runs it; whoever belongs to another loop reaches it by `call_soon` and `call_at` alone."""

    def __init__(self, time: Time) -> None:
        self._shared = time
        super().__init__()
        self._thread_id = threading.get_ident()  # it counts as running
        self.unix_servers: dict[str, Callable[[], asyncio.Protocol]] = {}
        # How long work in a thread takes, asked for each: a disk that stalls.
        self.work_s: Callable[[], float] = lambda: 0.0

    def time(self) -> float:
        return self._shared.now_s

    def _execute(self, work: Callable[[], None]) -> None:
        delay_s = self.work_s()
        if delay_s:
            self.call_later(delay_s, work)
        else:
            self.call_soon(work)

    async def create_unix_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], path: str, **_: Any
    ) -> Any:
        self.unix_servers[path] = protocol_factory
        return _NoServer()

    def next_s(self) -> float | None:
        """When it has something to do; None when never."""
        if self._ready:  # type: ignore[attr-defined]
            return self._shared.now_s
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
        return scheduled[0]._when if scheduled else None

    def turn(self) -> None:
        """Run what is due now. The work of BaseEventLoop._run_once without a selector."""
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        end = self._shared.now_s + RESOLUTION_S
        while scheduled and scheduled[0]._when < end:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            else:
                ready.append(handle)
        before = _get_running_loop()
        _set_running_loop(self)
        try:
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        finally:
            _set_running_loop(before)

    # As BaseEventLoop has them, without the questions whether it is closed or debugged: half of a world's
    # time is spent in loops.

    def call_soon(  # type: ignore[override]  # typeshed has tuples of types for the arguments
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._shared.now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def get_debug(self) -> bool:
        return False

    def discard(self) -> None:
        """The process is dead. Its seams must be dead before: the coroutines are closed, and what their
        `finally` does must reach nobody."""
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        with _silent():
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with contextlib.suppress(BaseException):
                    task.get_coro().close()
            self._ready.clear()  # type: ignore[attr-defined]
            self._scheduled.clear()  # type: ignore[attr-defined]
            self._thread_id = None  # type: ignore[assignment]  # as BaseEventLoop has it
            self.close()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What dying coroutines complain about is nobody's business."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = before


class Conductor:
    """Runs the loops of a world in the order of time. `after_turn` is asked after each turn of a loop."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.loops: list[SharedLoop] = []
        self.after_turn: Callable[[SharedLoop], None] = lambda _: None

    def until(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Let time pass until `done()`; False when `limit_s` (a moment) comes first. Raises Spinning."""
        time, turns = self.time, 0
        while not done():
            due: SharedLoop | None = None
            due_s = limit_s
            for loop in self.loops:
                at_s = loop.next_s()
                if at_s is not None and at_s < due_s:
                    due, due_s = loop, at_s
            if due is None:
                time.now_s = max(time.now_s, limit_s)
                return False
            if due_s > time.now_s:
                time.now_s, turns = due_s, 0
            else:
                turns += 1
                if turns > TURNS_MAX:
                    raise Spinning
            due.turn()
            self.after_turn(due)
        return True
