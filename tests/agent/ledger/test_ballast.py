"""Room kept back, on a real file system that has little of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ledger_rows import STATION, event

from agent.ledger import Ledger, LedgerFull
from agent.ledger.ballast import Ballast

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount: run as root")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_it_takes_and_gives_back_real_blocks(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", MIB)
    assert not ballast.held
    assert ballast.hold() and ballast.held and ballast.hold()
    assert ballast.path.stat().st_blocks * 512 >= MIB
    ballast.release()
    assert not ballast.path.exists() and not ballast.held
    ballast.release()


def test_a_file_without_blocks_keeps_nothing_back(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", MIB)
    with ballast.path.open("wb") as file:
        file.truncate(MIB)
    assert not ballast.held
    assert ballast.hold() and ballast.held


def test_trouble_that_is_no_lack_of_room_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Ballast(tmp_path / "none" / "ballast", MIB).hold()


def test_a_full_file_system_lets_the_running_session_end(small_disk: Path) -> None:
    ballast = Ballast(small_disk / "ballast", 2 * MIB)
    ledger = Ledger.open(small_disk / "ledger.db", STATION, ballast=ballast)
    ledger.append(event("runs", 1), evse="E", terminal="t", open=True)
    assert ballast.held
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    for n in range(2, 200):
        ledger.append(event("runs", n, note="x" * 900), evse="E", terminal="t", open=True)
    assert not ballast.held and ledger.full
    with pytest.raises(LedgerFull, match="LED-008"):
        ledger.append(event("new", 1), evse="E", terminal="t", open=True)
    ledger.append(event("runs", 200), evse="E", terminal="t", open=False)
    assert not ledger.look_for_room()
    ledger.close()
    # The next start meets the same disk, and its ledger opens.
    again = Ledger.open(small_disk / "ledger.db", STATION, ballast=ballast)
    assert len(again.events("runs")) == 200
    filler.unlink()
    assert again.look_for_room() and ballast.held
    again.append(event("new", 1), evse="E", terminal="t", open=True)
    again.close()
