"""hil.common on its own: the control socket, the pty line, the dispatcher."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import termios
import tty
from pathlib import Path
from typing import Any

import pytest

from hil.common.control import MAX_LINE_BYTES, ControlError, ControlServer, ask, ask_async
from hil.common.proc import run_service
from hil.common.pty_line import PtyLine

ROOT = Path(__file__).parents[2]


async def opened(link: Path) -> int:
    fd = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    tty.setraw(fd)
    return fd


# --- Control socket -------------------------------------------------------------------------------


def test_control_answers_in_order_and_serves_many(tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def main() -> None:
        gate = asyncio.Event()

        async def wait(timeout_s: float) -> dict[str, Any]:
            async with asyncio.timeout(timeout_s):
                await gate.wait()
            return {"waited": True}

        def fail() -> None:
            raise ControlError("not today")

        verbs = {"wait": wait, "go": gate.set, "fail": fail, "add": lambda a, b=1: {"sum": a + b}}
        server = ControlServer(path, verbs)
        await server.start()
        waiting = asyncio.ensure_future(ask_async(path, do="wait", timeout_s=5))
        assert await ask_async(path, do="add", a=2) == {"sum": 3}
        await ask_async(path, do="go")
        assert await waiting == {"waited": True}
        for request, says in (
            ({"do": "fail"}, "not today"),
            ({"do": "add"}, "missing a required argument"),
            ({"do": "add", "a": 1, "c": 1}, "unexpected keyword"),
            ({"do": "none"}, "known: add, fail, go, wait"),
            ({"do": 5}, 'text "do"'),
            ({"do": "add", "a": "x"}, "TypeError"),
        ):
            with pytest.raises(ControlError, match=says):
                await ask_async(path, **request)
        await server.close()
        assert not path.exists()

    asyncio.run(main())


def test_control_survives_what_is_no_request(tmp_path: Path) -> None:
    path = tmp_path / "control"

    def raw(data: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(path))
            try:
                client.sendall(data)
                return client.makefile("rb").readline()
            except (BrokenPipeError, ConnectionResetError):
                return b""

    async def main() -> None:
        server = ControlServer(path, {"state": lambda: {"fine": True}})
        await server.start()
        assert b"not JSON" in await asyncio.to_thread(raw, b"hello\n")
        assert b"expected an object" in await asyncio.to_thread(raw, b"[1]\n")
        assert await asyncio.to_thread(raw, b"x" * (MAX_LINE_BYTES + 10)) == b""
        assert await ask_async(path, do="state") == {"fine": True}
        await server.close()

    asyncio.run(main())


def test_a_dead_socket_is_replaced_and_nobody_there_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ConnectionRefusedError):
        ask(path, do="state")

    async def main() -> None:
        server = ControlServer(path, {"state": lambda: None})
        await server.start()
        assert await ask_async(path, do="state") == {}
        with pytest.raises(ControlError, match="another simulator"):
            await ControlServer(path, {}).start()
        await server.close()

    asyncio.run(main())


# --- The line -------------------------------------------------------------------------------------


def test_line_is_raw_from_the_start_and_carries_every_byte(tmp_path: Path) -> None:
    every = bytes(range(256))

    async def main() -> None:
        line = PtyLine(tmp_path / "tty")
        line.open()
        # Not set raw by us: a reader that opens it and nothing else must get the bytes unchanged.
        fd = os.open(tmp_path / "tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        assert not termios.tcgetattr(fd)[3] & (termios.ECHO | termios.ICANON)
        await line.write(every, gap_at=3, gap_s=0.01)
        assert await exactly(fd, len(every)) == every
        os.write(fd, every)
        assert await line.read() == every
        assert line.discard() == b""
        os.close(fd)
        # Nobody has it open now: still no EIO, and the next one who opens it is heard.
        fd = await opened(tmp_path / "tty")
        os.write(fd, b"again")
        assert await line.read() == b"again"
        os.close(fd)
        line.close()
        assert not (tmp_path / "tty").is_symlink()

    asyncio.run(main())


def test_line_without_a_reader_loses_bytes_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil.common.pty_line.FULL_BUFFER_S", 0.02)

    async def main() -> None:
        line = PtyLine(tmp_path / "tty")
        line.open()
        fd = await opened(tmp_path / "tty")
        async with asyncio.timeout(5):
            await line.write(b"x" * 200_000)
        termios.tcflush(fd, termios.TCIFLUSH)
        await line.write(b"after")
        async with asyncio.timeout(5):
            got = b""
            while not got.endswith(b"after"):
                got += read_now(fd)
                await asyncio.sleep(0)
        assert len(got) < 200_000
        os.close(fd)
        line.close()

    asyncio.run(main())


async def exactly(fd: int, size: int) -> bytes:
    """The kernel carries bytes through a pty in its own time."""
    got = b""
    async with asyncio.timeout(5):
        while len(got) < size:
            got += read_now(fd)
            await asyncio.sleep(0)
    return got


def read_now(fd: int) -> bytes:
    try:
        return os.read(fd, 999_999)
    except BlockingIOError:
        return b""


def test_a_line_is_drained_when_the_other_end_has_read(tmp_path: Path) -> None:
    async def main() -> None:
        line = PtyLine(tmp_path / "tty")
        line.open()
        fd = await opened(tmp_path / "tty")
        loop = asyncio.get_running_loop()
        await line.write(b"abc")
        begin = loop.time()
        await line.drained(0.05)
        assert loop.time() - begin >= 0.05  # nobody has read
        await line.write(b"def")
        waiting = asyncio.ensure_future(line.drained(5))
        assert await exactly(fd, 6) == b"abcdef"
        async with asyncio.timeout(2):
            await waiting
        os.close(fd)
        line.close()

    asyncio.run(main())


def test_line_power_and_plug(tmp_path: Path) -> None:
    async def main() -> None:
        link = tmp_path / "tty"
        line = PtyLine(link)
        line.open()
        fd = await opened(link)
        line.power_off()
        os.write(fd, b"lost")
        await line.write(b"lost, too")
        async with asyncio.timeout(5):
            while line.lost_bytes < len(b"lost"):
                await asyncio.sleep(0)
        line.power_on()
        os.write(fd, b"heard")
        assert await line.read() == b"heard"
        assert read_now(fd) == b""
        line.replug()
        with pytest.raises(OSError):
            os.write(fd, b"x")
        os.close(fd)
        fd = await opened(link)
        await line.write(b"new")
        assert await exactly(fd, 3) == b"new"
        os.close(fd)
        line.unplug()
        assert not link.is_symlink()
        await line.write(b"nobody")  # no device: nothing happens
        line.replug()
        assert link.is_symlink()
        line.close()

    asyncio.run(main())


def test_a_link_that_another_took_over_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = PtyLine(tmp_path / "tty"), PtyLine(tmp_path / "tty")
        first.open()
        second.open()
        first.close()
        assert (tmp_path / "tty").exists()
        second.close()
        assert not (tmp_path / "tty").is_symlink()

    asyncio.run(main())


# --- Processes ------------------------------------------------------------------------------------


class Brittle:
    def __init__(self, log: list[str], error: BaseException | None) -> None:
        self.log, self.error = log, error

    async def close(self) -> None:
        self.log.append("closed")

    async def failed(self) -> BaseException:
        if self.error is not None:
            return self.error
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize(("error", "status"), [(None, 0), (RuntimeError("mute"), 2)])
def test_service_ends_clean_on_signal_and_on_failure(
    capsys: pytest.CaptureFixture[str], error: BaseException | None, status: int
) -> None:
    log: list[str] = []

    async def start() -> Brittle:
        return Brittle(log, error)

    assert run_service(start, "thing") == status
    assert log == ["closed"]
    out, err = capsys.readouterr()
    assert out == "ready thing\n"
    assert ("mute" in err) == (status == 2)


def test_service_that_cannot_start_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    async def start() -> Brittle:
        raise OSError("port is taken")

    assert run_service(start, "thing") == 2
    assert "cannot start: port is taken" in capsys.readouterr().err


def test_dispatcher_names_its_commands() -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "hil", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=20
        )

    assert run().returncode == 64
    helped = run("--help")
    assert helped.returncode == 0
    assert "terminal" in helped.stdout and "backend" in helped.stdout
    unknown = run("toaster")
    assert unknown.returncode == 64
    assert "no such simulator: toaster" in unknown.stderr
    assert "press_stop" in run("terminal", "--help").stdout
