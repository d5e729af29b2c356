"""docs/terminals.md is made from the profiles, and what it shows can be used as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from drivers.terminal.zvt import page
from drivers.terminal.zvt.codes import CODES, HOST_CODES, STATUS
from drivers.terminal.zvt.profile import load_profile, names, shipped
from drivers.terminal.zvt.profile_schema import SETTINGS
from drivers.terminal.zvt.text import FALLBACK

ROOT = Path(__file__).parents[3]
DOCUMENT = page.document()


def test_the_page_is_what_the_files_say() -> None:
    assert (ROOT / "docs" / "terminals.md").read_text() == DOCUMENT, (
        f"docs/terminals.md is not what the profiles say; run: {page.COMMAND}"
    )


def test_the_command_at_the_top_of_the_page_makes_it() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "drivers.terminal.zvt.page"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == DOCUMENT
    assert f"`{page.COMMAND}`" in DOCUMENT


def rows(head: str) -> list[list[str]]:
    """The cells of the table whose head begins so."""
    table = DOCUMENT.split(f"| {head} |", 1)[1].split("\n\n", 1)[0]
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])] for line in lines]


def test_every_family_and_setting_has_its_cell() -> None:
    told = rows("setting | generic")
    assert [row[0].strip("`") for row in told] == list(SETTINGS)
    found = shipped()
    for row in told:
        for family, cell in zip(found, row[1:], strict=True):
            sourced = family.settings.get(row[0].strip("`"))
            assert bool(cell) == (sourced is not None)
            if sourced is not None:
                assert cell.endswith("\\*") == sourced.source.startswith("assumed: ")
    differing = [f for f in found if f.base is not None]
    assert len(rows("profile | setting")) == sum(len(f.settings) for f in differing)
    assert len(rows("profile | terminals")) == len(names())


def test_every_section_that_is_cited_is_explained() -> None:
    cited = set(
        re.findall(
            r"digest (\d+)", " ".join(s.source for f in shipped() for s in f.settings.values())
        )
    )
    assert cited <= set(page.DIGEST)


def test_signs_and_codes_are_listed() -> None:
    assert sum(len(row[0].split()) for row in rows("sign | written")) == len(FALLBACK)
    listed = set(re.findall(r"`zvt\.([0-9a-f]{2})`", DOCUMENT))
    assert listed == {f"{code:02x}" for code in {*CODES, *HOST_CODES, *STATUS}}


def test_the_files_it_shows_work(tmp_path: Path) -> None:
    """The station's part and a technician's own profile, as they stand on the page."""
    station, options, own = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    [terminal] = yaml.safe_load(station)["terminals"]
    assert load_profile(terminal["profile"], terminal["options"]).reference_tag == "AC"
    named = yaml.safe_load(options)["options"]["profile"]
    assert own.startswith(f"# {named}\n")
    path = tmp_path / Path(named).name
    path.write_text(own)
    profile = load_profile("generic", {"profile": str(path)})
    assert (profile.title, profile.capture_by, profile.print_before_status) == (
        "Acme till",
        "book_total",
        True,
    )
