"""What the agent remembers: events, sessions, signed records and the outbox (design §1, One writer)."""

from agent.ledger.errors import (
    LedgerBusy,
    LedgerDamaged,
    LedgerError,
    LedgerFailed,
    LedgerForeign,
    LedgerFull,
    LedgerMissing,
    LedgerOverloaded,
)
from agent.ledger.facade import AsyncLedger
from agent.ledger.ledger import Ledger
from agent.ledger.rows import (
    AckOutcome,
    AckResult,
    Append,
    EventRow,
    Head,
    OutboxStatus,
    RecordRow,
    SessionRow,
    UpkeepOrder,
    UpkeepRow,
    UsedPage,
)

__all__ = [
    "AckOutcome",
    "AckResult",
    "Append",
    "AsyncLedger",
    "EventRow",
    "Head",
    "Ledger",
    "LedgerBusy",
    "LedgerDamaged",
    "LedgerError",
    "LedgerFailed",
    "LedgerForeign",
    "LedgerFull",
    "LedgerMissing",
    "LedgerOverloaded",
    "OutboxStatus",
    "RecordRow",
    "SessionRow",
    "UpkeepOrder",
    "UpkeepRow",
    "UsedPage",
]
