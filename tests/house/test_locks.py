"""The lock files: every package exact and hashed, tied to no index, nothing heavy for the board."""

import re
import tomllib

import pytest
from support.tree import ROOT

REQUIREMENTS = ROOT / "packaging" / "requirements"
LOCKS = sorted(REQUIREMENTS.glob("*.lock"))
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")

# structlog imports rich when it finds it; the others are large and were weighed against in docs/decisions.
NOT_ON_THE_BOARD = {"rich", "textual", "typer", "babel", "pymodbus", "jsonschema"}


def entries(lock: str) -> dict[str, str]:
    """package name -> its whole entry (continuation lines joined)."""
    joined = re.sub(r"\\\n", " ", lock)
    lines = [
        line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    return {re.split(r"[=\[ ;]", line)[0].lower(): line for line in lines}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_entry_is_exact_and_hashed(path) -> None:
    found = entries(path.read_text())
    assert found
    assert [line for line in found.values() if not re.match(r"^[\w.-]+(\[\w+\])?==\S+", line)] == []
    assert [name for name, line in found.items() if not HASH.search(line)] == []
    assert "://" not in path.read_text()


def test_each_lock_answers_its_list() -> None:
    assert [path.stem for path in LOCKS] == sorted(path.stem for path in REQUIREMENTS.glob("*.in"))
    for path in LOCKS:
        wanted = path.with_suffix(".in").read_text().splitlines()
        names = {
            re.split(r"[=\[ ;<>~]", line)[0].lower()
            for line in wanted
            if line and line[0] not in "#-"
        }
        assert names <= set(entries(path.read_text()))


def test_the_two_locks_of_one_environment_agree() -> None:
    agent = entries((REQUIREMENTS / "agent.lock").read_text())
    test = entries((REQUIREMENTS / "test.lock").read_text())
    version = {name: line.split()[0] for name, line in test.items()}
    assert {
        name: line.split()[0]
        for name, line in agent.items()
        if version.get(name) != line.split()[0]
    } == {}


def test_the_board_gets_what_the_project_names_and_nothing_heavy() -> None:
    agent = entries((REQUIREMENTS / "agent.lock").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {re.split(r"[=\[ ;<>~]", text)[0].lower() for text in project["dependencies"]}
    assert named <= set(agent)
    assert NOT_ON_THE_BOARD & set(agent) == set()
    assert "rich" not in entries((REQUIREMENTS / "test.lock").read_text())
