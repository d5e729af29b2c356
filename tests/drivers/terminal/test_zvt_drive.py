"""The part of a dialogue that waits: its tasks and timers."""

import asyncio

import pytest
from support.virtual_loop import VirtualLoop

from agent.ports import DriverEnv
from drivers.line import LineLost
from drivers.terminal.zvt import commands
from drivers.terminal.zvt.dialogue import Dialogue
from drivers.terminal.zvt.drive import TOLD_MAX, Drive
from drivers.terminal.zvt.frames import Link, frame
from drivers.terminal.zvt.outcomes import Broken
from drivers.terminal.zvt.sequences import SEQUENCES


class Line:
    """Gives what it was told to, piece by piece, each after a pause; then nothing, or an error."""

    def __init__(
        self, *pieces: bytes, pause_s: float = 0.0, error: Exception | None = None
    ) -> None:
        self._pieces, self._pause_s, self._error = list(pieces), pause_s, error
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    async def read(self) -> bytes:
        await asyncio.sleep(self._pause_s)
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    def discard(self) -> bytes:
        return b""

    async def close(self) -> None:
        pass


def drive(line: Line) -> Drive:
    loop = asyncio.get_running_loop()
    env = DriverEnv(lambda: int(loop.time() * 1000), lambda *_, **__: None)
    link = Link()
    dialogue = Dialogue(link, commands.enquiry(), SEQUENCES["enquiry"])
    return Drive(env, line, link, dialogue, None, asyncio.Event())


def test_an_error_that_nobody_expects_ends_the_dialogue_and_its_tasks() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await drive(Line(error=ZeroDivisionError())).run()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_cancelled_it_leaves_nothing() -> None:
    async def main() -> None:
        running = asyncio.ensure_future(drive(Line()).run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_line_that_says_nothing_is_given_up_in_its_time() -> None:
    """Three sends, five seconds each: by timers alone."""

    async def main() -> None:
        line = Line()
        outcome = await drive(line).run()
        assert isinstance(outcome, Broken)
        assert line.written.count(b"\x10\x02") == 3
        assert 15.0 <= asyncio.get_running_loop().time() < 15.1

    loop = VirtualLoop()
    loop.run_until_complete(main())
    loop.close()


def test_many_pieces_take_few_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receipt off a slow line, three bytes at a time: T1 starts anew at each, no timer does."""
    printed = b"".join(b"\x06" + frame(bytes.fromhex("06d12b00") + b"x" * 42) for _ in range(20))
    talk = b"\x06" + frame(bytes.fromhex("800000")) + printed
    pieces = [talk[at : at + 3] for at in range(0, len(talk), 3)]
    loop = VirtualLoop()
    made = 0
    call_at = loop.call_at

    def counted(*words, **how):  # type: ignore[no-untyped-def]
        nonlocal made
        made += 1
        return call_at(*words, **how)

    async def main() -> None:
        outcome = await drive(Line(*pieces, pause_s=0.003, error=OSError("end"))).run()
        assert isinstance(outcome, Broken)

    monkeypatch.setattr(loop, "call_at", counted)
    with pytest.raises(OSError, match="end"):
        loop.run_until_complete(main())
    loop.close()
    slept = len(pieces) + 1
    assert made - slept < len(pieces) / 5, f"{made - slept} timers for {len(pieces)} pieces"


def test_a_terminal_that_talks_on_fills_no_memory() -> None:
    """What is kept of what it says on the way has a bound; all of it is answered."""
    ways = [
        b"\x06" + frame(bytes([0x04, 0xFF, 0x02, number % 256, 1 + number // 256]))
        for number in range(TOLD_MAX + 50)
    ]
    talk = [b"\x06" + frame(bytes.fromhex("800000")), *ways]

    async def main() -> None:
        line = Line(*talk, pause_s=0.001, error=LineLost("end"))
        found = drive(line)
        assert isinstance(await found.run(), Broken)
        assert len(found.told) == TOLD_MAX
        assert line.written.count(frame(bytes.fromhex("800000"))) == len(ways)

    loop = VirtualLoop()
    loop.run_until_complete(main())
    loop.close()
