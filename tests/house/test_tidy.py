"""House rules that no linter knows: lengths, clocks, broad handlers, floats near money, stray words."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.tree import ROOT, python_files, relative, text_files

SHIPPED = python_files("agent", "bench", "drivers", "hil", "packaging", "simulate")

MODULE_LINES = 400
# Tables of data in files of their own may be longer: cutting them would hide, not help. Each with its reason.
LONG_TABLES: dict[str, str] = {}

FUNCTION_LINES = 70

# The one place that reads clocks. Simulators and rigs (hil, packaging) are not the agent.
CLOCK_MODULE = "agent/station/clock.py"
BANNED_CALLS = {
    ("time", "time"), ("time", "time_ns"), ("time", "sleep"), ("datetime", "now"), ("datetime", "utcnow"),
    ("datetime", "today"), ("date", "today"),
}  # fmt: skip

# A handler for everything belongs at a task's boundary, where it is logged and escalated: (file, function).
TASK_BOUNDARIES: dict[tuple[str, str], str] = {
    (
        "hil/backend/service.py",
        "_on_message",
    ): "paho's thread would swallow it; here it ends the process",
    ("agent/station/device_thread.py", "call"): "what a thread raises belongs to who waits for it",
    ("simulate/loop.py", "work"): "what a thread raises belongs to who waits for it",
}

MONEY_ROOMS = ("agent/values/", "agent/tariff/", "agent/session/")

FILE_BYTES = 200_000


def is_long(name: str, source: str) -> Iterator[str]:
    lines = source.count("\n")
    if lines > MODULE_LINES and name not in LONG_TABLES:
        yield f"{name}: {lines} lines; {MODULE_LINES} are the limit (tables: LONG_TABLES)"


def has_long_function(name: str, source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {lines} lines; {FUNCTION_LINES} are the limit"


def reads_a_clock(name: str, source: str) -> Iterator[str]:
    if name == CLOCK_MODULE or not name.startswith(("agent/", "drivers/")):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            banned = [alias.name for alias in node.names if ("time", alias.name) in BANNED_CALLS]
            if banned:
                yield f"{name}:{node.lineno}: from time import {', '.join(banned)}"
        if isinstance(node, ast.Attribute):
            owner = (
                node.value.attr
                if isinstance(node.value, ast.Attribute)
                else getattr(node.value, "id", "")
            )
            if (owner, node.attr) in BANNED_CALLS:
                yield f"{name}:{node.lineno}: {owner}.{node.attr} outside {CLOCK_MODULE}"


def catches_everything(name: str, source: str) -> Iterator[str]:
    tree = ast.parse(source)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in ast.walk(tree):
        if (
            not isinstance(node, ast.ExceptHandler)
            or not _is_broad(node.type)
            or _raises_again(node)
        ):
            continue
        holders = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
        function = max(holders, key=lambda f: f.lineno).name if holders else "<module>"
        if (name, function) not in TASK_BOUNDARIES:
            yield f"{name}:{node.lineno}: {function} catches everything and is no named task boundary"


def _is_broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(getattr(k, "id", "") in ("Exception", "BaseException") for k in kinds)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def has_float_near_money(name: str, source: str) -> Iterator[str]:
    if not name.startswith(MONEY_ROOMS):
        return
    for node in ast.walk(ast.parse(source)):
        is_name = isinstance(node, ast.Name) and node.id == "float"
        is_literal = isinstance(node, ast.Constant) and isinstance(node.value, float)
        if (is_name and not _only_refuses(node, source)) or is_literal:
            yield f"{name}:{node.lineno}: a float where money and billed energy are computed"


def _only_refuses(node: ast.expr, source: str) -> bool:
    """isinstance(x, float) is how a float is kept out."""
    return "isinstance" in source.splitlines()[node.lineno - 1]


Rule = Callable[[str, str], Iterator[str]]
RULES: list[Rule] = [
    is_long,
    has_long_function,
    reads_a_clock,
    catches_everything,
    has_float_near_money,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule: Rule) -> None:
    problems = [text for path in SHIPPED for text in rule(relative(path), path.read_text())]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (is_long, "agent/x.py", "pass\n" * (MODULE_LINES + 1)),
        (has_long_function, "hil/x.py", "def f():\n" + "    pass\n" * FUNCTION_LINES),
        (has_long_function, "hil/x.py", "async def f():\n" + "    pass\n" * FUNCTION_LINES),
        (reads_a_clock, "agent/station/x.py", "import time\nt = time.time()"),
        (reads_a_clock, "drivers/x.py", "from time import sleep"),
        (reads_a_clock, "agent/x.py", "datetime.datetime.now()"),
        (reads_a_clock, "agent/x.py", "clock = time.time_ns"),
        (catches_everything, "agent/x.py", "try:\n    f()\nexcept:\n    pass"),
        (
            catches_everything,
            "drivers/x.py",
            "try:\n    f()\nexcept (OSError, Exception):\n    pass",
        ),
        (
            catches_everything,
            "hil/x.py",
            "try:\n    f()\nexcept BaseException as e:\n    raise X from e",
        ),
        (has_float_near_money, "agent/tariff/x.py", "cost = float(text)"),
        (has_float_near_money, "agent/values/x.py", "half = 0.5"),
        (has_float_near_money, "agent/session/x.py", "def f(cost: float) -> None: ..."),
    ],
)
def test_the_rule_sees_what_it_forbids(rule: Rule, name: str, source: str) -> None:
    assert len(list(rule(name, source))) == 1


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (is_long, "agent/x.py", "pass\n" * MODULE_LINES),
        (has_long_function, "agent/x.py", "def f():\n" + "    pass\n" * (FUNCTION_LINES - 1)),
        (reads_a_clock, CLOCK_MODULE, "time.time()"),
        (reads_a_clock, "hil/x.py", "time.sleep(1)"),
        (
            catches_everything,
            "agent/x.py",
            "try:\n    f()\nexcept BaseException:\n    g()\n    raise",
        ),
        (has_float_near_money, "agent/tariff/x.py", "if isinstance(value, float): raise TypeError"),
        (has_float_near_money, "agent/uplink/x.py", "wait_s = 0.5"),
    ],
)
def test_the_rule_lets_pass_what_is_allowed(rule: Rule, name: str, source: str) -> None:
    assert list(rule(name, source)) == []


def test_exemptions_still_exist() -> None:
    assert [name for name in LONG_TABLES if not (ROOT / name).exists()] == []
    for name, function in TASK_BOUNDARIES:
        source = (ROOT / name).read_text()
        handlers = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ExceptHandler)]
        assert any(_is_broad(h.type) for h in handlers), f"{name}: {function} needs no exemption"


# Spelled so that this file does not hold what it looks for.
STRAY = {
    "a path of one machine": re.compile(
        r"(?<![\w.])/(?:wo" + r"rk|ho" + r"me/\w+|ro" + r"ot|Us" + r"ers)/"
    ),
    "a package registry's host": re.compile(
        "|".join(
            ("py" + r"pi\.org", "python" + "hosted", r"registry\.np" + "m", r"deb\.deb" + "ian")
        )
    ),
    "a note to ourselves": re.compile(r"\b(?:T" + r"ODO|FIX" + r"ME)\b"),
    "a file that is not shipped": re.compile(r"(?<![\w/])fac" + r"ts/\w+\.md|\bdes" + r"ign\.md"),
    "a control character": re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"),
}


def stray_words(name: str, text: str) -> list[str]:
    return [
        f"{name}:{number}: {what}: {line.strip()[:80]!r}"
        for number, line in enumerate(text.split("\n"), start=1)
        for what, pattern in STRAY.items()
        if pattern.search(line)
    ]


def test_no_stray_words_in_the_tree() -> None:
    problems: list[str] = []
    for path in text_files():
        try:
            problems += stray_words(relative(path), path.read_text())
        except UnicodeDecodeError:
            problems.append(f"{relative(path)}: no UTF-8 text")
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    "line",
    [
        "see /wo" + "rk/main",
        "open('/ro" + "ot/x')",
        "https://py" + "pi.org/simple",
        "# TO" + "DO later",
        "as fac" + "ts/zvt.md says",
        "bell \x07",
    ],
)
def test_stray_words_are_seen(line: str) -> None:
    assert len(stray_words("x", line)) == 1


def test_no_large_files() -> None:
    large = [
        f"{relative(p)}: {p.stat().st_size}" for p in text_files() if p.stat().st_size > FILE_BYTES
    ]
    assert [text for text in large if ".lock:" not in text] == []


def test_the_packaging_folder_is_no_package() -> None:
    """It stands on sys.path under the name of a package from PyPI that pytest itself imports."""
    assert not (ROOT / "packaging" / "__init__.py").exists()


def test_tests_are_uniquely_named() -> None:
    names = [path.name for path in python_files("tests") if path.name.startswith("test_")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
    assert [relative(path) for path in Path(ROOT, "tests").rglob("__init__.py")] == []
