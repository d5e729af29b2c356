"""What explains a terminal's last result: by the terminal it was made at, not by the cable."""

from __future__ import annotations

import pytest

from agent.session import Session
from agent.station.results import refs_at


def ref(tid: str) -> dict[str, object]:
    return {"terminal_id": tid, "receipt": 231, "trace": 931}


@pytest.mark.parametrize(
    ("session", "tid", "explains"),
    [
        (Session("a", terminal="t1", hold=ref("1")), "1", True),
        (Session("a", terminal="t1", result=ref("1")), "1", True),
        (Session("a", terminal="t1", raise_result=ref("1")), "1", True),
        (Session("a", terminal="t1", hold=ref("2")), "1", False),
        (Session("a", terminal="renamed", hold=ref("1")), "1", True),
        (Session("a", terminal="t1", hold=ref("")), "1", True),
        (Session("a", terminal="t1", hold=ref("2")), None, True),
        (Session("a", terminal="t2", hold=ref("2")), None, False),
        (Session("but", terminal="t1", hold=ref("1")), "1", False),
    ],
)
def test_where_a_result_was_made(session: Session, tid: str | None, explains: bool) -> None:
    assert refs_at("t1", tid, [session], "but") == ({(231, 931)} if explains else set())
