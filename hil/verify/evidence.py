"""What the check looks at, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from hil.verify.price import TariffRules

ERROR, NOTE = "error", "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is stable; `where` names the session, record or receipt; a note does not fail the check."""

    code: str
    where: str
    text: str
    severity: str = ERROR

    def to_json(self) -> dict[str, str]:
        return {
            "code": self.code,
            "where": self.where,
            "text": self.text,
            "severity": self.severity,
        }


@dataclass(frozen=True, slots=True)
class Movement:
    """One line of the acquirer's ledger. `kind`: hold, increment, capture, release, auto_reversal,
    reversal, expiry, payment, refund, end_of_day. `reverses`: the kind a reversal takes back."""

    kind: str
    receipt: int
    hold_receipt: int
    trace: int
    turnover: int
    amount_minor: int
    released_minor: int | None
    currency: str
    tid: str
    reverses: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.tid}/{self.turnover}/{self.receipt}/{self.trace}"


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the back end's database."""

    station: str
    chain: str
    seq: int
    hash: str
    jws: str
    type: str


@dataclass(frozen=True, slots=True)
class Truth:
    """What the simulated meter really measured since its register stood at `start_wh`."""

    start_wh: int
    energy_mwh: int


@dataclass(slots=True)
class Evidence:
    """`sessions`: the answers of `sessions show --json`; `receipts`: texts by session id; `texts`: every
    input as it came, by name, for the search for card numbers."""

    movements: list[Movement]
    records: list[Record]
    sessions: list[dict[str, Any]]
    receipts: dict[str, str]
    tariffs: dict[str, TariffRules]
    keys: dict[str, ec.EllipticCurvePublicKey]
    forks: int = 0
    refused: list[str] = field(default_factory=list)
    truth: Truth | None = None
    texts: dict[str, str] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)
    must_be_closed: bool = False
