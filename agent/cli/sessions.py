"""voltill sessions list | show | receipt | ocmf | close | free"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent.cli.common import (
    FAILED,
    config_option,
    fail,
    from_ledger,
    json_option,
    kwh,
    print_json,
    state_option,
    table,
)
from agent.cli.wording import SessionId, echo, how, money, references
from agent.ledger import Ledger


@click.group()
def command() -> None:
    """List, show and receipt of sessions; take one off the list of what stands open."""


@command.command("list")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="How many, newest first.",
)
@state_option
@json_option
def list_(limit: int, state: Path, as_json: bool) -> None:
    """The last sessions, newest first."""
    from agent.station import queries

    rows: list[dict[str, Any]] = from_ledger(
        state, "sessions", lambda ledger: queries.sessions_list(ledger, limit), limit=limit
    )
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("No sessions yet.")
        return
    lines = [["SESSION", "EVSE", "STARTED UTC", "kWh", "CHARGED", "OWED", "SHORT", "STATE"]]
    for r in rows:
        cur = r["currency"]
        lines.append(
            [
                r["id"],
                _short(r["evse"] or "-"),
                (r["started"] or "")[5:16].replace("T", " "),
                kwh(r["energy_wh"]),
                money(r["captured_minor"] or None, cur),
                money(r["owed_minor"] or None, cur),
                money(r["shortfall_minor"] or None, cur),
                how(r) if r["state"] in ENDED else state_words(r),
            ]
        )
    click.echo(table(lines, right=frozenset({3, 4, 5, 6})))
    currencies = sorted({r["currency"] for r in rows} - {""})
    click.echo(f"Amounts in {', '.join(currencies)}. `voltill sessions show ID` tells the rest.")


EVSE_MOST = 9  # what is left of 80 columns


def _short(evse: str) -> str:
    """The end of an id tells connectors apart."""
    return evse if len(evse) <= EVSE_MOST else f"..{evse[2 - EVSE_MOST :]}"


ENDED = ("settled", "closed", "unresolved")


def state_words(row: dict[str, Any]) -> str:
    """Of one that has not ended: where it stands."""
    known = row["payment"] if row["payment"] not in ("held", "authorizing") else row["state"]
    return how(row) if known != row["state"] else str(known).replace("_", " ")


@command.command("show")
@click.argument("session_id", type=SessionId())
@state_option
@json_option
def show(session_id: str, state: Path, as_json: bool) -> None:
    """The whole story of one session, every event with its time."""
    from agent.station import queries

    found: dict[str, Any] | None = from_ledger(
        state, "session", lambda ledger: queries.session_show(ledger, session_id), id=session_id
    )
    if found is None:
        raise fail(f"STA-012: no session {session_id} in {state}; see `voltill sessions list`")
    if as_json:
        print_json(found)
        return
    _print_head(found)
    _print_references(found)
    click.echo("")
    _print_events(found["events"])
    for record in found["records"]:
        click.echo(f"record {record['seq']} ({record['type']}) {record['hash'][:16]}...")
    for who in dict.fromkeys(v["signed_by"] for v in found["signed_values"]):
        click.echo(f"readings signed by the {who}: voltill sessions ocmf {session_id}")
    if amiss := found["meter_signing"]:
        echo(f"{amiss['id']}: signature of the meter: {amiss['why']}", 0)
    if missing := found["signed_values_missing"]:
        echo(f"{missing['id']}: no signed readings: {missing['why']}", 0)


def _print_head(found: dict[str, Any]) -> None:
    cur = found["currency"]
    where = f"on {found['evse']}" if found["evse"] else "without a connector"
    click.echo(f"Session {found['id']} {where}: {found['state']}")
    if not found.get("readable", True):
        echo(
            "STA-002: this version cannot read all of it; what follows is what it can read. Nothing is sent"
            " for it.",
            2,
        )
    for label in ("started", "ended"):
        if found[label]:
            click.echo(f"  {label:<9} {found[label][:19].replace('T', ' ')} UTC")
    click.echo(f"  energy    {kwh(found['energy_wh'])} kWh, stopped: {found['stop_reason'] or '-'}")
    for label, key in (
        ("held", "held_minor"),
        ("cost", "cost_minor"),
        ("charged", "captured_minor"),
        ("released", "released_minor"),
        ("shortfall", "shortfall_minor"),
        ("owed", "owed_minor"),
        ("by hand", "closed_minor"),
    ):
        if found[key]:
            click.echo(f"  {label:<9} {money(found[key], cur)} {cur}")
    if not found["amount_known"]:
        click.echo("  held      unknown amount")
    click.echo(f"  payment   {how(found)}")
    for text in dict.fromkeys((found["reason"], found["why"])):
        if text:
            echo(text, 12)


def _print_references(found: dict[str, Any]) -> None:
    if refs := references(found):
        click.echo(f"  hold      at {found['terminal']}:")
        echo(refs, 4)
    if found["result"]:
        click.echo("  how it ended, by the terminal:")
        echo(references(found | {"card_name": None, "card_last4": None} | found["result"]), 4)
    if found["hold_left_open"]:
        echo(f"Its hold may still be open. {ends_hold(found)}", 2)


def ends_hold(found: dict[str, Any]) -> str:
    """Of one that the station could not go on with, it never takes up the hold again."""
    if found["aside"]:
        return "See that it is ended at the terminal or the acquirer."
    return f"Free it: voltill sessions free {found['id']}"


# The quality of the clock behind a time.
CLOCKS = {"trusted": "", "restored": "~", "unknown": "?"}


def _print_events(events: list[dict[str, Any]]) -> None:
    click.echo(f"{'#':>4}  {'TIME (UTC)':<24}  {'EVENT':<18}  STATE")
    marks = set()
    for event in events:
        mark = CLOCKS.get(event["stamp"]["quality"], "?")
        marks.add(mark)
        time = event["time"][:23].replace("T", " ") + mark
        click.echo(f"{event['n']:>4}  {time:<24}  {event['name']:<18}  {event['state']}")
        if brief := _brief(event["data"]):
            echo(brief, 6)
    if "~" in marks:
        click.echo(
            "~ the clock went on from what was stored last, and was not set by a time server"
        )
    if "?" in marks:
        click.echo("? the clock was not set: only the time between events counts")


def _brief(data: dict[str, Any]) -> str:
    """Plain values of an event on one line; nested ones are for --json."""
    return " ".join(
        f"{key}={value}"
        for key, value in data.items()
        if isinstance(value, int | str) and value != ""
    )


@command.command("receipt")
@click.argument("session_id", type=SessionId())
@click.option("--width", type=click.IntRange(24, 48), default=40, show_default=True)
@click.option("--language", help="As the station's first language unless given.")
@config_option
@state_option
@json_option
def receipt(
    session_id: str, width: int, language: str | None, config: Path, state: Path, as_json: bool
) -> None:
    """The receipt of one session as text."""
    from agent.cli.settings_file import settings_or_exit
    from agent.station import queries
    from agent.station.receipts import receipt_text
    from agent.trust import known_keys

    settings = settings_or_exit(config)
    events: list[dict[str, Any]] | None = from_ledger(
        state, "events", lambda ledger: queries.events_json(ledger, session_id), id=session_id
    )
    if not events:
        raise fail(f"STA-012: no session {session_id} in {state}; see `voltill sessions list`")
    try:
        session = queries.session_from_json(session_id, events)
    except (ValueError, TypeError, KeyError):
        raise fail(
            f"STA-002: this version cannot read session {session_id}; see `voltill sessions show"
            f" {session_id}`"
        ) from None
    if events[0]["name"] == "foreign":
        raise fail(
            f"STA-052: session {session_id} is a hold that no driver of this station made; there is no"
            " receipt of it"
        )
    key = known_keys.newest(state / known_keys.NAME)
    text = receipt_text(session, settings, width, language, key)
    if as_json:
        print_json({"session": session_id, "width": width, "lines": text.splitlines()})
    else:
        click.echo(text)


@command.command("ocmf")
@click.argument("session_id", type=SessionId())
@click.option("--xml", is_flag=True, help="As the file that the transparency software opens.")
@state_option
@json_option
def ocmf(session_id: str, xml: bool, state: Path, as_json: bool) -> None:
    """The signed readings of one session, byte for byte, one on each line. `voltill ocmf verify -` takes
    them; with --xml the public key is beside them."""
    from agent.station import queries
    from agent.trust.ocmf.container import Value, write

    found: dict[str, Any] | None = from_ledger(
        state, "session", lambda ledger: queries.session_show(ledger, session_id), id=session_id
    )
    if found is None:
        raise fail(f"STA-012: no session {session_id} in {state}; see `voltill sessions list`")
    values = found["signed_values"]
    if not values:
        missing = found["signed_values_missing"]
        why = f"{missing['id']}: {missing['why']}" if missing else "it has no record with readings"
        raise fail(f"STA-061: session {session_id} has no signed readings; {why}")
    if as_json:
        print_json(values)
    elif xml:
        found_xml = write([Value(value["text"], value["public_key"]) for value in values])
        click.echo(found_xml.encode())
    else:
        # As bytes: a terminal's coding must not touch what is signed.
        click.echo("\n".join(value["text"] for value in values).encode())


@command.command("close")
@click.argument("session_id", type=SessionId())
@click.option(
    "--as",
    "how",
    type=click.Choice(["paid", "written-off"]),
    required=True,
    help="paid: collected in another way; written-off: never.",
)
@click.option("--note", required=True, help="How, by whom, under which reference: it is recorded.")
@config_option
@state_option
@json_option
def close(session_id: str, how: str, note: str, config: Path, state: Path, as_json: bool) -> None:
    """Take a session off the list of what stands open (`voltill status`), also one that was set aside. A
    signed record says so, and who said it; nothing is sent to the terminal."""
    from agent.ledger import LedgerError
    from agent.station import by_hand
    from agent.trust.keys import KeyRefused

    def stopped(ledger: Ledger) -> dict[str, Any]:
        from agent.cli.settings_file import settings_or_exit
        from agent.session.summary import summary
        from agent.station.clock import SystemClock
        from agent.station.key_source import record_key

        key = record_key(settings_or_exit(config)).open()
        try:
            now = SystemClock().stamp()
            return summary(by_hand.close(ledger, key, session_id, data, now))
        finally:
            key.close()

    try:
        data = by_hand.data(how.replace("-", "_"), note, _user())
        found: dict[str, Any] = from_ledger(state, "close", stopped, id=session_id, **data)
    except (by_hand.NotClosed, LedgerError, KeyRefused) as error:
        raise fail(str(error)) from None
    if as_json:
        print_json(found)
    else:
        amount = f"{money(found['closed_minor'], found['currency'])} {found['currency']}"
        said = amount if found["amount_known"] else "unknown amount"
        click.echo(f"Session {session_id}: {how}, {said}")
        if found["hold_left_open"]:
            held = f" of {money(found['held_minor'], found['currency'])} {found['currency']}"
            click.echo(
                f"  Its hold{held if found['amount_known'] else ''} was neither charged nor released."
            )
            echo(f"{references(found)}, at {found['terminal']}", 2)
            echo(ends_hold(found), 2)


def _user() -> str:
    """Who gives the command, as the machine knows him; through sudo the one who asked for it."""
    import os
    import pwd

    asked = os.environ.get("SUDO_USER", "") if os.getuid() == 0 else ""
    if asked:
        return asked
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


FREE_ANSWER_S = 180.0  # the service waits for the terminal and its host


@command.command("free")
@click.argument("session_id", type=SessionId())
@state_option
@json_option
def free(session_id: str, state: Path, as_json: bool) -> None:
    """Free the hold of a session that is listed as refused, failed or away (`voltill status`). At the
    terminal that replaced the one with the hold this is its command for holds of others. Once ordered the
    hold is never charged: what it was for stays listed as owed. Needs the running service."""

    def stopped(_: Ledger) -> dict[str, Any]:
        raise fail(
            "STA-045: only the running service can tell a terminal to free a hold; start it first"
        )

    found: dict[str, Any] = from_ledger(
        state, "free", stopped, id=session_id, answer_s=FREE_ANSWER_S
    )
    cur = found["currency"]
    freed = found["released_minor"] or found["payment"] in ("released", "cancelled")
    if as_json:
        print_json(found)
    else:
        known = found["amount_known"] or not freed
        released = f"{money(found['released_minor'], cur)} {cur}" if known else "all of it"
        click.echo(
            f"Session {found['id']}: {found['state']} ({how(found)}), released"
            f" {released}, owed {money(found['owed_minor'], cur)} {cur}"
        )
        if found["why"]:
            echo(found["why"], 2)
    if not freed:
        raise click.exceptions.Exit(FAILED)
