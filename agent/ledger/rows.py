"""What goes into the ledger and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.trust.chain import Sealed
from agent.trust.plain import JSON
from agent.values import Stamp


@dataclass(frozen=True, slots=True)
class EventRow:
    """Event `n` (gap-free from 1) of one session. `data` is plain JSON. `state` is the session's
    state after the event, by version `table_version` of the state table."""

    session_id: str
    n: int
    name: str
    data: Mapping[str, JSON]
    state: str
    table_version: int
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class UsedPage:
    """A page of signed readings that the station has made with the key `kid`, counted from 1."""

    kid: str
    number: int


@dataclass(frozen=True, slots=True)
class RecordRow:
    """A signed record. `hash` is the hex SHA-256 of `jws`. `session_id` is None for records that are
    about the ledger itself (type "gap"). `page`: what it takes of its key's pages, when it is stored."""

    chain: str
    seq: int
    type: str
    session_id: str | None
    jws: str = field(repr=False)
    hash: str
    page: UsedPage | None = None

    @classmethod
    def of(cls, sealed: Sealed, session_id: str | None, page: UsedPage | None = None) -> RecordRow:
        frame = (sealed.chain, sealed.seq, sealed.type, session_id)
        return cls(*frame, sealed.jws, sealed.hash, page)


@dataclass(frozen=True, slots=True)
class Append:
    """One durable step: an event, where its session stands now, and maybe a signed record."""

    event: EventRow
    evse: str | None
    terminal: str
    open: bool
    record: RecordRow | None = None
    card_mac: bytes | None = None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """Where a session stands. `started` and `updated` are the stamps of its first and last event.
    `salvaged`: its last readable event; what came after it is not known. `last_n`: of its last event."""

    id: str
    evse: str | None
    terminal: str
    state: str
    open: bool
    started: Stamp
    updated: Stamp
    salvaged: bool = False
    last_n: int = 0


@dataclass(frozen=True, slots=True)
class UpkeepRow:
    """One step of something that was ordered of a terminal beside payments. The first step of an order
    is its intent. `data` is plain JSON."""

    terminal: str
    task: str
    step: str
    data: Mapping[str, JSON]
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class UpkeepOrder:
    """An order of upkeep: its number, and its steps from the intent on."""

    number: int
    steps: tuple[UpkeepRow, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """The newest record: the next one is `seq` + 1 with `prev` = `hash`. In an empty chain `seq` is 0
    and `hash` is 64 zeros."""

    chain: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """`unacked`: records no signed ack covers; `oldest`: the stamp of the first of them;
    `acked_through`: highest number of the current chain that a signed ack covered; `parked`: refused by the
    back end; `chain`: whose records go out now."""

    unacked: int
    oldest: Stamp | None
    acked_through: int
    parked: int
    chain: str = ""


class AckOutcome(StrEnum):
    APPLIED = "applied"
    FORK = "fork"  # the back end's hash is not ours, or it is ahead of us: nothing was marked
    UNKNOWN_CHAIN = "unknown_chain"


@dataclass(frozen=True, slots=True)
class AckResult:
    """`newly_acked`: how many records this ack covered for the first time. `holes`: numbers the back
    end wants (again) and that we have. `parked`: numbers newly refused, with the reason."""

    outcome: AckOutcome
    acked_through: int
    newly_acked: int = 0
    holes: tuple[int, ...] = ()
    parked: tuple[tuple[int, str], ...] = ()
    our_hash: str | None = None
