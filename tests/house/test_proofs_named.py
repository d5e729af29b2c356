"""A page that names a test as proof names one that exists."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support.tree import ROOT, relative, text_files

sys.path.insert(0, str(ROOT / "packaging"))
from dev.gate import WHOLLY_COVERED

# tests/some/test_file.py::test_name, also of a class and of one parameter: ...::TestX::test_y[z]
NAMED = re.compile(r"(tests/[\w./-]+\.py)((?:::\w+)+)")
PAGES = [
    path for path in text_files() if relative(path).startswith("docs/") and path.suffix == ".md"
]
# What the pages name at least; fewer were an expression that no longer finds them.
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
PROOFS_MIN = {"zvt": 150, "metering": 150}


def proofs(text: str) -> list[tuple[str, str]]:
    """(file, "test_name" or "TestClass::test_name"), as often as they are named."""
    return [(file, name.removeprefix("::")) for file, name in NAMED.findall(text)]


@cache
def named_tests(path: Path) -> frozenset[str]:
    return frozenset(_tests(ast.parse(path.read_text()).body))


def _tests(body: list[ast.stmt], before: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _tests(node.body, f"{before}{node.name}::")
        elif isinstance(node, FUNCTION) and node.name.startswith("test_"):
            yield before + node.name


def not_there(text: str, root: Path) -> list[str]:
    return [
        f"{file}::{name}"
        for file, name in proofs(text)
        if not (root / file).is_file() or name not in named_tests(root / file)
    ]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_test_that_is_named_exists(page: Path) -> None:
    assert not_there(page.read_text(), ROOT) == []


@pytest.mark.parametrize(("page", "least"), PROOFS_MIN.items())
def test_the_names_are_seen(page: str, least: int) -> None:
    assert len(proofs((ROOT / "docs" / "proofs" / f"{page}.md").read_text())) >= least


def test_what_is_wholly_covered_is_there_and_leaves_nothing_out() -> None:
    """A module under another name would drop out of the gate's step without a word, and so would a line that
    coverage is told not to count."""
    assert "drivers/terminal/zvt/codec.py" in WHOLLY_COVERED
    for name in WHOLLY_COVERED:
        assert "pragma: no" not in (ROOT / name).read_text(), name


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("tests/test_a.py::test_one", True),
        ("`tests/test_a.py::test_one[x-2]`", True),
        ("tests/test_a.py::TestIt::test_two, tests/test_a.py::test_three", True),
        ("tests/test_a.py::test_on", False),
        ("tests/test_a.py::test_one_more", False),
        ("tests/test_a.py::test_two", False),
        ("tests/test_a.py::helper", False),
        ("tests/test_a.py::test_in_a_comment", False),
        ("tests/test_b.py::test_one", False),
    ],
)
def test_a_name_that_is_wrong_is_seen(tmp_path: Path, named: str, there: bool) -> None:
    file = tmp_path / "tests" / "test_a.py"
    file.parent.mkdir()
    file.write_text(
        "def test_one(): ...\nclass TestIt:\n    def test_two(self): ...\n"
        "async def test_three(): ...\ndef helper(): ...\n# def test_in_a_comment(): ...\n"
    )
    assert (not_there(named, tmp_path) == []) is there
