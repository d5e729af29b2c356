"""The buses in `voltill status`: how they do now, whose fault it looks like, what to take into the hand."""

from __future__ import annotations

from typing import Any

from agent.cli.wording import echo

# Below this share of the latest requests somebody should look; a bus that is well answers all of them.
GOOD_PERCENT = 95
# Fewer say nothing yet.
ENOUGH = 20

Told = dict[str, Any]


def bus_needs_attention(bus: Told) -> bool:
    """The line is gone, or one of our devices often gives no answer."""
    return bus["lost_for_ms"] is not None or any(
        unit["recent"] >= ENOUGH and 100 * unit["recent_answered"] < GOOD_PERCENT * unit["recent"]
        for unit in bus["units"].values()
    )


def print_bus(bus: Told) -> None:
    """See agent.station.bus_status for the keys."""
    serial = f" {bus['baud']} {bus['framing']}" if bus["baud"] else ""
    echo(f"bus {bus['name']} ({bus['port']}{serial}): {_stands(bus)}", 2, hang=2)
    if bus["lost_for_ms"] is not None:
        echo(f"{bus['lost_why']}: check adapter, cable and port name (MTR-001)", 4)
    if bus["bad_headers"]:
        echo(f"{bus['bad_headers']} times no Modbus TCP came: is the gateway set to it?", 4, hang=2)
    for unit, counted in bus["units"].items():
        _print_unit(unit, counted, len(bus["units"]) == 1)


def _stands(bus: Told) -> str:
    if bus["lost_for_ms"] is not None:
        return f"line lost for {bus['lost_for_ms'] // 1000} s"
    return _share(bus) if bus["recent"] else "nothing asked yet"


def _share(counted: Told) -> str:
    good, of = counted["recent_answered"], counted["recent"]
    if good == of:
        return f"all of the last {of} requests answered"
    return f"{good} of the last {of} requests answered ({100 * good // of} %)"


def _wrong(counted: Told) -> str:
    texts = (
        ("timeouts", "without reply"),
        ("bad_frames", "damaged or not ours"),
        ("exceptions", "refused"),
        ("late_replies", "answered too late"),
    )
    return ", ".join(f"{counted[name]} {text}" for name, text in texts if counted[name])


def _print_unit(unit: str, counted: Told, is_alone: bool) -> None:
    if not (wrong := _wrong(counted)):
        return
    who = counted["device"] or "nobody of ours"
    now = "" if is_alone or not counted["recent"] else f"{_share(counted)}; "
    echo(f"unit {unit}, {who}: {now}since the start {wrong}, of {counted['sent']}", 4, hang=2)
    if counted["recent_answered"] < counted["recent"]:
        echo(f"look at: {_remedy(counted)}", 6, hang=2)
    if counted["late_replies"]:
        late = f"up to {counted['latest_late_ms']} ms after the request"
        echo(f"late {late}; longest_reply_ms of its model must be more", 6, hang=2)


def _remedy(counted: Told) -> str:
    """By what happened most."""
    kinds = {name: counted[name] for name in ("timeouts", "bad_frames", "exceptions")}
    most = max(kinds, key=lambda name: kinds[name])
    if most == "exceptions":
        return "does the model fit the device? (MTR-004)"
    if most == "bad_frames":
        return "termination, shield, an address used twice, a second master (MTR-003)"
    if not counted["answered"]:
        return "its power, A and B swapped, address, speed and framing (MTR-002)"
    return "loose wires, termination, its power (MTR-002)"


def print_buses(found: Told) -> None:
    """None while the service is stopped, or from a service of the version before."""
    for bus in found.get("buses") or ():
        print_bus(bus)


def attention(found: Told) -> bool:
    return any(bus_needs_attention(bus) for bus in found.get("buses") or ())
