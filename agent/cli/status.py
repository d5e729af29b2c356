"""voltill status"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent.cli.common import OK, WARNING, from_ledger, json_option, kwh, print_json, state_option
from agent.cli.status_buses import attention as buses_attention
from agent.cli.status_buses import print_buses
from agent.cli.wording import echo, how, money_in, references
from agent.ledger import Ledger
from agent.values import Money


@click.command()
@state_option
@json_option
def command(state: Path, as_json: bool) -> None:
    """Terminals, connectors, buses, uplink, and every hold that has not ended. Exit code 1 when something
    needs attention."""
    found: dict[str, Any] = from_ledger(state, "status", _offline)
    if as_json:
        print_json(found)
    else:
        _print(found)
    raise click.exceptions.Exit(WARNING if _attention(found) else OK)


def _offline(ledger: Ledger) -> dict[str, Any]:
    from agent.station import aside, queries
    from agent.station.clock import SystemClock

    alone = aside.listed(ledger)
    return {
        "running": False,
        "station": ledger.station,
        "terminals": [],
        "buses": [],
        "evses": [],
        "uplink": None,
        **queries.open_money(ledger, SystemClock().stamp()),
        "ends_of_day": queries.ends_of_day(ledger),
        "outbox": queries.outbox(ledger),
        "set_aside": {each["id"]: each["state"] for each in alone},
        "aside": alone,
        "stuck": [],
    }


DAY_UNCLEAR = ("ordered", "unknown")
UNSETTLED = ("capture_due", "release_due", "refused", "failed", "away")


def _attention(found: dict[str, Any]) -> bool:
    return (
        not found["running"]
        or any(t["trouble"] or t["strange_holds"] for t in found["terminals"])
        or buses_attention(found)
        or any(e["state"] in ("unknown", "fault") or e["meter"] != "ok" for e in found["evses"])
        or any(s["kind"] != "hold" or s["payment"] in UNSETTLED for s in found["open"])
        or any(day["outcome"] in DAY_UNCLEAR for day in found["ends_of_day"])
        or bool((found.get("record_key") or {}).get("trouble"))
        or bool(found["set_aside"] or found["stuck"] or _parked(found))
    )


def _parked(found: dict[str, Any]) -> int:
    """Records that the back end refused."""
    outbox = found["uplink"] or found.get("outbox") or {}
    return outbox.get("parked") or 0


def _print_key(found: dict[str, Any]) -> None:
    if trouble := (found.get("record_key") or {}).get("trouble"):
        echo(f"record key: {trouble}; no new sessions, records wait", 2, hang=2)


def _print(found: dict[str, Any]) -> None:
    running = "running" if found["running"] else "stopped (read from the ledger)"
    click.echo(f"Station {found['station']}: {running}")
    _print_key(found)
    for t in found["terminals"]:
        stands = t["trouble"] or "ready"
        echo(f"terminal {t['id']}: {stands} (TID {t['tid'] or 'unknown'})", 2, hang=2)
        if t["closing"]:
            click.echo(f"    its day is being ended ({t['closing']}): no new sessions")
        if t["strange_holds"]:
            click.echo(f"    holds nobody here made: receipts {t['strange_holds']}")
    for e in found["evses"]:
        line = f"  connector {e['id']}: {e['state']}, meter {e['meter']}"
        if e["register_wh"] is not None:
            line += f" {kwh(e['register_wh'])} kWh"
        if e["power_w"]:
            line += f", {e['power_w']} W"
        click.echo(line)
        if e["estop"] or e["faults"]:
            echo(", ".join(["emergency stop"] * e["estop"] + e["faults"]), 4)
    print_buses(found)
    if found["uplink"] is not None:
        _print_uplink(found["uplink"])
    for name in found["stuck"]:
        click.echo(f"  stuck: {name}")
    if not found["open"]:
        click.echo("No open sessions.")
    _print_open(found["open"], found["totals"])
    for day in found["ends_of_day"]:
        echo(day_text(day), 2, hang=2)
    known = {each["id"]: each for each in found.get("aside", ())}
    for session_id, stored in found["set_aside"].items():
        _print_aside(session_id, stored, known.get(session_id))


def _print_aside(session_id: str, stored: str, known: dict[str, Any] | None) -> None:
    """`known`: as aside.listed has it; a service of the version before does not tell."""
    if known is None or known["aside"] == "not_reproduced":
        click.echo(f"  session {session_id} set aside: stored state {stored} not reproduced")
    elif known["aside"] == "no_tariff":
        click.echo(f"  session {session_id} set aside: the prices it began by are lost, {stored}")
    else:
        click.echo(f"  session {session_id} set aside: salvaged, last known {stored}")
    receipt = None if known is None else known["hold"].get("receipt")
    if known is not None and receipt is not None:
        held = "unknown amount"
        if known["held_minor"] is not None:
            held = money_in(known["held_minor"], known["currency"])
        click.echo(f"    its hold: receipt {receipt} at {known['terminal']}, {held}; left alone")
    if known is not None:
        click.echo(f"    look at the hold, then: voltill sessions close {session_id}")


# In the order in which a person has to do something about them.
KINDS = (("receivable", "Owed"), ("unknown", "Not known how it ended"), ("hold", "Held"))
TOTALS = (
    ("receivables", "owed_minor", "owed"),
    ("unknowns", "unknown_minor", "unknown"),
    ("holds", "held_minor", "held"),
)


def _print_open(rows: list[dict[str, Any]], totals: list[dict[str, Any]]) -> None:
    for kind, heading in KINDS:
        mine = [s for s in rows if s["kind"] == kind]
        if mine:
            click.echo(f"{heading}:")
        for s in mine:
            _print_session(s)
    for total in totals:
        parts = [
            f"{word} {money_in(total[amount], total['currency'])} ({total[count]})"
            for count, amount, word in TOTALS
            if total[count]
        ]
        click.echo("Total: " + ", ".join(parts))
        if total.get("without_amount"):
            click.echo(f"  {total['without_amount']} of unknown amount")


def _print_session(s: dict[str, Any]) -> None:
    amount = money_in(s["amount_minor"], s["currency"]) if s["amount_known"] else "unknown amount"
    stands = s["state"].replace("_", " ")
    words = "" if how(s) in ("held", stands) else f" ({how(s)})"
    click.echo(f"  session {s['id']} {amount} for {age(s['age_s'])}, {stands}{words}")
    if s["next_try_s"] is not None:
        tries = f"{s['attempts']} {'try' if s['attempts'] == 1 else 'tries'}"
        of = f"{money_in(s['to_capture_minor'], s['currency'])} to charge, "
        echo(f"{of if s['to_capture_minor'] else ''}{tries}, the next in {age(s['next_try_s'])}", 4)
    for text in dict.fromkeys((s["reason"], s["why"])):
        if text:
            echo(text, 4)
    if refs := references(s):
        echo(f"{s['terminal']}: {refs}", 4)


def age(seconds: int | None) -> str:
    """The two largest units: "3 d 4 h", "12 min"."""
    if seconds is None:
        return "an unknown time"
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min"


def day_text(day: dict[str, Any]) -> str:
    """The last end of day of a terminal, as day_json has it."""
    when = (day["ended"] or day["ordered"])[:19].replace("T", " ")
    words = {"ordered": "not known how it ended", "unknown": "not known how it ended"}
    said = words.get(day["outcome"], day["outcome"].replace("_", " "))
    totals = day["totals"]
    if totals is not None and totals["total_minor"] is not None:
        count = sum(brand["count"] for brand in totals["brands"])
        money = Money(totals["total_minor"], totals["currency"])
        said += f", {count} booking{'' if count == 1 else 's'}, {money}"
    elif day["why"] and day["outcome"] != "done":
        said += f" ({day['why']})"
    return f"end of day of {day['terminal']} on {when} UTC: {said}"


def _print_uplink(uplink: dict[str, Any]) -> None:
    """See Uplink.status for the keys."""
    way = "connected" if uplink["connected"] else "not connected"
    since = "" if uplink["since_ms"] is None else f" for {uplink['since_ms'] // 1000} s"
    echo(f"uplink {uplink['url']}: {way}{since}, back end {uplink['backend']}", 2, hang=2)
    if uplink["unacked"] is not None:
        waiting = (
            f"{uplink['unacked']} records wait, acknowledged through {uplink['acked_through']}"
        )
        parked = f", {uplink['parked']} refused and parked" if uplink["parked"] else ""
        echo(f"{waiting}{parked}", 4)
    if uplink["trouble"] is not None:
        echo(f"{uplink['trouble']['id']}: {uplink['trouble']['text']}", 4)
    for code, text in uplink["alarms"].items():
        echo(f"{code}: {text}", 4)
