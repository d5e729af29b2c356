"""Terminal families as data: what differs between makes stands in one YAML file each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.resources import files

import yaml

from agent.ports import DeviceUnavailable

PACKAGE = "drivers.terminal.zvt.profiles"


@dataclass(frozen=True, slots=True)
class Profile:
    """Hex values are text without 0x, as the manuals print them.

    `config_byte`: 06 00, what the terminal may do by itself. `payment_type`: BMP 19 of money commands.
    `read_control` (1F15), `read_technologies` (1F60), `read_dialog` (FC): 06 C0. `reference_tag`: the
    two-letter name of our reference in E9/1F62, empty where it is not sent. `trace_in_reversal`: 0B of
    the hold in 06 23 and 06 25. `release_payment_type`: BMP 19 in 06 23 and 06 25. `status_service`:
    BMP 03 of 05 01. `print_blocks`: offer 06 D3 in 06 00 (tag 26). `capture_amount`: what BMP 04 of the
    answer to 06 23 says, the amount "booked" or the part "reversed"."""

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
    display_lines: int
    display_columns: int


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
    profile = Profile(name=name, **data)
    known = {f.name: type(getattr(profile, f.name)) for f in fields(Profile)}
    for key, value in options.items():
        if key not in known or key == "name" or not isinstance(value, known[key]):
            wanted = known[key].__name__ if key in known else f"one of {', '.join(sorted(known))}"
            raise DeviceUnavailable(
                "TRM-010", f"terminal option {key}: {value!r}", wanted, "correct `options`"
            )
    return replace(profile, **dict(options))  # type: ignore[arg-type]  # checked just above
