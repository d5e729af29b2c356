"""Pages of signed readings: counted by one for each key, durable with their record, and never begun again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import apsw
import pytest
from support.damage import plan
from support.ledger_rows import KEY, STATION, event, record

from agent.ledger import Append, Ledger, LedgerError, RecordRow, UsedPage, ocmf_pages, rescue
from agent.trust import jws

OTHER = "b" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def with_page(ledger: Ledger, session: str, number: int, kid: str = KEY.public.kid) -> RecordRow:
    text = f'OCMF|{{"FV":"1.3","PG":"T{number}"}}|{{}}'
    row = record(ledger, session, signed_values=[{"text": text}])
    return dataclasses.replace(row, page=UsedPage(kid, number))


def store(ledger: Ledger, session: str, row: RecordRow) -> None:
    ledger.append(event(session, 1), evse="E1", terminal="t1", open=False, record=row)


def test_pages_count_on_over_restarts_and_another_key(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    assert ledger.used_pages() == {}
    store(ledger, "s1", with_page(ledger, "s1", 1))
    store(ledger, "s2", with_page(ledger, "s2", 2))
    store(ledger, "s3", with_page(ledger, "s3", 3, OTHER))
    ledger.close()
    again = Ledger.open(path, STATION)
    assert again.used_pages() == {KEY.public.kid: 2, OTHER: 3}
    with pytest.raises(LedgerError, match="LED-011"):
        store(again, "s4", with_page(again, "s4", 3))
    store(again, "s4", with_page(again, "s4", 4))
    again.close()


@pytest.mark.parametrize("number", [1, 3, 99])
def test_no_page_twice_and_none_left_out(path: Path, number: int) -> None:
    ledger = Ledger.open(path, STATION)
    store(ledger, "s1", with_page(ledger, "s1", 1))
    with pytest.raises(LedgerError, match="LED-011"):
        store(ledger, "s2", with_page(ledger, "s2", number))
    assert (ledger.head().seq, ledger.events("s2")) == (1, [])
    assert ledger.used_pages() == {KEY.public.kid: 1}
    ledger.close()


def test_steps_of_one_commit_cannot_share_a_page(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    first = with_page(ledger, "s1", 1)
    steps = [
        Append(event("s1", 1), "E1", "t1", False, first),
        Append(event("s2", 1), "E1", "t1", False, with_page(ledger, "s2", 1)),
    ]
    outcomes = ledger.append_many(steps)
    assert outcomes[0] is None and getattr(outcomes[1], "code", "") == "LED-011"
    assert ledger.used_pages() == {KEY.public.kid: 1}
    ledger.close()


def test_the_version_before_knows_nothing_of_it_and_loses_nothing(path: Path) -> None:
    """It stores records without a page; the next one goes on where they were."""
    ledger = Ledger.open(path, STATION)
    store(ledger, "s1", with_page(ledger, "s1", 1))
    store(ledger, "s2", record(ledger, "s2"))
    store(ledger, "s3", with_page(ledger, "s3", 2))
    ledger.close()


def test_behind_damage_no_page_comes_again(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    for n in range(1, 6):
        store(ledger, f"s{n}", with_page(ledger, f"s{n}", n))
    ledger.close()
    kept = rescue.set_aside(path)
    rescue.replace(path, kept, plan(set_aside=kept.name))
    again = Ledger.open(path, STATION)
    (gap,) = again.records(1, 1)
    behind = jws.parse(gap.jws, jws.RECORD_TYP).unchecked_body()["pages_behind"]
    assert isinstance(behind, int) and behind > 1_000_000
    assert ocmf_pages.last(again.used_pages()) == behind
    with pytest.raises(LedgerError, match="LED-011"):
        store(again, "n1", with_page(again, "n1", 6))
    store(again, "n1", with_page(again, "n1", behind + 1))
    again.close()


def test_a_clock_that_is_not_set_leaves_what_the_pages_themselves_say(path: Path) -> None:
    ledger = Ledger.open(path, STATION)
    for n in range(1, 6):
        store(ledger, f"s{n}", with_page(ledger, f"s{n}", n))
    ledger.close()
    db = apsw.Connection(str(path))
    db.execute("DELETE FROM meta WHERE key GLOB 'ocmf_page*'")
    db.execute("INSERT INTO meta VALUES ('ocmf_page.garbage', 'what?')")
    db.close()
    kept = rescue.set_aside(path)
    rescue.replace(path, kept, dataclasses.replace(plan(), utc_ms=0))
    again = Ledger.open(path, STATION)
    assert again.used_pages() == {"": 5}
    again.close()


def test_pages_behind_a_loss_only_grow() -> None:
    now_ms = 1_795_200_000_000
    first = ocmf_pages.behind_loss([41], now_ms)
    assert first > 200_000_000
    assert ocmf_pages.behind_loss([first + 3], now_ms + 60_000) == first + 60
    assert ocmf_pages.behind_loss([first + 3], now_ms) == first + 3
