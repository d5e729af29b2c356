"""Which records the back end has, as far as signed acks say so. SQL only: the caller holds the
transaction. Nothing is deleted here but the back end's own requests once they are met.

A record is acked when its number is at most `chain.acked_through` and `outstanding` does not name it.
One small row changes per ack, however many records it covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import apsw

from agent.ledger.rows import AckOutcome, AckResult, OutboxStatus, RecordRow
from agent.ledger.schema import RECORDS_PER_CHAIN
from agent.trust.chain import GENESIS
from agent.values import Quality, Stamp

# A back end's clock is not believed to be further ahead of ours, nor an ack to come later than that.
AHEAD_MOST_MS = 86_400_000

_COLUMNS = """
SELECT c.id, r.id, r.type, s.id, r.jws, r.hash
FROM record r JOIN chain c ON c.n = r.id / :base LEFT JOIN session s ON s.n = r.session
"""


@dataclass(frozen=True, slots=True)
class Chain:
    """A row of `chain` and the number of its newest record."""

    n: int
    id: str
    acked_through: int
    head_seq: int
    pruned_through: int = 0  # some records up to here were forgotten: acked, and their time over
    current: bool = True  # False: a gap has ended it

    @property
    def base(self) -> int:
        return self.n * RECORDS_PER_CHAIN


def chain_of(db: apsw.Connection, chain_id: str | None = None) -> Chain | None:
    """The chain of that id; the newest chain without one."""
    row = db.execute(
        "SELECT n, id, acked_through, pruned_through, n = (SELECT max(n) FROM chain) FROM chain"
        " WHERE :id IS NULL OR id = :id ORDER BY n DESC LIMIT 1",
        {"id": chain_id},
    ).fetchone()
    if row is None:
        return None
    n, name, acked, pruned, current = row
    newest = db.execute(
        "SELECT max(id) FROM record WHERE id BETWEEN ? AND ?",
        (n * RECORDS_PER_CHAIN, (n + 1) * RECORDS_PER_CHAIN - 1),
    ).get
    # Of a chain all of whose records were forgotten only the number is left.
    head = pruned if newest is None else max(pruned, newest % RECORDS_PER_CHAIN)
    return Chain(n, name, acked, head, pruned, bool(current))


def sending(db: apsw.Connection) -> Chain:
    """The chain whose records go out now: the newest that has any, so that a back end learns of a gap
    before it looks at what was salvaged from before it."""
    chains = [row[0] for row in db.execute("SELECT id FROM chain ORDER BY n DESC")]
    found = [chain for name in chains if (chain := chain_of(db, name)) is not None]
    return next((chain for chain in found if waiting(db, chain)), found[0])


def hash_at(db: apsw.Connection, chain: Chain, seq: int) -> str | None:
    """The hash of record `seq`; 64 zeros at 0; None when there is no such record."""
    if seq == 0:
        return GENESIS
    found = db.execute("SELECT hash FROM record WHERE id = ?", (chain.base + seq,)).get
    return None if found is None else found.hex()


def rows(db: apsw.Connection, where: str, values: dict[str, object]) -> list[RecordRow]:
    """Records by a condition on `r` (and `o`, where the caller joins it)."""
    found = db.execute(_COLUMNS + where, {"base": RECORDS_PER_CHAIN, **values})
    return [
        RecordRow(chain, key % RECORDS_PER_CHAIN, kind, session, text, digest.hex())
        for chain, key, kind, session, text, digest in found
    ]


def unacked(db: apsw.Connection, chain: Chain, limit: int, after_seq: int) -> list[RecordRow]:
    """Records to send, by number: what was asked for again, then what no ack has covered yet.
    Parked ones are left out: the back end has them and does not want them as they are."""
    asked = rows(
        db,
        "JOIN outstanding o ON o.record = r.id WHERE o.code IS NULL"
        " AND r.id > :after AND r.id <= :through ORDER BY r.id LIMIT :limit",
        {
            "after": chain.base + after_seq,
            "through": chain.base + chain.acked_through,
            "limit": limit,
        },
    )
    fresh = rows(
        db,
        "WHERE r.id > :after AND r.id <= :last AND NOT EXISTS"
        " (SELECT 1 FROM outstanding p WHERE p.record = r.id AND p.code IS NOT NULL)"
        " ORDER BY r.id LIMIT :limit",
        {
            "after": chain.base + max(after_seq, chain.acked_through),
            "last": chain.base + chain.head_seq,
            "limit": limit - len(asked),
        },
    )
    return asked + fresh


def waiting(db: apsw.Connection, chain: Chain) -> int:
    """How many records of a chain no signed ack covers, without the parked ones."""
    through = chain.base + chain.acked_through
    (asked, parked_ahead) = db.execute(
        "SELECT count(*) FILTER (WHERE code IS NULL AND record <= :through),"
        " count(*) FILTER (WHERE code IS NOT NULL AND record > :through)"
        " FROM outstanding WHERE record BETWEEN :base AND :last",
        {"through": through, "base": chain.base, "last": chain.base + chain.head_seq},
    ).get
    fresh = chain.head_seq - chain.acked_through
    if not chain.current:  # numbers may be lost
        fresh = db.execute(
            "SELECT count(*) FROM record WHERE id > ? AND id <= ?",
            (through, chain.base + chain.head_seq),
        ).get
    return int(fresh - parked_ahead + asked)


def status(db: apsw.Connection) -> OutboxStatus:
    """Of all chains; `oldest` and `chain` are of the one whose records go out now."""
    chains = [row[0] for row in db.execute("SELECT id FROM chain ORDER BY n DESC")]
    found = [chain for name in chains if (chain := chain_of(db, name)) is not None]
    unacked_records = sum(waiting(db, chain) for chain in found)
    out = sending(db)
    first = unacked(db, out, 1, 0) if unacked_records else []
    oldest = None
    if first:
        row = db.execute(
            "SELECT r.utc_ms, r.boot_ms, b.id, r.quality FROM record r JOIN boot b ON b.n = r.boot"
            " WHERE r.id = ?",
            (out.base + first[0].seq,),
        ).fetchone()
        assert row is not None
        oldest = Stamp(row[0], row[1], row[2], Quality(row[3]))
    parked = db.execute("SELECT count(*) FROM outstanding WHERE code IS NOT NULL").get
    return OutboxStatus(unacked_records, oldest, found[0].acked_through, parked, out.id)


def apply(
    db: apsw.Connection,
    chain: Chain,
    through_seq: int,
    digest: str,
    holes: Sequence[int],
    refused: Sequence[tuple[int, str]],
    asked_ms: int,
) -> AckResult:
    """Mark what an ack covers. `asked_ms` is the time in the ack: an older ack that arrives late never
    cancels a newer request."""
    ours = hash_at(db, chain, through_seq)
    # A record that is no longer here cannot be compared; the back end's signed word must do.
    gone = ours is None and (not chain.current or through_seq <= chain.pruned_through)
    if ours != digest and not gone:
        db.execute(
            "INSERT INTO fork(chain, seq, theirs, ours, asked_ms) SELECT ?, ?, ?, ?, ?"
            " WHERE NOT EXISTS (SELECT 1 FROM fork WHERE chain = ? AND seq = ? AND theirs = ?)",
            (chain.id, through_seq, digest, ours, asked_ms, chain.id, through_seq, digest),
        )
        return AckResult(AckOutcome.FORK, chain.acked_through, our_hash=ours)
    before = _acked(db, chain, chain.acked_through)
    through = max(chain.acked_through, min(through_seq, chain.head_seq))
    wanted = {
        seq for seq in holes if 1 <= seq <= chain.head_seq and hash_at(db, chain, seq) is not None
    }
    _clear(db, chain, through_seq, wanted, asked_ms)
    for seq in sorted(wanted):
        # Also above `through`: asked for, it must not stay parked.
        if seq <= through:
            _mark(db, chain, seq, None, asked_ms)
        else:
            db.execute("DELETE FROM outstanding WHERE record = ?", (chain.base + seq,))
    parked = []
    for seq, code in sorted(refused):
        known = hash_at(db, chain, seq) is not None and seq >= 1 and seq not in wanted
        if known and _mark(db, chain, seq, code, asked_ms):
            parked.append((seq, code))
    if through != chain.acked_through:
        db.execute("UPDATE chain SET acked_through = ? WHERE n = ?", (through, chain.n))
    newly = max(0, _acked(db, chain, through) - before)
    return AckResult(AckOutcome.APPLIED, through, newly, tuple(sorted(wanted)), tuple(parked), ours)


def _acked(db: apsw.Connection, chain: Chain, through: int) -> int:
    """How many records are acked: up to `through`, less what is outstanding there."""
    missing: int = db.execute(
        "SELECT count(*) FROM outstanding WHERE record BETWEEN ? AND ?",
        (chain.base + 1, chain.base + through),
    ).get
    return through - missing


def _clear(
    db: apsw.Connection, chain: Chain, through_seq: int, wanted: set[int], asked_ms: int
) -> None:
    """Forget requests that this ack, being no older than they are, does not repeat. No ack is late by more
    than a day: a request from further ahead was told by a clock that was wrong, and the next ack that does
    not repeat it, either, clears it."""
    span = (chain.base + 1, chain.base + through_seq)
    ahead = db.execute(
        "SELECT record FROM outstanding WHERE code IS NULL AND asked_ms > ? AND record BETWEEN ? AND ?",
        (asked_ms + AHEAD_MOST_MS, *span),
    ).fetchall()
    met = [
        key
        for (key,) in db.execute(
            "SELECT record FROM outstanding WHERE code IS NULL AND asked_ms <= ?"
            " AND record BETWEEN ? AND ?",
            (asked_ms, *span),
        )
        if key - chain.base not in wanted
    ]
    db.executemany("DELETE FROM outstanding WHERE record = ?", [(key,) for key in met])
    db.executemany(
        "UPDATE outstanding SET asked_ms = ? WHERE record = ?",
        [(asked_ms, key) for (key,) in ahead],
    )


def _mark(db: apsw.Connection, chain: Chain, seq: int, code: str | None, asked_ms: int) -> bool:
    """True when this changed what was known of record `seq`."""
    key = chain.base + seq
    known = db.execute("SELECT code, asked_ms FROM outstanding WHERE record = ?", (key,)).fetchone()
    if known is not None:
        newer = asked_ms < known[1] <= asked_ms + AHEAD_MOST_MS
        if newer or known == (code, asked_ms):
            return False
    db.execute(
        "INSERT INTO outstanding(record, asked_ms, code) VALUES (?, ?, ?) ON CONFLICT(record)"
        " DO UPDATE SET asked_ms = excluded.asked_ms, code = excluded.code",
        (key, asked_ms, code),
    )
    return known is None or known[0] != code
