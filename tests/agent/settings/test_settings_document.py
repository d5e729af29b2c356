"""YAML is hostile until proven: what is refused, and at which line and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.settings.codes import CFG
from agent.settings.document import MAX_BYTES, Document, Scalar, parse, read
from agent.settings.problems import Problem, SettingsRefused, mask


def refused(text: str) -> Problem:
    with pytest.raises(SettingsRefused) as e:
        parse(text, "f.yaml", CFG)
    return e.value.problems[-1]


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("", "CFG-008", 0, 0),
        ("# only a comment\n", "CFG-008", 0, 0),
        ("just text\n", "CFG-012", 1, 1),
        ("- a\n- b\n", "CFG-012", 1, 1),
        ("a: &x 1\nb: *x\n", "CFG-005", 1, 4),
        ("a: 1\nb: *x\n", "CFG-005", 2, 4),
        ("a: !!python/object:os.system x\n", "CFG-005", 1, 4),
        ("a: 1\n---\nb: 2\n", "CFG-007", 2, 1),
        ("a:\n\tb: 1\n", "CFG-004", 2, 1),
        ("a: 1\n b: 2\n", "CFG-004", 2, 3),
        ("a: [1, 2\nb: 3\n", "CFG-004", 2, 2),
        ('a: "open\n', "CFG-004", 1, 9),
        ("a: 1\nb\n", "CFG-004", 2, 2),
        ("a: \x07\n", "CFG-003", 1, 4),
        ("a: " + "[" * 30 + "]" * 30, "CFG-006", 1, 23),
        ("a: " + "[" * 60_000, "CFG-006", 1, 23),
    ],
)
def test_refused_at_its_place(text: str, code: str, line: int, column: int) -> None:
    found = refused(text)
    assert (found.code, found.place.line, found.place.column) == (code, line, column), found.text()


def test_a_tab_is_called_a_tab() -> None:
    assert "a tab" in refused("station:\n\tid: x\n").seen


def test_bad_utf8_has_a_place(tmp_path: Path) -> None:
    path = tmp_path / "latin1.yaml"
    path.write_bytes("a: 1\nname: Müller\n".encode("latin-1"))
    with pytest.raises(SettingsRefused) as e:
        read(path, CFG, "configuration file")
    (found,) = e.value.problems
    assert (found.code, found.place.line, found.place.column) == ("CFG-003", 2, 8)
    assert "0xfc" in found.seen


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(path, CFG, "configuration file").data == {"a": "1"}


def test_size_is_bounded_before_parsing(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("#" * MAX_BYTES + "\n")
    with pytest.raises(SettingsRefused, match="CFG-002"):
        read(path, CFG, "configuration file")
    path.write_text("a: 1\n" + "#" * (MAX_BYTES - 5))
    assert read(path, CFG, "configuration file").data == {"a": "1"}


@pytest.mark.parametrize(("name", "said"), [("absent.yaml", "does not exist"), (".", "directory")])
def test_unreadable(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(SettingsRefused, match="CFG-001") as e:
        read(tmp_path / name, CFG, "configuration file")
    assert said in str(e.value)


def test_scalars_stay_what_was_written() -> None:
    text = "a: NO\nb: 12:30\nc: 017\nd: 0.4900\ne: 1_000\nf: 1e3\ng: 'true'\nh:\ni: 2026-01-01\n"
    doc = parse(text, "f.yaml", CFG)
    values = ["NO", "12:30", "017", "0.4900", "1_000", "1e3", "true", None, "2026-01-01"]
    assert list(doc.data.values()) == values
    plain = [isinstance(v, Scalar) and v.plain for v in doc.data.values()]
    assert plain == [True, True, True, True, True, True, False, False, True]


def test_twice_names_both_lines_and_keeps_the_first() -> None:
    doc = parse("a: 1\nb: 2\na: 3\n", "f.yaml", CFG)
    (found,) = doc.problems
    assert (found.code, found.place.line) == ("CFG-009", 3)
    assert "line 1" in found.seen
    assert doc.data["a"] == "1"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("    password: 123456", "    password: ******"),
        ("    password: 123456 # no", "    password: ****** # no"),
        ('{id: t1, "password": "12 34", baud: 9600}', '{id: t1, "password": *******, baud: 9600}'),
        ("  pasword: geheim", "  pasword: ******"),
        ("  paswort: geheim", "  paswort: ******"),
        ("  key: {credential: mqtt-key}", "  key: {credential: mqtt-key}"),
        ("  password: {file: zvt-password}", "  password: {file: zvt-password}"),
        ("keys: {record: {file: k.pem}}", "keys: {record: {file: k.pem}}"),
        ("a:\tb\x1b[31m", "a: b?[31m"),
    ],
)
def test_excerpts_show_no_secret_and_no_control_character(line: str, shown: str) -> None:
    assert mask(line) == shown


def test_a_secret_is_masked_in_a_syntax_error() -> None:
    found = refused("terminals:\n  password: 123456: 7\n")
    assert "123456" not in found.text()


def test_a_long_line_is_shown_around_the_fault() -> None:
    text = f"a: [{'x, ' * 2000}*y]\n"
    shown = refused(text).text()
    assert max(map(len, shown.splitlines())) < 130
    excerpt, caret = shown.splitlines()[1:3]
    assert excerpt[caret.index("^")] == "*"


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        doc = parse(text, "f.yaml", CFG)
    except SettingsRefused as e:
        assert str(e)
    else:
        assert isinstance(doc, Document)


@given(
    st.lists(
        st.sampled_from(
            ["a:", " ", "\n", "- ", "[", "]", "{", "}", "&x", "*x", "!t", '"', "'", "|", ">", "?"]
        ),
        max_size=60,
    )
)
def test_any_syntax_is_parsed_or_refused(parts: list[str]) -> None:
    try:
        parse("".join(parts), "f.yaml", CFG)
    except SettingsRefused as e:
        assert all(p.place.column >= 1 or not p.place.line for p in e.problems)
