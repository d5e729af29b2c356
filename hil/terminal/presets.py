"""`--vendor NAME`: what is known about terminal families, as switches.

Each entry says where it is known from. ASSUMED means that no public source says so and the value only
makes the preset a likely terminal of that kind; a preset is no measurement of a real device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hil.terminal.switches import Switches

ASSUMED = "assumed"
SPEC = "PA00P015 13.08"
FEIG = "captures and code of EVerest/zvt (Feig cVEND)"
CARD_COMPLETE = "card complete, deviations from ZVT, v22 (2020)"
ECRTERM = "wirelane/ecrterm and its users"


@dataclass(frozen=True, slots=True)
class Setting:
    switch: str
    value: Any
    source: str


def _settings(source: str, **switches: Any) -> tuple[Setting, ...]:
    return tuple(Setting(name, value, source) for name, value in switches.items())


PRESETS: dict[str, tuple[Setting, ...]] = {
    "generic": _settings(
        SPEC,
        print_before_result=False,
        trace_required=True,
        strict_read_type=True,
        set_clock_in_diagnosis=True,
    ),
    "feig": (
        *_settings(
            FEIG,
            print_before_result=True,
            strict_ll=True,
            cancel_amount="zero",
            set_tid="pretends",
            extended_error_utf8=True,
            trace_required=False,
        ),
        *_settings(ECRTERM, uninitialised_code=0xDF),
        *_settings(ASSUMED, eod_open_holds="refuses", max_holds=4, wrong_password="abort"),
    ),
    "ccv": (
        *_settings("report on a CCV IM30 after a firmware update", random_refusal_permille=20),
        *_settings(ASSUMED, wrong_password="1e", partial_reversal=False, trace_required=True),
    ),
    "valina": (
        *_settings("dumps of bezahl-online/zvt (Worldline VALINA)", card_in_status=True),
        *_settings(
            CARD_COMPLETE,
            text_charset="latin-1",
            print_tags=True,
            wrong_password_code=0x37,
            eod_completion="e0",
            eod_open_holds="charges_full",
        ),
        *_settings(ASSUMED, partial_reversal=False, baud_after_reboot="9600"),
    ),
    "cardcomplete": _settings(
        CARD_COMPLETE,
        text_charset="latin-1",
        print_tags=True,
        print_before_result=False,
        wrong_password_code=0x37,
        password_digits=5,
        unsupported="0691 0693 0850",
        diagnosis_type_required=True,
        read_limit_s=64_800.0,
        card_in_status=True,
        baud_after_reboot="9600",
        cancel_amount="reversed",
        eod_open_holds="charges_full",
        eod_due_blocks_read=True,
        eod_completion="fc",
        repeat_after_eod="nothing",
        partial_issue="refuses",
    ),
    "ingenico": (
        *_settings(
            "field reports on Ingenico Move and Desk (lost results)", lost_result_permille=10
        ),
        *_settings(
            ASSUMED,
            auto_reversal="next_transaction",
            print_before_result=False,
            enquiry="one",
            eod_open_holds="refuses",
        ),
    ),
    "verifone": (
        *_settings("field reports on Verifone VX820 over TCP", tcp_idle_s=1.5),
        *_settings(ASSUMED, tcp_chunk=536, print_before_result=False, max_holds=10),
    ),
    "pax": (
        *_settings(
            "field reports on PAX A80 (Global Payments)",
            reversal="last",
            abort="refused",
            repeat_needs_control=True,
        ),
        *_settings(ASSUMED, print_before_result=False, enquiry="one"),
    ),
}


def apply_preset(name: str, switches: Switches) -> None:
    """Raises ValueError for an unknown vendor."""
    if name not in PRESETS:
        raise ValueError(f"no vendor {name!r}; known: {', '.join(sorted(PRESETS))}")
    for setting in PRESETS[name]:
        switches.change(setting.switch, setting.value)


def preset_help() -> dict[str, dict[str, str]]:
    """Each preset: its switches with value and source."""
    return {
        name: {item.switch: f"{item.value!r} ({item.source})" for item in settings}
        for name, settings in PRESETS.items()
    }
