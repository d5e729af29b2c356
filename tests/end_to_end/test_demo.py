"""`python -m hil.demo` as a person starts it: the tour, the prompt, and what is left when it is interrupted.

The tour takes the fixed ports that config/demo.yaml names when they are free, else others; everything else
runs on ports and in folders of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.common.ports import free_port
from hil.demo.place import PROXY_PORT, ROOT, Place
from hil.rig import RigError

pytestmark = pytest.mark.timeout(240)

TOUR_S = 60.0  # what is promised; not measured while other tests keep the machine busy
WAIT_S = 60.0
LOOK_S = 0.05
DEMO = [sys.executable, "-m", "hil.demo"]
STEPS = (
    "The price is on the terminal",
    "The driver plugs in",
    "The driver taps a card: hold 50.00 EUR",
    "Energy flows",
    "The network is cut",
    "The same card stops the session",
    "The receipt, 40 columns",
    "The network comes back",
    "Anybody can check the records",
    "Four books, one truth",
)


class Demo:
    """A running demo. Its output is read while it runs; nothing waits longer than WAIT_S."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory, self.port = directory / "demo", free_port(2)
        place = ("--ports", str(self.port), "--directory", str(self.directory))
        self.process = subprocess.Popen(
            [*DEMO, *place, *options],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.text = ""
        self.family: set[int] = set()

    def wait_for(self, words: str, since: int = 0) -> int:
        """Until it has printed `words` after the first `since` characters; how much it has printed."""
        limit = time.monotonic() + WAIT_S
        while words not in self.text[since:]:
            assert time.monotonic() < limit, f"no {words!r} in:\n{self.text}"
            alive = self.process.poll() is None
            self._read()
            if words not in self.text[since:]:
                assert alive, f"it ended without {words!r}:\n{self.text}"
                time.sleep(LOOK_S)
        self.family |= descendants(self.process.pid)
        return len(self.text)

    def _read(self) -> None:
        assert self.process.stdout is not None
        piece = self.process.stdout.read()
        if piece:
            self.text += piece.decode()

    def say(self, line: str, answer: str) -> None:
        """One command at the prompt, and what it must answer."""
        since = self.wait_for("demo> ", len(self.text.rpartition("demo> ")[0]))
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        self.wait_for(answer, since)
        self.wait_for("demo> ", since)

    def end(self) -> int:
        code = self.process.wait(WAIT_S)
        self._read()
        return code

    def check_nothing_left(self) -> None:
        """No process, no file, no link to a pty, no port."""
        assert len(self.family) >= 3, "broker, proxy and back end at the least"
        left = [pid for pid in self.family if runs(pid)]
        assert left == [], [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
        assert not self.directory.exists()
        Place(self.directory, self.port).check_ports()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def descendants(pid: int) -> set[int]:
    """Children, their children and so on, from /proc."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = set()
    while new := {child for child, of in parents.items() if of in {pid, *found}} - found:
        found |= new
    return found


def runs(pid: int) -> bool:
    """Not one that has ended and waits for init, as an orphan's orphan does for a moment."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def demo(directory: Path, *options: str) -> Iterator[Demo]:
    running = Demo(directory, *options)
    try:
        yield running
    finally:
        running.close()


def fixed_place_is_free() -> bool:
    try:
        Place().check_ports()
    except RigError:
        return False
    return not Place().directory.exists()


def test_the_tour(tmp_path: Path) -> None:
    """Exit status 0, every step printed, every check held, inside the time that was promised."""
    moved = ("--ports", str(free_port(2)), "--directory", str(tmp_path / "demo"))
    where = () if fixed_place_is_free() else moved
    done = subprocess.run(
        [*DEMO, *where], cwd=ROOT, capture_output=True, text=True, timeout=3 * TOUR_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    text = done.stdout
    places = [text.index(f"{n:2d}  {step}") for n, step in enumerate(STEPS, 1)]
    assert places == sorted(places)
    for who in ("driver", "terminal", "charger", "meter", "back end", "acquirer", "agent"):
        assert f"\n  {who} " in text, who
    if not where:
        assert "voltill run --config config/demo.yaml, unchanged" in text
    checks = text.count("  check       ok  ")
    last = text.strip().splitlines()[-1]
    told = re.fullmatch(r"All (\d+) checks held, (\d+) s\.", last)
    assert told, last
    assert int(told[1]) == checks >= len(STEPS)
    assert "BROKEN" not in text
    assert int(told[2]) < TOUR_S
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize(
    ("number", "at"),
    [
        (signal.SIGINT, "kW   cost "),
        (signal.SIGTERM, "The price is on the terminal"),
        (signal.SIGINT, "subscribed; checks"),
    ],
    ids=["while a car charges", "in the first step", "while it sets up"],
)
def test_interrupted(tmp_path: Path, number: signal.Signals, at: str) -> None:
    with demo(tmp_path) as running:
        running.wait_for(at)
        os.kill(running.process.pid, number)
        assert running.end() == 130
        assert "everything is down" in running.text
        assert "Traceback" not in running.text
        running.check_nothing_left()


def test_killed_itself_it_leaves_no_process(tmp_path: Path) -> None:
    """SIGKILL cannot be answered; the kernel ends the children (PR_SET_PDEATHSIG)."""
    with demo(tmp_path, "--stay", "--no-tour") as running:
        running.wait_for("demo> ")
        running.process.kill()
        assert running.end() == -signal.SIGKILL
        limit = time.monotonic() + WAIT_S
        while any(Path(f"/proc/{pid}").exists() for pid in running.family):
            assert time.monotonic() < limit, "an orphan lives"
            time.sleep(LOOK_S)
        Place(running.directory, running.port).check_ports()


def test_the_prompt(tmp_path: Path) -> None:
    with demo(tmp_path, "--stay", "--no-tour") as running:
        running.say("help", "SIGKILL the agent")
        running.say("dance", "no verb dance")
        running.say("status", "Station DE*VLT*S1: running")
        running.say("plug", "control pilot B1")
        running.say("tap", "| Please wait")
        running.say("cut", "network     cut")
        running.say("kill", "dead (status -9)")
        running.say("kill", "the agent is not running")
        running.say("start", "ready again")
        running.say("restore", "network     back")
        running.say("unplug", "control pilot A")
        running.say("sessions", "DE*VLT*E1")
        running.say("tap bogus", "no card 'bogus'")
        running.say("screen", "| ")
        assert running.process.stdin is not None
        running.process.stdin.write(b"quit\n")
        running.process.stdin.flush()
        assert running.end() == 0
        assert "Traceback" not in running.text
        running.check_nothing_left()


def test_an_agent_that_cannot_start_is_told_at_once(tmp_path: Path) -> None:
    """A configuration that the agent refuses: its last words, and nothing is waited for."""
    with demo(tmp_path, "--stay", "--no-tour") as running:
        running.wait_for("demo> ")
        running.say("kill", "dead")
        config = running.directory / "demo.yaml"
        config.write_text(config.read_text().replace("currency: EUR", "currency: EURO"))
        asked = time.monotonic()
        running.say("start", "currency")
        assert "ended (78)" in running.text
        assert time.monotonic() - asked < WAIT_S / 4
        running.say("status", "stopped")
        assert running.process.stdin is not None
        running.process.stdin.close()  # the end of the input ends the demo
        running.process.wait(WAIT_S)
        running.check_nothing_left()


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    port = free_port(2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1))
        taken.listen()
        done = subprocess.run(
            [*DEMO, "--ports", str(port), "--directory", str(tmp_path / "demo")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert done.returncode == 1
    assert f"port {port + 1} of this machine is taken" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "demo").exists()


def test_the_copy_for_another_place_differs_in_nothing_else(tmp_path: Path) -> None:
    place = Place(tmp_path, PROXY_PORT + 100)
    place.write_config()
    moved = place.config.read_text()
    back = (
        moved.replace(f"{tmp_path}/", "../run/demo/")
        .replace(str(ROOT / "config/tariffs/adhoc.yaml"), "tariffs/adhoc.yaml")
        .replace(f":{PROXY_PORT + 100}", f":{PROXY_PORT}")
    )
    assert moved != back == (ROOT / "config/demo.yaml").read_text()
