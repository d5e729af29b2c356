"""A serial port that is missing, busy or no terminal: one clear line, the agent is up, the station out of
order for payment, tries with growing pauses, and recovers by itself."""

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
    booked,
    broker,
    charge,
    check_books,
    check_captured,
    check_out_of_order,
    check_recovered,
    station,
    status,
    unplug,
)

from hil.broker import Broker
from hil.rig import Rig

__all__ = ["broker"]  # the fixture
pytestmark = pytest.mark.timeout(120)

BETWEEN_TRIES_S = 0.8  # the first pause is a second; within a try blocks are repeated at once
PAUSES = 3
GROWS = 1.4  # they double; the scheduler of a busy machine takes something away


def test_the_port_is_missing_and_comes(tmp_path: Path, broker: Broker) -> None:
    with station(tmp_path / "rig", broker, without=("terminal",)) as rig:
        check_out_of_order(rig, "no such device")
        rig.start_terminal()
        check_recovered(rig)
        session = charge(rig)
        unplug(rig)
        check_captured(rig, session)
        check_books(rig)


def test_the_port_is_held_by_another_process(tmp_path: Path, broker: Broker) -> None:
    with station(tmp_path / "rig", broker, start_agent=False) as rig:
        other = os.open(rig.path("terminal"), os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.flock(other, fcntl.LOCK_EX)
            rig.start_agent()
            check_out_of_order(rig, "held by another process")
            assert booked(rig) == []
        finally:
            os.close(other)
        check_recovered(rig)


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
        while True:
            data = os.read(self._master, 4096)
            if data.endswith(b"bye"):
                return
            self.arrivals.append(time.monotonic())
            os.write(self._master, self._answer)

    def pauses(self) -> list[float]:
        """The times of silence between one try and the next, in seconds."""
        times = list(self.arrivals)
        gaps = [later - earlier for earlier, later in pairwise(times)]
        return [gap for gap in gaps if gap > BETWEEN_TRIES_S]

    def close(self) -> None:
        self._link.unlink()
        os.write(self._slave, b"bye")
        self._thread.join()
        os.close(self._slave)
        os.close(self._master)


@contextmanager
def stranger_at(rig: Rig, answer: bytes) -> Iterator[Stranger]:
    stranger = Stranger(rig.path("terminal"), answer)
    try:
        yield stranger
    finally:
        stranger.close()


def test_something_that_refuses_every_block(tmp_path: Path, broker: Broker) -> None:
    """Tried again and again, with growing pauses."""
    with station(tmp_path / "rig", broker, without=("terminal",), start_agent=False) as rig:
        with stranger_at(rig, b"\x15") as stranger:
            rig.start_agent()
            check_out_of_order(rig, "no ZVT terminal answers")
            assert str(rig.path("terminal")) in status(rig)["terminals"][0]["trouble"]
            rig.until(lambda: len(stranger.pauses()) >= PAUSES, "further tries")
            pauses = stranger.pauses()[:PAUSES]
        assert all(later > earlier * GROWS for earlier, later in pairwise(pauses)), pauses
        rig.start_terminal()
        check_recovered(rig)


def test_something_that_is_no_terminal(tmp_path: Path, broker: Broker) -> None:
    """It talks, but nothing that has a meaning in ZVT."""
    with station(tmp_path / "rig", broker, without=("terminal",), start_agent=False) as rig:
        with stranger_at(rig, b"login: \r\n\x10\x02\x80\x00\x00\x10\x03\x00\x00"):
            rig.start_agent()
            check_out_of_order(rig, "no ZVT terminal answers")
        rig.start_terminal()
        check_recovered(rig)
