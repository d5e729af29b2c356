"""What README, CONTRIBUTING and the changelog promise is there."""

import re
import subprocess
import sys
import tomllib

import pytest
from support.tree import ROOT, relative, text_files

from agent.cli.main import COMMANDS as VOLTILL_COMMANDS

CHANGE_GROUPS = ("Money and safety", "Interfaces", "Features", "Fixes", "Internals")
PAGES = [path for path in text_files() if path.suffix == ".md"]
SPDX_OPENING = "Apache License"


def fenced(text: str) -> str:
    """The text inside ``` fences and `code`, where commands are shown."""
    return "\n".join(
        re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    )


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_that_are_shown_exist(page) -> None:
    shown = fenced(page.read_text())
    ours = set(re.findall(r"(?:^|\s)voltill ([a-z][a-z-]*)", shown))
    assert ours <= set(VOLTILL_COMMANDS) | {"run"}
    dev = set(re.findall(r"\./dev ([a-z][a-z-]*)", shown))
    usage = subprocess.run(
        [sys.executable, ROOT / "dev", "--help"], capture_output=True, text=True, check=True
    )
    assert dev <= set(re.findall(r"^  (\w+) ", usage.stdout, re.MULTILINE))


def test_the_two_commands_open_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    first_block = re.search(r"```\w*\n(.*?)```", readme, re.DOTALL)
    assert first_block is not None
    assert re.search(r"git clone .*\n\./dev demo", first_block[1])


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_to_our_own_files_lead_somewhere(page) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_changelog_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases, "no release and no Unreleased section"
    for release in releases:
        assert re.fullmatch(r"Unreleased|\d+\.\d+\.\d+ \(\d{4}-\d{2}-\d{2}\)", release), release
    for section in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        groups = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert groups == [group for group in CHANGE_GROUPS if group in groups]
        for body in re.split(r"^### .+$", section, flags=re.MULTILINE)[1:]:
            lines = [line for line in body.strip().splitlines() if line.strip()]
            assert lines, "an empty group"
            assert [line for line in lines if not re.match(r"(- |  )\S", line)] == []


def test_decision_records_are_numbered_and_whole() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    numbers = [int(path.name[:4]) for path in records]
    assert numbers == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text()
        assert f"]({path.name})" in index, f"{path.name} is not in the index"
        assert re.match(rf"# {path.name[:4]}: \S", text), path.name
        for heading in ("## Status", "## Context", "## Decision", "## Consequences"):
            assert heading in text, f"{path.name} lacks {heading}"


def test_licence() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert licence.strip().startswith(SPDX_OPENING)
    assert "Version 2.0, January 2004" in licence
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == {"text": "Apache-2.0"}


def test_the_first_station_yaml_of_the_readme_is_accepted(tmp_path) -> None:
    """Copied as it stands beside the shipped tariffs, it loads without an error."""
    from agent.settings import load_settings

    readme = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```yaml\n(station:.*?)```", readme, re.DOTALL)
    config = tmp_path / "station.yaml"
    config.write_text(block)
    settings = load_settings(config)
    assert settings.terminals[0].currency == "EUR"
    assert settings.evses[0].id in settings.terminals[0].serves
