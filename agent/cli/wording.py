"""How the commands say what a session is, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import click

from agent.values import Money

COLUMNS = 80
ID_LENGTH = 10
# Ids have neither I nor L nor O: who reads one off a receipt takes 1 and 0 for them.
_ALIKE = str.maketrans("ILO", "110")
Row = Mapping[str, Any]  # as `summary` has it


class SessionId(click.ParamType[str]):
    name = "session_id"

    def convert(self, value: Any, *_: Any) -> str:
        text = str(value).strip().upper()
        return text.translate(_ALIKE) if len(text) == ID_LENGTH else text


def money(minor: int | None, currency: str) -> str:
    """Without the currency; empty where there is none."""
    return "" if minor is None or not currency else Money(minor, currency).text()


def money_in(minor: int, currency: str) -> str:
    return str(Money(minor, currency)) if currency else "-"


def how(row: Row) -> str:
    """How it was paid: a declined card is another thing than a refused capture."""
    payment, state = str(row["payment"]), row["state"]
    if payment == "refused":
        if state in ("settled", "closed"):
            return "declined"
        return "charge refused" if row["owed_minor"] else "not freed"
    words = {
        "failed": "given up",
        "foreign": "nobody's hold",
        "away": "terminal away",
        "unknown": "not known",
        "capture_due": "charge waits",
        "release_due": "release waits",
        "capturing": "capturing",
        "releasing": "freeing",
    }
    return words.get(payment, payment.replace("_", " "))


def references(row: Row) -> str:
    """What the hotline of a terminal or an acquirer asks for; empty where nothing was told."""
    if row.get("receipt") is None:
        return ""
    parts = [f"TID {row['tid'] or 'unknown'}", f"receipt {int(row['receipt']):04d}"]
    parts += [
        f"{word} {row[key]}"
        for key, word in (("trace", "trace"), ("turnover", "batch"))
        if row[key] is not None
    ]
    card = " ".join(
        [str(row["card_name"] or "")] * bool(row["card_name"])
        + [f"card ...{row['card_last4']}"] * bool(row["card_last4"])
    )
    return ", ".join([*parts, card] if card else parts)


def echo(text: str, indent: int, hang: int = 0) -> None:
    """`text` behind `indent` blanks, in lines that fit; all but the first stand `hang` further in."""
    click.echo(
        textwrap.fill(
            text,
            COLUMNS - 1,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + hang),
            break_long_words=False,
            break_on_hyphens=False,
        )
    )
