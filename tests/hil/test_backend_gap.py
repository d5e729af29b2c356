"""The back end learns from a gap record which numbers will never come, and waits for them no longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.station_records import RecordChain, payload_of

from hil.backend.database import Coverage, Database
from hil.backend.intake import Intake
from hil.backend.keyring import Keyring

STATION = "DE*ABC*S1"


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    database = Database(tmp_path / "backend.db")
    keyring = Keyring([], [tmp_path / "station.pem"])
    key = ec.generate_private_key(ec.SECP256R1())
    yield Intake(database, keyring, key, "voltill", "abc", lambda: "2026-11-21T10:00:00.000Z")
    database.close()


def send(intake: Intake, chain: RecordChain, seq: int, kind: str = "settlement") -> list[Coverage]:
    import json

    event = chain.event(seq, kind)
    topic = f"voltill/v1/abc/{STATION}/rec/{kind}"
    return intake.take(topic, json.dumps(event).encode(), "application/cloudevents+json")


def two_chains(folder: Path) -> tuple[RecordChain, RecordChain]:
    """The old chain of six records, and a new one that begins with a gap of two of them."""
    old, new = RecordChain(STATION, "aa" * 16), RecordChain(STATION, "bb" * 16)
    new.key = old.key
    old.write_public(folder / "station.pem")
    for _ in range(6):
        old.add()
    new.add("gap", reason="damaged", old_chain=old.chain, old_seq=6, lost=[[3, 4]])
    new.add()
    return old, new


def test_lost_numbers_are_passed_over_once_the_gap_is_told(intake: Intake, tmp_path: Path) -> None:
    old, new = two_chains(tmp_path)
    for seq in (1, 2, 5, 6):
        coverage = send(intake, old, seq)
    assert (coverage[0].through_seq, coverage[0].holes) == (2, [3, 4])
    (told,) = send(intake, new, 1, "gap")
    assert (told.chain, told.through_seq) == (new.chain, 1)
    (again,) = send(intake, old, 6)
    assert (again.through_seq, again.hash, again.holes, again.refused) == (6, old.hash(6), [], [])
    assert payload_of(new.texts[0])["lost"] == [[3, 4]]


def test_the_gap_first_and_the_old_records_after_it(intake: Intake, tmp_path: Path) -> None:
    """The order in which a station sends them."""
    old, new = two_chains(tmp_path)
    send(intake, new, 1, "gap")
    for seq in (1, 2, 5):
        (coverage,) = send(intake, old, seq)
    assert (coverage.through_seq, coverage.holes) == (5, [])


def test_what_is_not_declared_lost_stays_a_hole(intake: Intake, tmp_path: Path) -> None:
    old, new = two_chains(tmp_path)
    send(intake, new, 1, "gap")
    for seq in (1, 5, 6):
        (coverage,) = send(intake, old, seq)
    assert (coverage.through_seq, coverage.holes) == (1, [2])


def test_a_gap_of_another_station_says_nothing(intake: Intake, tmp_path: Path) -> None:
    old, _ = two_chains(tmp_path)
    other = RecordChain("DE*ABC*S2", "cc" * 16)
    other.add("gap", reason="damaged", old_chain=old.chain, old_seq=6, lost=[[3, 4]])
    for seq in (1, 2, 5):
        (coverage,) = send(intake, old, seq)
    assert (coverage.through_seq, coverage.holes) == (2, [3, 4])
