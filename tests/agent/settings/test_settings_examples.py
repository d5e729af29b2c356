"""The files in config/ are what they say, and the schemas for editors agree with the loader."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from agent.settings import (
    Severity,
    check,
    json_schema,
    load_settings,
    load_station,
    load_tariff,
    tariff_schema,
)
from agent.tariff import Usage, price

CONFIG = Path(__file__).parents[3] / "config"
EXAMPLES = ["station.yaml", "demo.yaml"]
Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("name", "made"), [("station.schema.json", json_schema), ("tariff.schema.json", tariff_schema)]
)
def test_schema_files_are_generated(name: str, made: Callable[[], dict[str, Any]]) -> None:
    """Made again with `voltill schema` after a change of the models."""
    assert json.loads((CONFIG / name).read_text("utf-8")) == made()
    Draft7Validator.check_schema(made())


def test_schema_has_nothing_draft_7_does_not_know() -> None:
    def keys(node: Any) -> Iterator[str]:
        if isinstance(node, list):
            for item in node:
                yield from keys(item)
        elif isinstance(node, dict):
            if "$ref" in node:
                assert set(node) == {"$ref"}, "draft 7 ignores what stands beside a $ref"
            for key, value in node.items():
                if key in ("properties", "definitions", "patternProperties"):
                    for item in value.values():
                        yield from keys(item)
                else:
                    yield key
                    yield from keys(value)

    known = set(Draft7Validator.META_SCHEMA["properties"])
    for schema in (json_schema(), tariff_schema()):
        assert set(keys(schema)) <= known


def as_an_editor_sees(path: Path) -> Any:
    """Parsed like yaml-language-server does: YAML 1.2, where NO and 12:30 are text."""

    class Editor(yaml.SafeLoader):
        pass

    Editor.yaml_implicit_resolvers = {
        first: [row for row in rows if row[0].rpartition(":")[2] in ("int", "float", "null")]
        for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return yaml.load(path.read_text("utf-8"), Editor)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_good_by_loader_and_schema(name: str) -> None:
    path = CONFIG / name
    load_settings(path)
    load_tariff(CONFIG / "tariffs/adhoc.yaml")
    first = path.read_text("utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=station.schema.json"
    errors = [
        e.message for e in Draft7Validator(json_schema()).iter_errors(as_an_editor_sees(path))
    ]
    assert errors == []
    tariff = as_an_editor_sees(CONFIG / "tariffs/adhoc.yaml")
    assert [e.message for e in Draft7Validator(tariff_schema()).iter_errors(tariff)] == []


def test_the_example_lacks_nothing_but_its_files() -> None:
    problems = check(CONFIG / "station.yaml")
    assert {p.code for p in problems} <= {"CFG-026", "CFG-029"}, problems
    assert load_tariff(CONFIG / "tariffs/adhoc.yaml") is not None


def test_the_example_shows_every_setting() -> None:
    """A technician finds each setting there, at least in a comment."""
    text = (CONFIG / "station.yaml").read_text("utf-8")
    shown_elsewhere = {"options"}  # depend on the driver

    schema = json_schema()
    names = {n for part in [schema, *schema["definitions"].values()] for n in part["properties"]}
    assert {n for n in names if f"{n}:" not in text} <= shown_elsewhere


def test_the_demo_starts_once_its_files_are_made(tmp_path: Path) -> None:
    config, run = tmp_path / "config", tmp_path / "run/demo"
    shutil.copytree(CONFIG, config)
    run.mkdir(parents=True)
    for name, mode in (("zvt-password", 0o600), ("record-key.pem", 0o600), ("backend.pem", 0o644)):
        (run / name).write_text("123456\n-----BEGIN PUBLIC KEY-----\n")
        (run / name).chmod(mode)
    loaded = load_station(config / "demo.yaml")
    assert loaded.warnings == ()
    s = loaded.settings
    assert s.terminals[0].port == str(run / "terminal")
    assert s.buses["rs485"].port == str(run / "bus")
    assert s.uplink is not None and s.uplink.url == "mqtt://127.0.0.1:18830"
    assert price(loaded.tariff, Usage(10_000)).total_minor == 525


@pytest.mark.parametrize(
    ("bus", "good"),
    [
        ({"port": "modbus-tcp://192.0.2.7"}, True),
        ({"port": "modbus-tcp://192.0.2.7", "baud": 9600}, False),
        ({"port": "modbus-tcp://192.0.2.7", "echo": "none"}, False),
        ({"port": "tcp://192.0.2.7:4001"}, False),
        ({"port": "/dev/energy-bus", "baud": 9600}, False),
        ({"port": "/dev/energy-bus", "baud": 9600, "framing": None}, False),
        ({"port": "/dev/energy-bus", "baud": 9600, "framing": "8N1"}, True),
    ],
)
def test_an_editor_knows_which_bus_needs_a_speed(bus: dict[str, object], good: bool) -> None:
    data = as_an_editor_sees(CONFIG / "demo.yaml")
    data["buses"]["rs485"] = bus
    assert Draft7Validator(json_schema()).is_valid(data) is good


def spoil(good: dict[str, Any], path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    bad = copy.deepcopy(good)
    node: Any = bad
    for step in path[:-1]:
        node = node[step]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return bad


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("station", "tennant"), "abc"),
        (("station", "id"), "a/b"),
        (("station", "languages"), ["xx"]),
        (("evses", 0, "max_power_w"), "22000"),
        (("evses", 0, "max_power_w"), 0),
        (("evses", 0, "evse", "unit"), 300),
        (("buses", "rs485", "baud"), 9601),
        (("buses", "R S"), {"port": "/dev/x", "baud": 9600, "framing": "8N1"}),
        (("terminals", 0, "currency"), "EURO"),
        (("terminals", 0, "currency"), None),
        (("terminals", 0, "password"), "123456"),
        (("payment", "hold", "amount"), 50.0),
        (("payment", "card_poll_s"), 16),
        (("tariff",), None),
    ],
)
def test_schema_and_loader_refuse_the_same(
    tmp_path: Path, path: tuple[str | int, ...], value: object
) -> None:
    good = as_an_editor_sees(CONFIG / "station.yaml")
    assert Draft7Validator(json_schema()).is_valid(good)
    bad = spoil(good, path, value)
    assert not Draft7Validator(json_schema()).is_valid(bad)
    file = tmp_path / "station.yaml"
    file.write_text(yaml.safe_dump(bad))
    assert any(p.severity is Severity.ERROR for p in check(file, files=False))
