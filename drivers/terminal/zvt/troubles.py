"""What a person is told when a terminal cannot be used: what was seen, what was expected, what to do."""

from __future__ import annotations

from agent.ports import DeviceUnavailable, LineSpec
from drivers.line import is_tcp
from drivers.terminal.zvt import outcomes as o
from drivers.terminal.zvt.codes import explain


def unusable(what: str, outcome: o.Outcome, line: LineSpec, garbage: str = "") -> DeviceUnavailable:
    """Of a command that did not end as it should."""
    if garbage:
        return _no_zvt(line, garbage)
    if isinstance(outcome, o.Broken):
        return _silent(what, outcome.why, line)
    if isinstance(outcome, o.Negative | o.Aborted):
        said = f"ended with {outcome.code:02X}, {explain(outcome.code)[1]}"
    else:
        said = outcome.why if isinstance(outcome, o.Disputed) else "ended without an answer"
    return DeviceUnavailable("TRM-007", f"{what}: {said}")


def _silent(what: str, why: str, line: LineSpec) -> DeviceUnavailable:
    tcp = is_tcp(line.port)
    return DeviceUnavailable(
        "TRM-006",
        f"no ZVT terminal answers on {line.port}: {what}: {why}",
        "a ZVT terminal" if tcp else f"a ZVT terminal at {line.baud} {line.framing}",
        "check address and port, and that the terminal is set to ZVT over TCP"
        if tcp
        else "check cable, speed and that the terminal is set to ZVT",
    )


def _no_zvt(line: LineSpec, garbage: str) -> DeviceUnavailable:
    return DeviceUnavailable(
        "TRM-013",
        f"{line.port} answers with {garbage}",
        "messages of ZVT over TCP",
        "set the terminal to ZVT over TCP/IP in its menu, or correct address and port",
    )


def wrong_currency(currency: str) -> DeviceUnavailable:
    return DeviceUnavailable(
        "TRM-011",
        f"the terminal refuses {currency}",
        "the currency that the terminal is set to",
        "correct `currency`, or have the terminal's operator change it",
    )


def registration_refused(code: int) -> DeviceUnavailable:
    return DeviceUnavailable(
        "TRM-005",
        f"the terminal refuses the registration ({code:02X}, {explain(code)[1]})",
        "the password that is set in the terminal",
        "correct `password`, or ask the terminal's operator",
    )
