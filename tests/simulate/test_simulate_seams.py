"""Nothing of the agent is replaced in a simulation but the four seams."""

from __future__ import annotations

from typing import Any

from simulate import shipped
from simulate.episode import Episode
from simulate.make import Menu, make_plan
from simulate.place import Places
from simulate.seams import REPLACED, Board, installed, our_modules


def contents() -> dict[str, Any]:
    """Every attribute of every module of ours, and of every class in them, by name."""
    found: dict[str, Any] = {}
    for module_name, module in our_modules().items():
        for name, value in vars(module).items():
            if name.startswith("__"):
                continue
            found[f"{module_name}.{name}"] = value
            if isinstance(value, type) and value.__module__.split(".")[0] in ("agent", "drivers"):
                for inner, member in vars(value).items():
                    found[f"{module_name}.{name}.{inner}"] = member
    return found


def replaced(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """Name of what differs: what it was."""
    shipped_as = {}
    for name, value in before.items():
        if after.get(name, value) is not value:
            was = f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', '?')}"
            shipped_as[name] = was
    return shipped_as


def test_only_the_seams_differ_while_a_world_runs() -> None:
    shipped.import_all()
    before = contents()
    places = Places()
    with installed(Board()) as board:
        result = Episode(board, places, make_plan(1, Menu(faults=(), kills=False))).run()
        during = contents()
        modules = set(our_modules())
    places.close()
    assert not result.verdict.violations
    differs = replaced(before, during)
    assert set(differs.values()) == set(REPLACED)
    assert "drivers.terminal.zvt.terminal.open_line" in differs
    assert "agent.uplink.uplink.mqtt" in differs
    # A module that is first imported while a world runs would have escaped the seams.
    assert not modules - {name.rpartition(".")[0] for name in before} - set(our_modules())
    assert replaced(before, contents()) == {}


def test_the_comparison_sees_a_replaced_method(monkeypatch: Any) -> None:
    from agent.station.keeper import Keeper

    shipped.import_all()
    before = contents()
    monkeypatch.setattr(Keeper, "tell", lambda *_: None)
    assert list(replaced(before, contents())) != []
