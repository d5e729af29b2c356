"""The driver's profiles and the simulator's presets were written apart, from the same sources. Where both
speak of the same thing they must not contradict each other."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from drivers.terminal.zvt.profile import Profile, load_profile, names
from hil.terminal.presets import PRESETS

PRESET_OF = {
    "feig_cvend": "feig",
    "ccv_im30": "ccv",
    "worldline_valina": "valina",
    "card_complete": "cardcomplete",
    "ingenico": "ingenico",
    "verifone": "verifone",
    "pax": "pax",
    "generic": "generic",
}
# From harmless to harmful: the driver may fear more than the simulator does, never less.
FEARS = ("keeps", "refuses", "cancels", "charges_full")

# Switch of the simulator -> whether the profile gets along with its value.
AGREES: Mapping[str, Callable[[Profile, Any], bool]] = {
    "partial_reversal": lambda p, may: may or p.capture_by == "book_total",
    "book_total": lambda p, may: may or p.capture_by == "partial_reversal",
    "trace_required": lambda p, must: p.trace_in_reversal or not must,
    "aid_required": lambda p, must: p.aid_in_booking or not must,
    "abort": lambda p, how: (p.abort == "never") == (how == "refused"),
    "eod_open_holds": lambda p, how: FEARS.index(p.eod_open_holds) >= FEARS.index(how),
    "text_charset": lambda p, charset: p.charset == charset,
    "print_before_result": lambda p, first: p.print_before_status == first,
    "tcp_idle_s": lambda p, idle_s: (p.tcp_idle == "close") == (idle_s is not None),
    "reversal": lambda p, which: p.reversal == which,
    "refund": lambda p, may: may or not p.refund,
    "unsupported": lambda p, commands: set(p.unsupported) == set(commands.split()),
    "partial_issue": lambda p, how: p.partial_issue == (how != "refuses"),
    "baud_after_reboot": lambda p, rate: rate == "keeps" or int(rate) in p.baud_fallback,
    "diagnosis_type_required": lambda p, must: bool(p.diagnosis_type) or not must,
    "repeat_needs_control": lambda p, must: not must or bool(int(p.config_byte, 16) & 0x20),
    "set_tid": lambda p, how: how != "refuses" or not p.tid_settable,
}


def contradictions(profile: Profile, preset: str) -> list[str]:
    switches = {setting.switch: setting.value for setting in PRESETS[preset]}
    return [
        name
        for name, agrees in AGREES.items()
        if name in switches and not agrees(profile, switches[name])
    ]


def test_every_profile_has_its_preset() -> None:
    assert set(PRESET_OF) == set(names())
    assert set(PRESET_OF.values()) == set(PRESETS)


@pytest.mark.parametrize(("name", "preset"), PRESET_OF.items())
def test_a_profile_and_its_preset_get_along(name: str, preset: str) -> None:
    assert not contradictions(load_profile(name, {}), preset)


@pytest.mark.parametrize(
    ("name", "wrong", "switch"),
    [
        ("worldline_valina", {"capture_by": "partial_reversal"}, "partial_reversal"),
        ("generic", {"trace_in_reversal": False}, "trace_required"),
        ("pax", {"abort": "cards"}, "abort"),
        ("card_complete", {"eod_open_holds": "refuses"}, "eod_open_holds"),
        ("card_complete", {"charset": "cp437"}, "text_charset"),
        ("feig_cvend", {"print_before_status": False}, "print_before_result"),
        ("verifone", {"tcp_idle": "keep"}, "tcp_idle_s"),
        ("pax", {"config_byte": "9E"}, "repeat_needs_control"),
        ("card_complete", {"baud_fallback": (115_200,)}, "baud_after_reboot"),
        ("card_complete", {"unsupported": ()}, "unsupported"),
    ],
)
def test_a_contradiction_is_seen(name: str, wrong: dict[str, Any], switch: str) -> None:
    profile = replace(load_profile(name, {}), **wrong)
    assert contradictions(profile, PRESET_OF[name]) == [switch]
