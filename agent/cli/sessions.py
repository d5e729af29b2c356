"""voltill sessions list | show | receipt | close | free"""

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
from agent.ledger import Ledger
from agent.values import Money


@click.group()
def command() -> None:
    """List, show and receipt of sessions; take one off the list of what stands open."""


def _money(minor: int | None, currency: str) -> str:
    return "" if minor is None or not currency else Money(minor, currency).text()


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
    head = [
        "SESSION",
        "EVSE",
        "STATE",
        "STARTED (UTC)",
        "kWh",
        "CUR",
        "HELD",
        "CHARGED",
        "RELEASED",
    ]
    lines = [head]
    for r in rows:
        cur = r["currency"]
        lines.append(
            [
                r["id"],
                r["evse"] or "-",
                f"{r['state']} ({r['payment']})",
                (r["started"] or "")[:19].replace("T", " "),
                kwh(r["energy_wh"]),
                cur,
                _money(r["held_minor"], cur),
                _money(r["captured_minor"], cur),
                _money(r["released_minor"], cur),
            ]
        )
    click.echo(table(lines, right=frozenset({4, 6, 7, 8})))


@command.command("show")
@click.argument("session_id")
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
    cur = found["currency"]
    click.echo(f"Session {found['id']} on {found['evse'] or '-'}: {found['state']}")
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
            click.echo(f"  {label:<9} {_money(found[key], cur)} {cur}")
    click.echo(f"  payment   {found['payment']}" + (f" ({found['why']})" if found["why"] else ""))
    click.echo("")
    rows = [["#", "TIME (UTC)", "EVENT", "STATE", "DATA"]]
    for event in found["events"]:
        rows.append(
            [
                str(event["n"]),
                event["time"][11:23],
                event["name"],
                event["state"],
                _brief(event["data"]),
            ]
        )
    click.echo(table(rows, right=frozenset({0})))
    for record in found["records"]:
        click.echo(f"record {record['seq']} ({record['type']}) {record['hash'][:16]}...")


def _brief(data: dict[str, Any]) -> str:
    """Plain values of an event on one line; nested ones are for --json."""
    return " ".join(
        f"{key}={value}"
        for key, value in data.items()
        if isinstance(value, int | str) and value != ""
    )


@command.command("receipt")
@click.argument("session_id")
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
    session = queries.session_from_json(session_id, events)
    key = known_keys.newest(state / known_keys.NAME)
    text = receipt_text(session, settings, width, language, key)
    if as_json:
        print_json({"session": session_id, "width": width, "lines": text.splitlines()})
    else:
        click.echo(text)


@command.command("close")
@click.argument("session_id")
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
        amount = _money(found["closed_minor"], found["currency"])
        click.echo(f"Session {session_id}: {how}, {amount} {found['currency']}")
        if found["aside"] and found["held_minor"]:
            held = _money(found["held_minor"], found["currency"])
            click.echo(
                f"  Its hold of {held} {found['currency']} was neither charged nor released: see that it is"
                " ended at the terminal or the acquirer."
            )


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
@click.argument("session_id")
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
    if as_json:
        print_json(found)
    else:
        cur = found["currency"]
        click.echo(
            f"Session {session_id}: {found['state']} ({found['payment']}), released"
            f" {_money(found['released_minor'], cur)} {cur}, owed {_money(found['owed_minor'], cur)} {cur}"
        )
        if found["why"]:
            click.echo(f"  {found['why']}")
    if not found["released_minor"]:
        raise click.exceptions.Exit(FAILED)
