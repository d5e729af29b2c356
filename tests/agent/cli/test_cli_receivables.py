"""What stands open with money, and how a person takes it off the list: stopped and through the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.past_station import Answer, Past, running
from support.station_world import World

from agent.cli.status import age
from agent.ledger import Ledger
from agent.session import E, S
from agent.station import by_hand, receivables
from agent.trust.chain import verify_records
from agent.trust.keys import KeySet, RecordKey

Voltill = Callable[..., Answer]


@pytest.fixture(params=["stopped", "running"])
def way(
    request: pytest.FixtureRequest, past: Past, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "stopped":
        yield "stopped"
        return
    with running(past, monkeypatch):
        yield "running"


def close(voltill: Voltill, past: Past, *more: object, session: str = "") -> Answer:
    where = ("--state", past.state, "--config", past.config)
    return voltill("sessions", "close", session or past.open, *more, *where)


def records(w: World) -> list[tuple[str, str | None]]:
    """Of the stopped station."""
    ledger = Ledger.open(w.state / "ledger.db", None, create=False)
    try:
        rows = ledger.records(1, 100)
    finally:
        ledger.close()
    key = RecordKey.load(w.folder / "record-key.pem").public
    report = verify_records([row.jws for row in rows], KeySet([key]), anchored=True)
    assert report.ok, report.json()
    return [(row.type, row.session_id) for row in rows]


@pytest.mark.parametrize("how", ["paid", "written-off"])
def test_what_is_owed_is_listed_until_a_person_takes_it_off(
    voltill: Voltill, past: Past, way: str, how: str
) -> None:
    found = voltill("status", "--state", past.state, "--json").json
    (row,) = found["open"]
    owed = row["owed_minor"]
    assert (row["id"], row["kind"], row["amount_minor"]) == (past.open, "receivable", owed)
    assert owed > 0 and row["age_s"] >= 0 and row["payment"] == "refused"
    (total,) = found["totals"]
    assert (total["currency"], total["receivables"], total["owed_minor"]) == ("EUR", 1, owed)
    text = voltill("status", "--state", past.state).out
    euro = f"{owed // 100}.{owed % 100:02d} EUR"
    assert f"Owed:\n  session {past.open} {euro} for " in text
    assert f"Total: owed {euro} (1)\n" in text

    done = close(voltill, past, "--as", how, "--note", "invoice 17, Jana", "--json")
    assert done.code == 0, done.err
    word = how.replace("-", "_")
    assert (done.json["payment"], done.json["closed_minor"]) == (word, owed)
    again = close(voltill, past, "--as", how, "--note", "once more")
    assert again.code == 2 and again.err.startswith("STA-044")
    after = voltill("status", "--state", past.state, "--json").json
    assert after["open"] == [] and after["totals"] == []
    shown = voltill("sessions", "show", past.open, "--state", past.state, "--json").json
    names = [event["name"] for event in shown["events"]]
    assert names[-2:] == ["closed_by_hand", "recorded"]
    assert shown["why"] == "invoice 17, Jana" and shown["owed_minor"] == 0


def test_the_record_of_it_is_in_the_chain(voltill: Voltill, past: Past) -> None:
    before = records(past.world)
    assert close(voltill, past, "--as", "paid", "--note", "invoice 17").code == 0
    assert records(past.world) == [*before, ("settlement", past.open)]


def test_only_what_is_listed_can_be_closed(voltill: Voltill, past: Past, way: str) -> None:
    for session, code in ((past.paid, "STA-044"), ("NOBODY", "STA-012")):
        answer = close(voltill, past, "--as", "paid", "--note", "x", session=session)
        assert answer.code == 2 and answer.err.startswith(code), answer.err


def test_only_the_service_frees_a_hold(
    voltill: Voltill, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--state", past.state)
    stopped = voltill("sessions", "free", past.open, *where)
    assert stopped.code == 2 and stopped.err.startswith("STA-045")
    past.world.terminal.pace = 0.05
    with running(past, monkeypatch):
        done = voltill("sessions", "free", past.open, *where, "--json")
        again = voltill("sessions", "free", past.open, *where)
    assert done.code == 0 and done.json["released_minor"] == 5000 and done.json["owed_minor"] > 0
    assert past.world.terminal.count("release") == 1 and not past.world.terminal.open_holds()
    assert again.code == 2 and again.err.startswith("STA-045")


@pytest.mark.parametrize("note", ["", "  ", "card 4111 1111 1111 1111", "x" * 201, "two\nlines"])
def test_a_note_is_one_line_without_card_numbers(voltill: Voltill, note: str) -> None:
    answer = voltill("sessions", "close", "S1", "--as", "paid", "--note", note)
    assert answer.code == 2 and answer.err.startswith("STA-044")


def test_without_the_key_nothing_is_changed(voltill: Voltill, past: Past) -> None:
    (past.world.folder / "record-key.pem").unlink()
    answer = close(voltill, past, "--as", "paid", "--note", "x")
    assert answer.code in (2, 78) and "Traceback" not in answer.err
    assert voltill("status", "--state", past.state, "--json").json["open"]


def test_a_word_of_its_own_is_needed(voltill: Voltill) -> None:
    for more in (("--note", "x"), ("--as", "forgotten", "--note", "x"), ("--as", "paid")):
        assert voltill("sessions", "close", "S1", *more).code == 64


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 min"), (3_599, "59 min"), (3_600, "1 h 0 min"), (90_000, "1 d 1 h")],
)
def test_ages(seconds: int, text: str) -> None:
    assert age(seconds) == text


# --- pure -------------------------------------------------------------------------------------------

KINDS = {
    S.HELD: ("hold", 5000),
    S.CHARGING: ("hold", 5000),
    S.AUTHORIZING: ("hold", 5000),
    S.CAPTURE_DUE: ("hold", 5000),
    S.HOLD_UNCLEAR: ("unknown", 5000),
    S.CAPTURE_UNCLEAR: ("unknown", 480),
    S.RELEASE_UNCLEAR: ("unknown", 5000),
    S.UNRESOLVED: ("unknown", 480),
}


@pytest.mark.parametrize("state", KINDS)
def test_what_a_state_is_and_how_much(state: S) -> None:
    from support.session_events import reach

    session = reach(state).session
    assert (receivables.kind(session), receivables.amount_minor(session)) == KINDS[state]


def test_refused_failed_and_away_are_owed_and_told_apart() -> None:
    from support.session_events import reach, stamp

    ways = {
        "refused": reach(S.CAPTURING).tell(E.REFUSED),
        "failed": reach(S.CAPTURE_DUE).tell(E.GAVE_UP),
        "away": reach(S.CAPTURE_DUE).tell(E.AWAY),
    }
    now = stamp(3_600_000)
    rows = [receivables.listed(story.session, now) for story in ways.values()]
    assert [row["payment"] for row in rows] == list(ways)
    assert {(row["kind"], row["amount_minor"]) for row in rows} == {("receivable", 480)}
    assert all(3_500 < row["age_s"] < 3_600 for row in rows)
    dollars = receivables.listed(reach(S.CHARGING).session, now) | {"currency": "USD"}
    euro, usd = receivables.totals([*rows, dollars])
    assert (euro["currency"], euro["owed_minor"], euro["receivables"]) == ("EUR", 3 * 480, 3)
    assert (usd["currency"], usd["held_minor"], usd["holds"]) == ("USD", 5000, 1)


def test_a_release_that_is_refused_leaves_a_hold_and_owes_nothing() -> None:
    from support.session_events import reach

    session = reach(S.RELEASING).tell(E.REFUSED).session
    assert (receivables.kind(session), receivables.amount_minor(session)) == ("hold", 5000)


def test_what_the_station_works_on_is_not_closed() -> None:
    from support.session_events import reach

    for state in S:
        story = reach(state)
        if state is S.UNRESOLVED:
            with pytest.raises(by_hand.NotClosed):
                by_hand.may_close(story.session)  # its first record is not made yet
            by_hand.may_close(story.tell(E.RECORDED).session)
        else:
            with pytest.raises(by_hand.NotClosed, match="STA-044"):
                by_hand.may_close(story.session)
