"""Sections read from plain data: what is let through, and that everything wrong is said where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from agent.settings.shape import (
    After,
    AfterIn,
    Before,
    Finding,
    Limits,
    Section,
    Unfit,
    read,
    setting,
)

HERE = Path("/etc/voltill")


def _number(value: Any) -> int:
    if not isinstance(value, str):
        raise Unfit("WRONG_KIND", seen="is no text", expected="digits")
    return int(value)


def _even(value: int) -> int:
    if value % 2:
        raise Unfit("NOT_ALLOWED", seen="is odd", expected="an even number")
    return value


Even = Annotated[int, Before(_number), After(_even)]


class Inner(Section):
    """A section in a section."""

    even: Even = setting(description="an even number")
    word: Literal["a", "b"] = setting(default="a", description="a word")


class Outer(Section):
    """A section of every kind of setting."""

    few: Annotated[int, Before(_number), Limits(ge=2)] | None = setting(
        default=None, description="few", le=4
    )
    inner: Inner | None = setting(default=None, description="inner")
    many: list[Even] = setting(default=["2"], description="many", min_length=1, max_length=2)
    named: dict[Literal["x", "y"], Inner] = setting(default_factory=dict, description="named")
    path: Annotated[Path, AfterIn(lambda value, folder: folder / value)] = setting(
        default=HERE, description="path"
    )

    def agree(self) -> None:
        if self.few == 4 and self.inner is None:
            raise Unfit("NOT_ALLOWED", seen="four without inner", expected="inner")


def told(data: object) -> list[tuple[Any, ...]]:
    """Where and what, for data that is refused."""
    section, found = read(Outer, data, HERE)
    assert section is None
    return [(*one.steps, one.kind) for one in found]


def test_what_is_written_becomes_values() -> None:
    data = {"few": "3", "inner": {"even": "2"}, "many": ["4", "6"], "path": "a"}
    section, found = read(Outer, data | {"named": {"x": {"even": "8", "word": "b"}}}, HERE)
    assert not found
    assert section == Outer(
        few=3,
        inner=Inner(even=2),
        many=[4, 6],
        named={"x": Inner(even=8, word="b")},
        path=HERE / "a",
    )


def test_defaults_are_not_shared() -> None:
    first, _ = read(Outer, {}, HERE)
    second, _ = read(Outer, {}, HERE)
    assert first is not None
    assert second is not None
    first.many.append(1)
    first.named["x"] = Inner(even=2)
    assert (second.many, second.named) == (["2"], {})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([], [("not_a_section",)]),
        ({"few": "1"}, [("few", "too_low")]),
        ({"few": "5"}, [("few", "too_high")]),
        ({"few": None}, []),
        ({"inner": None}, []),
        ({"inner": "x"}, [("inner", "not_a_section")]),
        ({"inner": {}}, [("inner", "even", "missing")]),
        ({"inner": {"even": "1"}}, [("inner", "even", "NOT_ALLOWED")]),
        ({"inner": {"even": "2", "word": "c"}}, [("inner", "word", "none_of")]),
        ({"many": None}, [("many", "not_a_list")]),
        ({"many": []}, [("many", "too_few")]),
        ({"many": ["2", "2", "2"]}, [("many", "too_many")]),
        ({"many": ["1", "2", {}]}, [("many", 0, "NOT_ALLOWED"), ("many", 2, "WRONG_KIND")]),
        ({"named": ["x"]}, [("named", "not_a_section")]),
        ({"few": "4"}, [("NOT_ALLOWED",)]),
        # What a section must agree on is asked only where each of its settings is right.
        ({"few": "4", "many": []}, [("many", "too_few")]),
        (
            {"nothing": 1, "inner": {"even": "1", "more": 1}, "many": "2"},
            [
                ("inner", "even", "NOT_ALLOWED"),
                ("inner", "more", "unknown"),
                ("many", "not_a_list"),
                ("nothing", "unknown"),
            ],
        ),
    ],
)
def test_all_that_is_wrong_at_its_place(data: object, expected: list[tuple[Any, ...]]) -> None:
    if expected:
        assert told(data) == expected
    else:
        assert read(Outer, data, HERE)[1] == []


def test_a_name_that_is_wrong() -> None:
    _, found = read(Outer, {"named": {"z": {"even": "1"}}}, HERE)
    words = {"words": ["x", "y"]}
    assert found[0] == Finding(("named", "z"), "none_of", words, in_key=True)
    assert found[1].steps == ("named", "z", "even")


def test_nothing_changes_after_loading() -> None:
    inner = Inner(even=2)
    with pytest.raises(AttributeError, match=r"Inner\.even: settings do not change"):
        inner.even = 4  # type: ignore[misc]
    with pytest.raises(AttributeError, match=r"Inner\.even: settings do not change"):
        del inner.even
    assert inner.but(even=4) == Inner(even=4) != inner
    assert repr(inner) == "Inner(even=2, word='a')"


def test_a_section_made_by_hand_is_whole() -> None:
    with pytest.raises(TypeError, match="even is missing"):
        Inner(word="a")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no such setting: odd"):
        Inner(even=2, odd=1)  # type: ignore[call-arg]
