"""Serial ports that are missing, busy or lead to no terminal: one clear line each, the agent is up, the
station out of order for payment; it tries with growing pauses and recovers by itself.

One station has a terminal of each kind, so that all are waited for at once."""

from __future__ import annotations

import fcntl
import os
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from support.station_rig import (
    PRICE,
    booked,
    broker,
    losses,
    station,
    status,
    wait_event,
)

from hil.broker import Broker
from hil.rig import Rig

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(120)

# Port, what the agent says of it, and what is there instead of a terminal.
MISSING, BUSY, MUTE, GARBAGE, REFUSING = TERMINALS = ("t1", "t2", "t3", "t4", "t5")
SAID = {
    MISSING: "no such device",
    BUSY: "held by another process",
    MUTE: "no ZVT terminal answers",
    GARBAGE: "no ZVT terminal answers",
    REFUSING: "no ZVT terminal answers",
}
ANSWERS = {
    MUTE: b"",
    GARBAGE: b"login: \r\n\x10\x02\x80\x00\x00\x10\x03\x00\x00",
    REFUSING: b"\x15",
}
BETWEEN_TRIES_S = 0.8  # the first pause is a second; within a try blocks are repeated at once
PAUSES = 3
GROWS = 1.4  # they double; the scheduler of a busy machine takes something away


def five_terminals(text: str) -> str:
    """The configuration with TERMINALS, each on the port of its own name."""
    head, rest = text.split("terminals:\n")
    one, tail = rest.split("payment:\n")
    several = [
        one.replace("id: t1", f"id: {name}").replace("port: terminal", f"port: {name}")
        for name in TERMINALS
    ]
    return f"{head}terminals:\n{''.join(several)}payment:\n{tail}"


class Stranger:
    """Something on the port that is no terminal: it answers every piece of bytes with `answer`."""

    def __init__(self, link: Path, answer: bytes) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._link, self._answer = link, answer
        self.arrivals: list[float] = []  # when something was received
        link.symlink_to(os.ttyname(self._slave))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not os.read(self._master, 4096).endswith(b"bye"):
            self.arrivals.append(time.monotonic())
            if self._answer:
                os.write(self._master, self._answer)

    def pauses(self) -> list[float]:
        """The times of silence between one try and the next, in seconds."""
        gaps = [later - earlier for earlier, later in pairwise(list(self.arrivals))]
        return [gap for gap in gaps if gap > BETWEEN_TRIES_S]

    def close(self) -> None:
        self._link.unlink()
        # From the slave's side it looks like one more command.
        os.write(self._slave, b"bye")
        self._thread.join()
        os.close(self._slave)
        os.close(self._master)


@contextmanager
def strangers(rig: Rig) -> Iterator[dict[str, Stranger]]:
    made = {name: Stranger(rig.path(name), answer) for name, answer in ANSWERS.items()}
    try:
        yield made
    finally:
        for stranger in made.values():
            stranger.close()


@contextmanager
def held_by_another(port: Path) -> Iterator[None]:
    other = os.open(port, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        yield
    finally:
        os.close(other)


def test_five_ports_without_a_terminal(tmp_path: Path, broker: Broker) -> None:
    directory = tmp_path / "rig"
    with station(
        directory, broker, without=("terminal",), edit=five_terminals, start_agent=False
    ) as rig:
        rig.start_terminal(BUSY)
        with strangers(rig) as there:
            with held_by_another(rig.path(BUSY)):
                rig.start_agent()  # says READY although nobody can pay
                for name in (MISSING, BUSY, REFUSING):
                    check_out_of_order(rig, name)
                assert all(terminal["trouble"] for terminal in status(rig)["terminals"])
                rig.until(lambda: len(there[REFUSING].pauses()) >= PAUSES, "further tries")
                pauses = there[REFUSING].pauses()[:PAUSES]
            assert all(later > earlier * GROWS for earlier, later in pairwise(pauses)), pauses
            rig.start_terminal(MISSING)
            for name in (MISSING, BUSY):  # while the others are still waited for
                check_recovered(rig, name)
            for name in (MUTE, GARBAGE):
                check_out_of_order(rig, name)
        for name in ANSWERS:
            rig.start_terminal(name)
        for name in ANSWERS:
            check_recovered(rig, name)
        assert booked(rig) == []
        assert "Traceback" not in rig.log.path.read_text()


def check_out_of_order(rig: Rig, name: str) -> None:
    """One line that says what is wrong and at which port; `status` says the same."""
    lost = wait_event(rig, "device_lost", terminal=name)
    assert lost["id"].startswith("TRM-")
    assert SAID[name] in lost["why"], lost
    assert str(rig.path(name)) in lost["why"], lost
    assert lost["effect"] == "out of order for payment"
    trouble = {t["id"]: t["trouble"] for t in status(rig)["terminals"]}
    assert SAID[name] in trouble[name]


def check_recovered(rig: Rig, name: str) -> None:
    """The loss was logged once, the return once and with how long it took; the price is shown."""
    back = wait_event(rig, "device_back", terminal=name)
    assert back["after_ms"] > 0
    rig.wait_screen(PRICE, terminal=name)
    assert len([e for e in losses(rig) if e.get("terminal") == name]) == 1
