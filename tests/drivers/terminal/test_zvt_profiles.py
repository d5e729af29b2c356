"""Profiles: what the files say, and how they are read."""

import re
from pathlib import Path

import pytest

from agent.ports import DeviceUnavailable
from drivers.terminal.zvt.profile import (
    SHIPPED,
    Family,
    load_profile,
    read_family,
    shipped,
)
from drivers.terminal.zvt.profile_schema import SETTINGS, prints_by

FAMILIES = {family.name: family for family in shipped()}
OTHERS = [family for family in FAMILIES.values() if family.base is not None]
SOURCE = re.compile(r"manual: .+|digest \d{1,2}(\.\d{1,2})?(: .+)?|PA00P01[56] .+|assumed: .+")


def refused(name: str, options: dict[str, object]) -> DeviceUnavailable:
    with pytest.raises(DeviceUnavailable, match="TRM-010") as error:
        load_profile(name, options)
    return error.value


# --- what is shipped ------------------------------------------------------------------------------


def alike(families: list[Family]) -> list[tuple[str, str]]:
    """Pairs of families that say the same."""
    said = [(f.name, {key: s.value for key, s in f.settings.items()}) for f in families]
    return [(a, b) for i, (a, one) in enumerate(said) for b, two in said[:i] if one == two]


def test_generic_says_all_and_the_others_what_differs() -> None:
    generic = FAMILIES["generic"]
    assert generic.base is None
    assert set(generic.settings) == set(SETTINGS)
    for family in OTHERS:
        assert family.base == "generic"
        assert family.settings, family.name
        same = [k for k, s in family.settings.items() if s.value == generic.settings[k].value]
        assert not same, f"{family.name} repeats {same}"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda f: f.name)
def test_every_setting_says_where_it_is_known_from(family: Family) -> None:
    for key, setting in family.settings.items():
        assert SOURCE.fullmatch(setting.source), f"{family.name}: {key}: {setting.source}"


def test_no_two_are_the_same(tmp_path: Path) -> None:
    assert not alike(list(FAMILIES.values()))
    copy = tmp_path / "copy.yaml"
    copy.write_text((SHIPPED / "feig_cvend.yaml").read_text())
    assert alike([*FAMILIES.values(), read_family(copy)]) == [("copy", "feig_cvend")]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_profile_loads_and_agrees_with_itself(name: str) -> None:
    profile = load_profile(name, {})
    assert profile.name == name
    assert profile.title
    assert profile.prints == prints_by(profile.config_byte)


@pytest.mark.parametrize(
    ("config_byte", "prints"),
    [("DE", "ecr"), ("BE", "ecr"), ("1E", "nobody"), ("86", "ecr"), ("08", "terminal")],
)
def test_who_prints(config_byte: str, prints: str) -> None:
    assert load_profile("generic", {"config_byte": config_byte, "prints": prints}).prints == prints
    other = "nobody" if prints == "terminal" else "terminal"
    error = refused("generic", {"config_byte": config_byte, "prints": other})
    assert f"prints is {other}, config_byte {config_byte}" in error.seen


# --- options --------------------------------------------------------------------------------------


def test_options_replace_single_settings() -> None:
    given: dict[str, object] = {
        "reference_tag": "AC",
        "trace_in_reversal": False,
        "capture_amount": "reversed",
        "min_amount_minor": 50,
        "scheduled_reboot": "03:15",
        "unsupported": "0693 08E0",
        "baud_fallback": 9600,
    }
    profile = load_profile("feig_cvend", given)
    kept = {key: getattr(profile, key) for key in given}
    assert kept == {**given, "unsupported": ("0693", "08e0"), "baud_fallback": (9600,)}
    assert load_profile("generic", {"unsupported": "", "baud_fallback": ""}).baud_fallback == ()


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("config_byte", 90, "two hex digits"),
        ("config_byte", "9", "two hex digits"),
        ("payment_type", "4O", "two hex digits"),
        ("trace_in_reversal", "yes", "true or false"),
        ("print_blocks", 1, "true or false"),
        ("capture_amount", "held", "booked or reversed"),
        ("capture_amount", None, "text, a whole number"),
        ("capture_amount", True, "booked or reversed"),
        ("capture_by", ["book_total"], "text, a whole number"),
        ("reference_tag", "ac", "two capitals"),
        ("reference_tag", 12, "two capitals"),
        ("charset", "cp1252", "cp437, latin-1 or utf-8"),
        ("framing", "7E1", "8N1 or 8N2"),
        ("baud", 9601, "one of 9600, 19200"),
        ("baud", True, "one of 9600, 19200"),
        ("baud_fallback", "9600,19200", "rates with blanks"),
        ("baud_fallback", False, "rates with blanks"),
        ("tcp_port", 0, "1 to 65535"),
        ("tcp_port", True, "1 to 65535"),
        ("print_columns", 8, "16 to 64"),
        ("min_amount_minor", 0, "1 to"),
        ("scheduled_reboot", "24:00", "HH:MM"),
        ("scheduled_reboot", 180, "HH:MM"),
        ("unsupported", "69 3", "commands with blanks"),
        ("unsupported", 1683, "commands with blanks"),
        ("name", "mine", "one of abort, aid_in_booking"),
        ("title", "mine", "did you mean"),
        ("nothing", 1, "one of abort, aid_in_booking"),
        ("capture_bye", "book_total", "did you mean capture_by?"),
    ],
)
def test_options_that_cannot_be_used(key: str, value: object, wanted: str) -> None:
    error = refused("generic", {key: value})
    assert wanted in error.expected
    assert key in error.seen
    assert error.remedy


def test_a_profile_nobody_has() -> None:
    error = refused("nexo", {})
    assert error.seen == "no ZVT profile nexo"
    assert error.expected.startswith("one of ") and "feig_cvend, generic" in error.expected
    assert "option profile" in refused("generic", {"profile": 7}).seen


# --- a technician's own file ----------------------------------------------------------------------

OWN = """\
format: voltill-zvt-profile-1
title: Acme till
base: feig_cvend
settings:
  capture_by: {value: book_total, source: "seen: Acme 3 in Hamburg"}
  baud: {value: 115200, source: "manual: Acme till, page 9"}
  unsupported: {value: "0693", source: "assumed: as its brother"}
"""


def test_a_new_family_is_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "acme.yaml"
    path.write_text(OWN)
    for profile in (
        load_profile(str(path), {}),
        load_profile("generic", {"profile": str(path)}),
    ):
        assert (profile.name, profile.title) == ("acme", "Acme till")
        assert (profile.capture_by, profile.baud) == ("book_total", 115_200)
        assert profile.unsupported == ("0693",)
        assert profile.reference_tag == "AC", "what it does not say is its base's"
        assert profile.payment_type == "40", "or its base's base's"
    one = load_profile("generic", {"profile": str(path), "baud": 19_200})
    assert (one.name, one.baud) == ("acme", 19_200)


@pytest.mark.parametrize(
    ("old", "new", "line", "wanted"),
    [
        ("voltill-zvt-profile-1", "voltill-zvt-profile-2", 1, "expected one of voltill-zvt"),
        ("title: Acme till\n", "", 1, "title: missing"),
        ("title: Acme till", "title: ''", 2, "expected text"),
        ("base: feig_cvend", "base: feig_cvent", 3, "did you mean feig_cvend?"),
        ("base: feig_cvend\n", "", 1, "base: missing"),
        ("settings:", "setings:", 4, "setings: not known; did you mean settings?"),
        ("  baud:", "  bauds:", 6, "bauds: not known; did you mean baud?"),
        ("  baud:", "  capture_by:", 6, "capture_by: written twice"),
        ("value: book_total", "value: [book_total]", 5, "expected one value"),
        ("value: book_total", "value: NO", 5, "put it in quotes"),
        ("value: book_total", "value: book", 5, "capture_by: 'book': expected partial_reversal or"),
        ("value: book_total", "val: book_total", 5, "did you mean value?"),
        ("value: 115200", "value: 12:30", 6, "put it in quotes"),
        ("value: 115200", "value: 1.5", 6, "put it in quotes"),
        ("value: 115200", 'value: "115200"', 6, "expected one of 9600"),
        (', source: "manual: Acme till, page 9"', "", 6, "source: missing"),
        ('"manual: Acme till, page 9"', "guess", 6, "baud: 'guess': expected \"digest 5.1\""),
        ('"manual: Acme till, page 9"', '"assumed: "', 6, 'expected "digest 5.1"'),
        ("value: 115200", "value: &a 115200", 6, "anchors, aliases and tags"),
        ("base:", "base: [", 4, "not YAML"),
    ],
)
def test_a_file_that_cannot_be_used(
    tmp_path: Path, old: str, new: str, line: int, wanted: str
) -> None:
    assert old in OWN
    path = tmp_path / "acme.yaml"
    path.write_text(OWN.replace(old, new))
    error = refused(str(path), {})
    assert f"{path}:{line}: " in error.seen
    assert wanted in error.seen
    assert str(path) in error.remedy


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "acme.yaml"
    assert "cannot be read: No such file" in refused(str(path), {}).seen
    path.write_bytes(OWN.encode() + b"#" * 65_536)
    assert "larger than 65536 bytes" in refused(str(path), {}).seen
    path.write_bytes(b"title: \xff")
    assert "not UTF-8" in refused(str(path), {}).seen


def test_generic_may_leave_nothing_out(tmp_path: Path) -> None:
    """A file called generic has no base to fall back on, and says which base it takes otherwise."""
    path = tmp_path / "generic.yaml"
    path.write_text(OWN.replace("base: feig_cvend\n", ""))
    error = refused(str(path), {})
    assert "payment_type: missing; a profile without base says all" in error.seen
