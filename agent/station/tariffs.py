"""The tariffs that sessions began by. A file that changes while a car charges does not change its price, nor
does a restart in between."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable

from agent.ledger import AsyncLedger, LedgerError
from agent.session import S, Session
from agent.station.keeper import Log
from agent.tariff import Tariff
from agent.tariff.stored import digest, from_named, to_text

KEY = "tariffs"
# The price of a session is computed once, with the end of its energy.
UNPRICED = frozenset(
    {
        *(S.AUTHORIZING, S.APPROVED, S.HOLD_UNCLEAR, S.HELD, S.BEGINNING),
        *(S.STARTING, S.CHARGING, S.SUSPENDED, S.STOPPING, S.ENDING),
    }
)


def can_be_priced(session: Session, kept: Container[str]) -> bool:
    """False where the price of a session cannot be computed any more."""
    return session.state not in UNPRICED or not session.tariff_hash or session.tariff_hash in kept


def read_kept(text: str | None) -> tuple[dict[str, Tariff], dict[str, str]]:
    """By name, of what is stored under KEY: the tariffs, and the texts that cannot be read."""
    kept: dict[str, Tariff] = {}
    unread: dict[str, str] = {}
    for name, one in json.loads(text or "{}").items():
        try:
            kept[name] = from_named(name, one)
        except ValueError:
            unread[name] = one
    return kept, unread


def kept_names(text: str | None) -> frozenset[str]:
    """Of the tariffs in what is stored under KEY that can be read."""
    return frozenset(read_kept(text)[0])


class Tariffs:
    """`current`: what the next session begins by. `name`: of its text, empty until that is kept, and then
    `trouble` says why it could not be."""

    def __init__(self, current: Tariff) -> None:
        self.current, self.name, self.trouble = current, "", ""
        self._kept = {digest(current): current}
        self._unread: dict[
            str, str
        ] = {}  # of a newer version, or damaged: nothing is priced by these

    def of(self, session: Session) -> Tariff:
        """What a session is priced by. One that names none began before tariffs were kept."""
        return self._kept.get(session.tariff_hash, self.current)

    def surely_of(self, session: Session) -> Tariff | None:
        """The same, and None where it is not known for certain."""
        return self._kept.get(session.tariff_hash)

    def knows(self, session: Session) -> bool:
        return can_be_priced(session, self._kept)

    async def load(self, ledger: AsyncLedger) -> None:
        """What was kept. No session is priced by a text that cannot be read (see `knows`), but it stays as it
        is for the version that can."""
        kept, self._unread = read_kept(await ledger.meta_get(KEY))
        self._kept = kept | self._kept

    async def keep(
        self, ledger: AsyncLedger, sessions: Iterable[Session], log: Log, *, all_of: bool = False
    ) -> None:
        """Before a session can begin by the current one; forgets what no open session began by, except with
        `all_of`. On a full disk the sessions that run must be able to end: it is kept when there is room."""
        current = digest(self.current)
        wanted = {current, *(s.tariff_hash for s in sessions)}
        self._kept = {n: tariff for n, tariff in self._kept.items() if all_of or n in wanted}
        unread = {n: text for n, text in self._unread.items() if all_of or n in wanted}
        texts = unread | {name: to_text(tariff) for name, tariff in self._kept.items()}
        text = json.dumps(texts, sort_keys=True)
        try:
            if text != await ledger.meta_get(KEY):
                await ledger.meta_set(KEY, text)
        except LedgerError as error:
            if self.trouble != str(error):
                self.trouble = str(error)
                log("tariff_not_kept", level="warning", id=error.code, why=self.trouble)
            return
        self.name, self.trouble = current, ""
