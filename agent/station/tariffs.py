"""The tariffs that sessions began by. A file that changes while a car charges does not change its price, nor
does a restart in between."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable

from agent.ledger import AsyncLedger
from agent.session import S, Session
from agent.tariff import Tariff
from agent.tariff.stored import digest, from_text, to_text

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


def kept_names(text: str | None) -> frozenset[str]:
    """Of the tariffs in what is stored under KEY."""
    return frozenset(json.loads(text or "{}"))


class Tariffs:
    """`current`: what the next session begins by. `name`: of its text, empty until that is kept."""

    def __init__(self, current: Tariff) -> None:
        self.current, self.name = current, ""
        self._kept = {digest(current): current}

    def of(self, session: Session) -> Tariff:
        """What a session is priced by. One that names none began before tariffs were kept."""
        return self._kept.get(session.tariff_hash, self.current)

    def surely_of(self, session: Session) -> Tariff | None:
        """The same, and None where it is not known for certain."""
        return self._kept.get(session.tariff_hash)

    def knows(self, session: Session) -> bool:
        return can_be_priced(session, self._kept)

    async def load(self, ledger: AsyncLedger) -> None:
        """What was kept. A text that cannot be read any more is left out: see `knows`."""
        for name, text in json.loads(await ledger.meta_get(KEY) or "{}").items():
            try:
                self._kept.setdefault(name, from_text(text))
            except ValueError:
                continue

    async def keep(
        self, ledger: AsyncLedger, sessions: Iterable[Session], all_of: bool = False
    ) -> None:
        """Before a session can begin by the current one; forgets what no open session began by, except with
        `all_of`. Raises LedgerError."""
        current = digest(self.current)
        wanted = {current, *(s.tariff_hash for s in sessions)}
        self._kept = {n: tariff for n, tariff in self._kept.items() if all_of or n in wanted}
        text = json.dumps({name: to_text(tariff) for name, tariff in sorted(self._kept.items())})
        if text != await ledger.meta_get(KEY):
            await ledger.meta_set(KEY, text)
        self.name = current
