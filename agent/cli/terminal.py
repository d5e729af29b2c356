"""voltill terminal status | show | read-card | open-holds | end-of-day"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import FAILED, OK, WARNING, print_json, table
from agent.cli.terminal_way import Answer, Bench, Given, Place, at_terminal, which_terminal
from agent.ports import CardKind, DeviceUnavailable
from agent.values import Money

if TYPE_CHECKING:
    from agent.session import Session

SHOW_LINES_MOST = 8  # ZVT 06 E0 carries lines F1 to F8
CARD_READ_MOST_S = 15  # the port's longest single wait
END_OF_DAY_S = 15 * 60.0  # a host takes minutes, and an update may follow


@click.group()
def command() -> None:
    """Look after one card terminal.

    While the service runs it has the terminal's port, and these commands go through it. While it is
    stopped they take the terminal from the configuration; with --port, --password-file and --currency
    they need none. Card numbers, tokens and UIDs are never shown."""


# --- status ---------------------------------------------------------------------------------------


@command.command("status")
@which_terminal
def status(given: Given, as_json: bool) -> None:
    """Who is there, and whether it takes payments. Exit code 1 when it wants something first, 2 when it
    does not answer."""

    from agent.station.terminal_view import identity_json, unreachable_json

    async def work(bench: Bench) -> Answer:
        return _settings(bench.place) | identity_json(bench.identity)

    def lost(place: Place, error: DeviceUnavailable) -> Answer:
        return _settings(place) | unreachable_json(str(error))

    found = at_terminal(given, "status", work, lost=lost)
    if as_json:
        print_json(found)
    else:
        _print_status(found)
    if found["trouble"]:
        raise click.exceptions.Exit(FAILED)
    raise click.exceptions.Exit(OK if found["ready"] and not found["needs"] else WARNING)


def _settings(place: Place) -> Answer:
    spec, line = place.spec, place.spec.line
    return {
        "terminal": place.name or None,
        "protocol": place.protocol,
        "profile": spec.profile,
        "port": line.port,
        "baud": line.baud,
        "framing": line.framing,
        "currency": spec.currency,
        "through": "direct",
    }


def _print_status(found: Answer) -> None:
    name = found["terminal"] or found["port"]
    if found["trouble"]:
        state = "out of order"
    elif found["ready"]:
        state = "ready"
    else:
        state = f"not ready: {found['status_text']} ({found['status_code'].upper()})"
    click.echo(f"Terminal {name}: {state}")
    if found["trouble"]:
        click.echo(f"  {found['trouble']}")
    where = found["port"]
    if "://" not in where:
        where += f" at {found['baud']} {found['framing']}"
    way = "through the running service" if found["through"] == "service" else "directly"
    rows = [
        ("TID", found["tid"] or "unknown"),
        ("model", found["model"] or "unknown"),
        ("serial", found["serial"] or "unknown"),
        ("software", found["software"] or "unknown"),
        ("port", f"{where}, {way}"),
        ("profile", f"{found['profile']} ({found['protocol']}), {found['currency']}"),
    ]
    if found.get("sessions"):
        rows.append(("sessions", ", ".join(found["sessions"])))
    if found.get("unexplained"):
        receipts = ", ".join(f"{r:04d}" for r in found["unexplained"])
        rows.append(("strange", f"holds nobody here made: receipts {receipts}"))
    if found.get("end_of_day"):
        rows.append(("last", _day_line(found["end_of_day"])))
    rows += [("next", text) for text in found["next"]]
    for label, text in rows:
        click.echo(f"  {label:<9} {text}")


# --- show -----------------------------------------------------------------------------------------


@command.command("show")
@click.argument("lines", nargs=-1, required=True, metavar="LINE...")
@click.option(
    "--for",
    "for_s",
    type=click.IntRange(1, 240),
    default=10,
    show_default=True,
    help="How many seconds the text stays.",
)
@which_terminal
def show(given: Given, as_json: bool, lines: tuple[str, ...], for_s: int) -> None:
    """Show up to eight lines on the terminal's display."""
    if len(lines) > SHOW_LINES_MOST:
        raise click.UsageError(f"{len(lines)} lines; a display takes at most {SHOW_LINES_MOST}")

    async def work(bench: Bench) -> Answer:
        await bench.terminal.show(lines, for_s)
        return {"terminal": bench.place.name or None, "lines": list(lines), "for_s": for_s}

    found = at_terminal(given, "show", work, lines=list(lines), for_s=for_s)
    if as_json:
        print_json(found)
    else:
        click.echo(f"Shown for {found['for_s']} s.")


# --- read-card ------------------------------------------------------------------------------------


@command.command("read-card")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.IntRange(1, 120),
    default=30,
    show_default=True,
    help="How many seconds to wait for a card.",
)
@which_terminal
def read_card(given: Given, as_json: bool, timeout_s: int) -> None:
    """Try the card reader: wait for one card, without any amount. No session begins, nothing is
    charged. Exit code 1 when no card came."""

    async def work(bench: Bench) -> Answer:
        from agent.station.terminal_view import card_json

        return {"terminal": bench.place.name or None} | card_json(
            await _wait_for_card(bench, timeout_s)
        )

    prompt = f"Hold a card to the reader, within {timeout_s} s ..."
    found = at_terminal(
        given, "read_card", work, answer_s=timeout_s, prompt=prompt, timeout_s=timeout_s
    )
    if as_json:
        print_json(found)
    elif not found["card"]:
        click.echo(f"No card within {timeout_s} s.")
    else:
        click.echo(_card_text(found))
    raise click.exceptions.Exit(OK if found["card"] else WARNING)


async def _wait_for_card(bench: Bench, timeout_s: int) -> Any:
    from agent.station.clock import SystemClock

    clock = SystemClock()
    until_ms = clock.boot_ms() + timeout_s * 1000
    while (left_ms := until_ms - clock.boot_ms()) > 0:
        wait_s = min(CARD_READ_MOST_S, max(1, left_ms // 1000))
        card = await bench.terminal.read_card(wait_s)
        if card is not None:
            return card
    return None


_KINDS = {
    CardKind.BANK: "Bank card",
    CardKind.RFID: "RFID card",
    CardKind.UNKNOWN: "A card of unknown kind",
}


def _card_text(found: Answer) -> str:
    name = " ".join(str(part) for part in (found["brand"], found["last4"]) if part)
    words = [_KINDS[CardKind(found["kind"])] + (f" {name}" if name else "")]
    if found["hmac"]:
        words.append(f"known again by its token (HMAC {found['hmac']}...)")
    elif found["token"]:
        words.append("known again by its token")
    else:
        words.append("without any token: it can start a session, but not stop one")
    return ", ".join(words) + "."


# --- open-holds -----------------------------------------------------------------------------------


@command.command("open-holds")
@which_terminal
def open_holds(given: Given, as_json: bool) -> None:
    """The holds that are open at the terminal, and the sessions they belong to. Exit code 1 when one
    belongs to none, or a session's hold is missing."""

    async def work(bench: Bench) -> Answer:
        from agent.station.terminal_view import holds_json

        holds = await bench.terminal.open_holds()
        found = holds_json(bench.identity.terminal_id, holds, await _sessions(bench))
        return {"terminal": bench.place.name or None} | found

    from agent.station.terminal_view import attention

    found = at_terminal(given, "open_holds", work)
    if as_json:
        print_json(found)
    else:
        _print_holds(found)
    raise click.exceptions.Exit(WARNING if attention(found) else OK)


async def _sessions(bench: Bench) -> list[Session] | None:
    """Sessions that may concern this terminal: with a name those of that name, else all."""
    from agent.station import queries

    if bench.ledger is None:
        return None
    found = await bench.ledger.use(queries.sessions_with_holds)
    return [s for s in found if not bench.place.name or s.terminal == bench.place.name]


def _print_holds(found: Answer) -> None:
    if not found["holds"]:
        click.echo(f"No open holds at terminal {found['tid'] or 'without TID'}.")
    else:
        rows = [["RECEIPT", "SESSION", "STATE", "HELD"]]
        for hold in found["holds"]:
            minor, currency = hold["held_minor"], hold["currency"]
            held = "" if minor is None or not currency else str(Money(minor, currency))
            session = hold["session"] or _unexplained(found, hold)
            rows.append([f"{hold['receipt']:04d}", session, hold["state"] or "", held])
        click.echo(table(rows))
    if not found["complete"]:
        click.echo("The terminal names only some of its holds; there may be more.")
    for missing in found["missing"]:
        click.echo(
            f"Session {missing['session']} counts on receipt {missing['receipt']:04d}, which the"
            " terminal no longer lists; `voltill sessions show` tells its story."
        )
    if found["unexplained"] and found["ledger"]:
        click.echo("Unexplained holds are left alone: find out who made them before ending them.")
    if found["unexplained"] and not found["ledger"]:
        click.echo("There is no ledger here (--state), so it cannot be told whose holds they are.")


def _unexplained(found: Answer, hold: Answer) -> str:
    if hold["maybe"]:
        return f"maybe {', '.join(hold['maybe'])}"
    return "nobody's here" if found["ledger"] else "unknown"


# --- end-of-day -----------------------------------------------------------------------------------

WHAT_IT_DOES = (
    "End of day closes the terminal's batch and hands it to the acquirer for clearing. It is refused\n"
    "while money is held there. It takes seconds to minutes; no card is taken meanwhile."
)


@command.command("end-of-day")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--again", is_flag=True, help="Order it although nobody knows how the last one ended (STA-035)."
)
@which_terminal
def end_of_day(given: Given, as_json: bool, yes: bool, again: bool) -> None:
    """Close the terminal's batch and show its totals. Refused while money is held there, unless the
    terminal's profile says that it keeps its holds. --json does not ask."""
    if not (yes or as_json):
        _confirm()

    async def work(bench: Bench) -> Answer:
        from agent.station.clock import SystemClock
        from agent.station.day_end import DayEnd, Unkept, day_json

        name = bench.place.name or bench.identity.terminal_id or "terminal"
        journal = Unkept() if bench.ledger is None else bench.ledger
        day = DayEnd(name, journal, SystemClock(), lambda *_, **__: None)
        await day.load()
        sessions = await _sessions(bench) or []
        return day_json(await day.order(bench.terminal, sessions, again=again))

    found = at_terminal(given, "end_of_day", work, answer_s=END_OF_DAY_S, again=again)
    if as_json:
        print_json(found)
    else:
        _print_day(found)
    raise click.exceptions.Exit(OK if found["outcome"] == "done" else FAILED)


def _confirm() -> None:
    click.echo(WHAT_IT_DOES, err=True)
    if not sys.stdin.isatty():
        raise click.UsageError("nothing was sent; say --yes to do it")
    if not click.confirm("Close the day?", err=True):
        click.echo("Nothing was sent.", err=True)
        raise click.exceptions.Exit(WARNING)


def _print_day(found: Answer) -> None:
    if found["outcome"] == "done":
        click.echo(f"The day of terminal {found['terminal']} is closed.")
        _print_totals(found["totals"])
        return
    code = f" ({found['code'].upper()})" if found["code"] else ""
    why = f"{found['why']}{code}"
    if found["outcome"] == "refused":
        click.echo(f"The terminal refused: {why}. Nothing was closed.", err=True)
    elif found["outcome"] == "not_sent":
        click.echo(f"Nothing was sent: {why}.", err=True)
    else:
        click.echo(
            f"How it ended is not known: {why}.\nThe terminal is asked as soon as it answers;"
            " `voltill status` tells. It is not ordered again by itself.",
            err=True,
        )


def _print_totals(totals: Answer | None) -> None:
    if totals is None or totals["total_minor"] is None:
        click.echo("It reported no totals.")
        return
    if not totals["brands"] and not totals["total_minor"]:
        click.echo("The batch was empty.")
        return
    currency = totals["currency"]
    rows = [["BRAND", "BOOKINGS", currency]]
    for brand in totals["brands"]:
        amount = Money(brand["amount_minor"], currency).text()
        rows.append([brand["brand"], str(brand["count"]), amount])
    count = str(sum(brand["count"] for brand in totals["brands"]))
    rows.append(["total", count, Money(totals["total_minor"], currency).text()])
    click.echo(table(rows, right=frozenset({1, 2})))
    first, last = totals["receipt_first"], totals["receipt_last"]
    if first and last:
        click.echo(
            f"Receipt {first:04d}." if first == last else f"Receipts {first:04d} to {last:04d}."
        )


def _day_line(day: Answer) -> str:
    from agent.cli.status import day_text

    return day_text(day)
