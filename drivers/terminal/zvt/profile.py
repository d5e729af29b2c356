"""Terminal families as data: what differs between makes stands in one YAML file each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files

import yaml

from agent.ports import DeviceUnavailable

PACKAGE = "drivers.terminal.zvt.profiles"
_HEX_BYTE = re.compile(r"[0-9A-Fa-f]{2}")
_HEX_FIELDS = frozenset(
    {
        "config_byte",
        "payment_type",
        "read_control",
        "read_technologies",
        "read_dialog",
        "status_service",
    }
)
_REFERENCE = re.compile(r"([A-Z0-9]{2})?")
_CAPTURE_AMOUNTS = ("booked", "reversed")


@dataclass(frozen=True, slots=True)
class Profile:
    """Hex values are text without 0x, as the manuals print them.

    `config_byte`: 06 00, what the terminal may do by itself. `payment_type`: BMP 19 of money commands.
    `read_control` (1F15), `read_technologies` (1F60), `read_dialog` (FC): 06 C0. `reference_tag`: the
    two-letter name of our reference in E9/1F62, empty where it is not sent. `trace_in_reversal`: 0B (or
    1F2B) of the hold in 06 23 and 06 25. `release_payment_type`: BMP 19 in 06 23 and 06 25.
    `status_service`: BMP 03 of 05 01. `print_blocks`: offer 06 D3 in 06 00 (tag 26). `capture_amount`:
    what BMP 04 of the answer to 06 23 says, the amount "booked" or the part "reversed"."""

    name: str
    config_byte: str
    payment_type: str
    read_control: str
    read_technologies: str
    read_dialog: str
    reference_tag: str
    trace_in_reversal: bool
    release_payment_type: bool
    status_service: str
    print_blocks: bool
    capture_amount: str


KINDS = {f.name: f.type for f in fields(Profile) if f.name != "name"}


def names() -> list[str]:
    return sorted(
        f.name.removesuffix(".yaml") for f in files(PACKAGE).iterdir() if f.name.endswith(".yaml")
    )


def load_profile(name: str, options: Mapping[str, object]) -> Profile:
    """The profile `name`, single settings replaced by `options`. Raises DeviceUnavailable TRM-010."""
    if name not in names():
        raise DeviceUnavailable(
            "TRM-010", f"no ZVT profile {name}", f"one of {', '.join(names())}", "correct `profile`"
        )
    data = yaml.safe_load((files(PACKAGE) / f"{name}.yaml").read_text())
    values = {**data, **options}
    for key, value in values.items():
        wanted = _wanted(key, value)
        if wanted is not None:
            raise DeviceUnavailable(
                "TRM-010", f"terminal option {key}: {value!r}", wanted, "correct `options`"
            )
    return Profile(name=name, **values)


def _wanted(key: str, value: object) -> str | None:
    """What was expected instead; None when it is right."""
    kind = KINDS.get(key)
    if kind is None:
        return f"one of {', '.join(sorted(KINDS))}"
    if kind == "bool":
        return None if isinstance(value, bool) else "true or false"
    text = value if isinstance(value, str) else None
    if key in _HEX_FIELDS:
        fits = text is not None and _HEX_BYTE.fullmatch(text) is not None
        return None if fits else 'two hex digits in quotes, such as "40"'
    if key == "capture_amount":
        return None if text in _CAPTURE_AMOUNTS else " or ".join(_CAPTURE_AMOUNTS)
    fits = text is not None and _REFERENCE.fullmatch(text) is not None
    return None if fits else 'two capitals or digits, or "" for none'
