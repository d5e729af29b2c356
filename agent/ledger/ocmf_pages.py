"""Which page (PG) of signed readings the record keys have used. SQL only: the caller holds the transaction.

A page is taken in the commit that stores the record with the signed text, and in no other: what was signed
and not stored has never left the process, so its page is still free (decision 0012)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import apsw

from agent.ledger.errors import LedgerError
from agent.ledger.rows import UsedPage
from agent.trust.plain import JSON

# A row of `meta` for each key, and one without a key. The pages count on over all of them: whoever reads the
# records sees a station that changed its key, and not one that began anew.
_PREFIX = "ocmf_page"
# The signed text is read as text here: what it says was looked at when it was made.
_NUMBER = re.compile(r"[0-9]{1,12}")
_PAGE = re.compile(r'"PG":"T([1-9][0-9]{0,11})"')
# Pages behind a loss count on from the seconds since then: no station makes a record a second.
EPOCH_S = 1_577_836_800  # 2020


def used(db: apsw.Connection) -> dict[str, int]:
    """The last page of each key; that of "" is where all began behind."""
    found = db.execute("SELECT key, value FROM meta WHERE key GLOB ?", (f"{_PREFIX}*",))
    # Rows that were salvaged from a damaged file may say anything.
    rows = [(key, value) for key, value in found if _NUMBER.fullmatch(value)]
    return {key.removeprefix(_PREFIX).removeprefix("."): int(value) for key, value in rows}


def last(pages: Mapping[str, int]) -> int:
    return max(pages.values(), default=0)


def check(db: apsw.Connection, page: UsedPage) -> None:
    """It is the next one. Raises LedgerError."""
    before = last(used(db))
    if page.number != before + 1:
        raise LedgerError(
            "LED-011",
            f"page {page.number} of key {page.kid[:16]} cannot follow page {before}; expected {before + 1}",
        )


def put(db: apsw.Connection, page: UsedPage) -> None:
    db.execute(
        "INSERT INTO meta(key, value) VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
        (f"{_PREFIX}.{page.kid}", str(page.number)),
    )


def begin_behind(db: apsw.Connection, page: int) -> None:
    """All keys go on behind `page`."""
    db.execute("DELETE FROM meta WHERE key GLOB ?", (f"{_PREFIX}*",))
    db.execute("INSERT INTO meta(key, value) VALUES (?, ?)", (_PREFIX, str(page)))


def named(body: Mapping[str, JSON]) -> int:
    """The highest page in what a session record carries; 0 for none."""
    values = body.get("signed_values")
    texts = (
        [v.get("text") for v in values if isinstance(v, dict)] if isinstance(values, list) else []
    )
    return max((_number(text) for text in texts if isinstance(text, str)), default=0)


def _number(text: str) -> int:
    found = _PAGE.search(text)
    return 0 if found is None else int(found[1])


def behind_loss(known: Iterable[int], utc_ms: int) -> int:
    """A page that certainly lies behind all that were used, those among them that were lost."""
    return max([0, utc_ms // 1000 - EPOCH_S, *known])
