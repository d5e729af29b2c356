"""docs/errors.md and the code name the same error ids."""

import re

from support.tree import ROOT, relative, text_files

AREAS = ("CFG", "TRM", "MTR", "EVS", "LED", "UPL", "KEY", "TAR", "STA")
ID = re.compile(rf"\b(?:{'|'.join(AREAS)})-\d{{3}}\b")
ROW = re.compile(
    rf"^\|\s*`?((?:{'|'.join(AREAS)})-\d{{3}})`?\s*\|([^|]*)\|([^|]*)\|\s*$", re.MULTILINE
)
HEADING = re.compile(r"^## ([A-Z]{3}): ", re.MULTILINE)

PAGE = (ROOT / "docs" / "errors.md").read_text()


def ids_in_code() -> dict[str, str]:
    """id -> one file that uses it."""
    found: dict[str, str] = {}
    for path in text_files():
        name = relative(path)
        if name.startswith(("agent/", "drivers/")) and path.suffix in (".py", ".yaml"):
            found.update(dict.fromkeys(ID.findall(path.read_text()), name))
    return found


def test_every_id_of_the_code_is_listed() -> None:
    listed = {row[0] for row in ROW.findall(PAGE)}
    missing = [
        f"{code} ({name})" for code, name in sorted(ids_in_code().items()) if code not in listed
    ]
    assert not missing, "not in docs/errors.md: " + ", ".join(missing)


def test_every_listed_id_is_used() -> None:
    used = ids_in_code()
    unused = [row[0] for row in ROW.findall(PAGE) if row[0] not in used]
    assert not unused, "nobody uses: " + ", ".join(unused)


def test_every_row_is_whole_unique_and_in_its_section() -> None:
    rows = ROW.findall(PAGE)
    ids = [row[0] for row in rows]
    assert sorted({code for code in ids if ids.count(code) > 1}) == []
    assert [row for row in rows if not row[1].strip() or not row[2].strip()] == []
    assert len(ids) == len(
        [line for line in PAGE.splitlines() if re.match(r"\|\s*`?[A-Z]{3}-\d", line)]
    )
    sections = HEADING.split(PAGE)[1:]
    assert tuple(sections[::2]) == AREAS
    for area, text in zip(sections[::2], sections[1::2], strict=True):
        assert [row[0] for row in ROW.findall(text) if not row[0].startswith(area)] == []
