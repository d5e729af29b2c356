"""One line for every verb, switch and fault: `--help` and the verb `help`."""

from __future__ import annotations

from typing import Any

from hil.terminal.cards import CARDS
from hil.terminal.faults import FAULT_HELP
from hil.terminal.points import NAMES, STEPS
from hil.terminal.presets import preset_help
from hil.terminal.switches import switch_help

VERBS = {
    "tap": "{card, stay=false, how=contactless|chip|swipe} hold a card into the field",
    "remove_card": "take away a card that stays",
    "press_stop": "the STOP key while a card is awaited",
    "service_call": "{port, apdu, host=127.0.0.1} call the ECR over TCP, unasked; its answer",
    "press_key": "{key=ok|c|stop|f1..f4} a key while 06 E1 waits",
    "power_off": "cut the power at this moment",
    "power_on": "power comes back; only the store is left",
    "reboot": "{at=POINT, off_s=reboot_s} off and on, now or at a point of the next dialogue",
    "unplug": "pull the plug: the device is gone",
    "replug": "a new device under the same link",
    "lock": "{for_s, code=0xE0, style=aborts|silent} busy with itself for a while",
    "hold": "{at=POINT} stop the next dialogue there",
    "wait": "{at=POINT, timeout_s=10} until it is held there",
    "resume": "{break_link=false} go on; with a broken link what was sent meanwhile is lost",
    "fault": "{name, count=1, card=visa} spoil the next blocks; count -1: until cleared",
    "clear_faults": "no more faults",
    "refuse": "{command, code, count=1} the next commands of this name end with a code",
    "set": "{SWITCH: value, ...} change switches",
    "preset": "{vendor} set all switches of a vendor",
    "advance": "{days, hours, seconds} everybody's time goes on; holds may expire",
    "numbers": "{receipt, trace, turnover} what comes next; answers what it is",
    "foreign_hold": "{card, amount_minor, trace, aid, tid} a hold another terminal made",
    "state": "everything there is to see; complaints: what a good ECR never does",
    "ledger": "what the acquirer has booked",
    "help": "these lines",
}


def as_json() -> dict[str, Any]:
    return {
        "verbs": VERBS,
        "points": [f"{name}:<{'|'.join(STEPS)}>" for name in sorted(NAMES)],
        "faults": FAULT_HELP,
        "switches": switch_help(),
        "vendors": preset_help(),
        "cards": sorted(CARDS),
    }


def as_text() -> str:
    """For --help."""

    def table(rows: dict[str, str]) -> list[str]:
        return [f"  {name:<24} {line}" for name, line in rows.items()]

    lines = ['control verbs (one JSON object a line on the control socket, {"do": VERB, ...}):']
    lines += table(VERBS)
    lines += ["", f"points: <command>:<{'|'.join(STEPS)}>, commands"]
    lines += [f"  {' '.join(sorted(NAMES))}"]
    lines += ["", "faults of the line:", *table(FAULT_HELP)]
    lines += ["", "switches (--set name=value, or the verb set):", *table(switch_help())]
    lines += ["", "vendors (--vendor, or the verb preset) and what they set:"]
    for name, settings in preset_help().items():
        lines += [f"  {name}", *(f"    {switch} = {value}" for switch, value in settings.items())]
    lines += ["", f"cards: {' '.join(sorted(CARDS))}"]
    return "\n".join(lines)
