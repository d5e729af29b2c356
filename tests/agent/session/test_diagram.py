import re
import subprocess
import sys
from pathlib import Path

from agent.session import S, diagram
from agent.session.table import SET_ASIDE, TABLE

ROOT = Path(__file__).parents[3]


def test_the_page_is_the_table() -> None:
    assert (ROOT / "docs" / "session.md").read_text() == diagram.document(), (
        f"docs/session.md is not what the table says; run: {diagram.COMMAND}"
    )


def test_the_command_at_the_top_of_the_page_makes_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.session.diagram"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == diagram.document()
    assert f"`{diagram.COMMAND}`" in done.stdout


def test_the_pictures_show_every_row_that_moves_and_nothing_else() -> None:
    drawn = set()
    for source, dest, labels in re.findall(
        r"^    (\S+) --> (\w+): (.*)$", diagram.document(), re.MULTILINE
    ):
        for label in labels.split("<br/>"):
            drawn.add(("new" if source == "[*]" else source, dest, label))
    expected = {
        (str(row.source), str(row.dest), diagram.label(row))
        for row in TABLE
        if row.source is not row.dest
        and row not in SET_ASIDE  # one sentence, no edge for each state
    }
    assert drawn == expected


def test_every_state_has_its_line_and_every_guard_its_words() -> None:
    page = diagram.document()
    for state in S:
        assert f"| `{state}` |" in page
    for row in TABLE:
        if row.when is not None:
            assert row.when.__doc__, f"{row.when.__name__} has no words for the page"


def test_else_stands_only_behind_a_guard() -> None:
    for row in TABLE:
        guarded = any(
            r.when is not None for r in TABLE if (r.event, r.source) == (row.event, row.source)
        )
        assert (diagram.guard(row) == "else") is (row.when is None and guarded)
