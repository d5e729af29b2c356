"""The acceptance page has every row it must have, each with a proof, and says openly what is missing."""

import re

import pytest
from support.tree import ROOT

ROWS = [
    *(1, 2, 3, 4, 6, 7, 8, 10, 11),
    *range(14, 22),
    *(29, 30, 31, 74, 75, 78, 79, 80, 81),
    *(86, 87, 88, 92, 106, 107, 109),
]
PAGE = (ROOT / "docs" / "acceptance.md").read_text()
TABLE, _, REST = PAGE.partition("\n## Not yet\n")


def rows(text: str) -> dict[int, list[str]]:
    found = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    assert len({number for number, _ in found}) == len(found), "a row stands twice"
    return {int(number): cells.split(" | ") for number, cells in found}


def test_every_row_is_there_in_order() -> None:
    assert list(rows(TABLE)) == ROWS


@pytest.mark.parametrize("number", ROWS)
def test_a_row_has_its_proof_and_what_is_missing_is_said(number: int) -> None:
    capability, origin, there, proofs = rows(TABLE)[number]
    assert capability and origin
    assert re.fullmatch(r"(`tests/[\w/]+\.py::test_\w+`(<br>)?)+", proofs)
    assert (there, number in rows(REST)) in (("yes", False), ("in part", True))
