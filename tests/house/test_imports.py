"""The import rule of docs/architecture.md, read off the syntax trees."""

import ast
from pathlib import Path

import pytest
from support.tree import module_name, python_files, relative

OURS = ("agent", "drivers", "hil", "simulate")

# Longest prefix wins. What a room may import of ours; itself is always allowed.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "agent": ("agent",),
    "agent.values": (),
    "agent.ports": ("agent.values",),
    "agent.tariff": ("agent.values",),
    "agent.session": ("agent.values",),
    "drivers": ("agent.values", "agent.ports"),
    "hil": (),
    # A tool for development: it runs the shipped agent among hil's simulators. Nobody imports it.
    "simulate": ("agent", "drivers", "hil"),
}

# The rooms at the top of the ring: what lies below must not call back up.
TOP_ROOMS = ("agent.station", "agent.cli", "agent.console")
OUTSIDE_THE_RING = ("simulate",)

PURE_ROOMS = ("agent.values", "agent.tariff", "agent.session")
IMPURE_MODULES = {
    "asyncio", "concurrent", "logging", "os", "pathlib", "random", "secrets", "selectors", "shutil", "signal",
    "socket", "sqlite3", "subprocess", "tempfile", "threading", "time", "apsw", "paho", "serial", "structlog",
}  # fmt: skip


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def room_of(module: str) -> str:
    return max((room for room in MAY_IMPORT if inside(module, room)), key=len)


def imported(tree: ast.AST, package: str) -> list[tuple[int, str]]:
    """(line, module) of every import, `from a import b` as a.b too, and of modules named to import_module."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and node.args:
            name = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                found.append((node.lineno, str(first.value)))
    return found


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    package = module if is_package else module.rpartition(".")[0]
    room = room_of(module)
    allowed = (room, *MAY_IMPORT[room])
    problems = []
    for line, name in imported(ast.parse(source), package):
        top = name.split(".")[0]
        if top in OURS and not any(inside(name, other) for other in allowed):
            problems.append(f"{line}: {module} may not import {name}")
        elif any(inside(name, r) for r in TOP_ROOMS) and not any(
            inside(module, r) for r in (*TOP_ROOMS, *OUTSIDE_THE_RING)
        ):
            problems.append(f"{line}: {module} may not import {name}: no step calls back up")
        elif top in IMPURE_MODULES and any(inside(module, pure) for pure in PURE_ROOMS):
            problems.append(f"{line}: {module} is pure and may not import {name}")
    return problems


@pytest.mark.parametrize("path", python_files(*OURS), ids=relative)
def test_every_module_keeps_the_import_rule(path: Path) -> None:
    assert (
        violations(module_name(path), path.read_text(), is_package=path.name == "__init__.py") == []
    )


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("agent.values.money", "from agent.ports import Meter"),
        ("agent.tariff.price", "import agent.session"),
        ("agent.session.states", "from agent.tariff import price"),
        ("agent.session.states", "from .. import ledger"),
        ("agent.ledger.ledger", "from drivers.line import Line"),
        ("agent.station.station", "import hil.broker"),
        ("agent.station.drivers", "importlib.import_module('drivers.evse')"),
        ("agent.uplink.uplink", "from agent.station.clock import Clock"),
        ("drivers.evse.phoenix_rtu", "from agent.ledger import Ledger"),
        ("drivers.evse.phoenix_rtu", "def f():\n    from hil.common import proc"),
        ("hil.terminal.simulator", "from drivers.terminal.zvt import frames"),
        ("hil.verify.verify", "import agent.trust"),
        ("agent.session.session", "import asyncio"),
        ("agent.station.build", "from simulate.loop import VirtualLoop"),
        ("hil.terminal.simulator", "from simulate import disk"),
        ("agent.values.stamp", "from time import time"),
    ],
)
def test_the_rule_sees_what_it_forbids(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("agent.session.session", "from agent.values import Money\nfrom .states import State"),
        ("agent.station.station", "from agent.ledger import Ledger"),
        ("agent.cli.main", "from agent.station import station"),
        ("drivers.evse.phoenix_rtu", "from agent.ports import Evse\nfrom drivers.meter import rtu"),
        ("hil.terminal.simulator", "from hil.common import control\nimport asyncio"),
        (
            "simulate.world",
            "from agent.station.station import Station\nimport drivers.line, hil.verify",
        ),
    ],
)
def test_the_rule_lets_pass_what_is_allowed(module: str, source: str) -> None:
    assert violations(module, source) == []
