"""A profile is no wish list: every command can be built with every profile, and every setting is read."""

import ast
import inspect
from datetime import datetime
from pathlib import Path

import pytest

from agent.ports import HoldRef
from agent.values import Money
from drivers.terminal.zvt import commands
from drivers.terminal.zvt.apdu import Apdu
from drivers.terminal.zvt.codec import decode, encode
from drivers.terminal.zvt.profile import load_profile, names
from drivers.terminal.zvt.profile_schema import SETTINGS
from drivers.terminal.zvt.sequences import SEQUENCES

ROOT = Path(__file__).parents[3]
# What only the station, a technician or the page reads.
NOT_FOR_THE_DRIVER = {
    "baud": "the configuration names the line's own rate; this is the factory's",
    "framing": "as baud",
    "prints": "config_byte tells the terminal; loading a profile sees that both agree",
    "print_before_status": "for a person: the driver takes either order",
    "scheduled_reboot": "for a person who reads why the terminal went away",
}

# What commands are made of beside the profile.
SAMPLES: dict[str, object] = {
    "password": "123456",
    "currency": "EUR",
    "timeout_s": 10,
    "rate": 115_200,
    "on": True,
    "amount": Money(2500, "EUR"),
    "held": Money(2500, "EUR"),
    "rest": Money(1205, "EUR"),
    "add": Money(500, "EUR"),
    "reference": "384HH2",
    "aid": "750071",
    "trace": 975,
    "ref": HoldRef("52523535", 231, turnover=1, trace=975, date="0405", time="225558"),
    "kind": "02",
    "terminal_id": "52523535",
    "local": datetime(2026, 11, 21, 12, 4),
    "code": "de",
    "settings": [("ff41", b"\x01")],
    "sizes": {0x10: 1024},
    "lines": ["Grüße", "0,59 €/kWh"],
    "hold_s": 5,
}


def builders() -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(made, eval_str=True)
        for name in commands.__all__
        if inspect.isfunction(made := getattr(commands, name))
        and inspect.signature(made, eval_str=True).return_annotation is Apdu
    }


@pytest.mark.parametrize("name", names())
def test_every_command_can_be_built(name: str) -> None:
    profile = load_profile(name, {})
    found = builders()
    assert set(SEQUENCES) <= set(found)
    for command, signature in found.items():
        values = {
            key: profile if key == "profile" else SAMPLES[key]
            for key, parameter in signature.parameters.items()
            if parameter.default is inspect.Parameter.empty
        }
        made = getattr(commands, command)(**values)
        assert len(encode(made)) <= profile.max_apdu, command
        assert decode(encode(made)).command == made.command, command


def reads(path: Path) -> set[str]:
    """Settings that this module takes from something called a profile."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in SETTINGS:
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name.lstrip("_") == "profile":
                found.add(node.attr)
    return found


def test_every_setting_is_read_by_the_driver() -> None:
    used = set[str]()
    for path in sorted((ROOT / "drivers" / "terminal" / "zvt").glob("*.py")):
        if not path.name.startswith(("profile", "page")):
            used |= reads(path)
    assert set(SETTINGS) - used - set(NOT_FOR_THE_DRIVER) == set(), "settings that change nothing"
    assert not used & set(NOT_FOR_THE_DRIVER), "read after all; take them off the list"
    assert set(NOT_FOR_THE_DRIVER) <= set(SETTINGS)
