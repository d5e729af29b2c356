"""A new ledger from the pages of a damaged one: everything that can be proven, and nothing else.

* A record is taken when its text hashes to what its row says, its signed number is its place, and the
  station's key, where it is still the same, has signed it.
* Events are what they are; whether they make a session that stood where its row says is for the caller's
  `judge`, which knows the state table.
* An open session is taken in any case and marked as salvaged: what happened after its last readable event is
  not known, so nobody acts on it by itself.

The new chain begins with a gap record that names the last number known of the old one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from agent.ledger import ocmf_pages, pages, wal
from agent.ledger.open import open_database
from agent.ledger.rows import EventRow
from agent.ledger.schema import EVENTS_PER_SESSION, RECORDS_PER_CHAIN
from agent.trust import jws, plain
from agent.trust.chain import GENESIS, Sealed, record_hash
from agent.trust.keys import KeySet
from agent.values import Quality, Stamp

# Rows written in one transaction: the log of the new file stays small.
BATCH = 5_000
# The gap record names what is lost and what is open; more than this is told by its count alone.
NAMED_MAX = 100
# Kept from the old `meta`: who we are and what others have put there; not what says how a file stands.
_OWN_META = ("schema", "mark")


@dataclass(frozen=True, slots=True)
class Known:
    """Where a session stands as its events alone say."""

    state: str
    open: bool
    evse: str | None
    terminal: str


Judge = Callable[[str, Sequence[EventRow]], Known | None]
SealGap = Callable[[str, dict[str, plain.JSON]], Sealed]
"""`seal(chain, body)`: the gap record, number 1 of `chain`."""


@dataclass(slots=True)
class Salvaged:
    """What was found. `old_seq` is the last number known of chain `old_chain`, whether its record was found
    or only mentioned; `lost` are ranges of numbers that were there once; `page`: the highest known of
    signed readings."""

    sessions: int = 0
    events: int = 0
    records: int = 0
    open: list[str] = field(default_factory=list)
    old_chain: str | None = None
    old_seq: int | None = None
    old_hash: str | None = None
    lost: list[tuple[int, int]] = field(default_factory=list)
    page: int = 0

    def body(self) -> dict[str, plain.JSON]:
        return {
            "old_chain": self.old_chain,
            "old_seq": self.old_seq,
            "old_hash": self.old_hash,
            "lost": [[first, last] for first, last in self.lost[:NAMED_MAX]],
            "sessions": self.sessions,
            "records": self.records,
            "open": [*self.open[:NAMED_MAX]],
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """`reason`: why there is a gap, in a word; `set_aside`: the name of the old file, if there is one;
    `utc_ms`: when."""

    station: str
    reason: str
    set_aside: str | None
    keys: KeySet
    judge: Judge
    seal: SealGap
    new_chain: Callable[[], str]
    utc_ms: int


def salvage(source: Path | None, target: Path, plan: Plan) -> Salvaged:
    """Make the ledger `target` from `source` and its log, which are only read; an empty one without
    `source`. `target` is durable and closed when this returns."""
    db = open_database(target, create=True).db
    try:
        # Nothing refers to this file before it is whole; it is synced at the end.
        db.pragma("synchronous", "off")
        db.pragma("foreign_keys", 0)
        if source is not None:
            _copy(db, source)
        found = _Proof(db, plan).prove()
        _begin_chain(db, plan, found)
        if (left := db.execute("PRAGMA foreign_key_check").fetchone()) is not None:
            raise RuntimeError(f"salvaged rows refer to rows that are not there: {left}")
        db.pragma("synchronous", "extra")
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        db.close()
    return found


@contextlib.contextmanager
def _reader(path: Path) -> Iterator[tuple[wal.Read, int]]:
    """What is at `path`, and its size; nothing when there is no such file."""
    if not path.exists():
        yield (lambda offset, amount: b""), 0
        return
    # Unbuffered: pages are asked for one by one, in no order.
    with path.open("rb", buffering=0) as file:

        def read(offset: int, amount: int) -> bytes:
            file.seek(offset)
            return file.read(amount) or b""

        yield read, path.stat().st_size


def _copy(db: apsw.Connection, source: Path) -> None:
    """Every readable row into its table, unproven."""
    names = {
        table: [str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")]
        for table in pages.SHAPES
    }
    log = source.with_name(source.name + "-wal")
    with _reader(source) as (read_file, size), _reader(log) as (read_log, _):
        for batch in _batches(pages.rows(read_file, size, read_log)):
            with db:
                for table, key, row in batch:
                    _take(db, names[table], table, key, row)


def _take(db: apsw.Connection, names: Sequence[str], table: str, key: int, row: pages.Row) -> None:
    if table == "meta" and row[0] in _OWN_META:
        return
    values = row if table == "meta" else (key, *row[1:])
    columns = ", ".join(names[: len(values)])
    places = ", ".join("?" * len(values))
    db.execute(f"INSERT OR IGNORE INTO {table}({columns}) VALUES ({places})", values)


Found = tuple[str, int, pages.Row]


def _batches(rows: Iterator[Found]) -> Iterator[list[Found]]:
    batch: list[Found] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


class _Proof:
    def __init__(self, db: apsw.Connection, plan: Plan) -> None:
        self._db, self._plan, self._found = db, plan, Salvaged()

    def prove(self) -> Salvaged:
        db, found = self._db, self._found
        with db:
            self._records()
            found.page = max([found.page, *ocmf_pages.used(db).values()])
            self._last_number()
            for number in [n for (n,) in db.execute(_SESSION_NUMBERS)]:
                self._session(number)
            for statement in _MEND:
                db.execute(statement)
        found.sessions, found.events, found.records = db.execute(_COUNTS).get
        found.open = [
            name for (name,) in db.execute("SELECT id FROM session WHERE open = 1 ORDER BY n")
        ]
        return found

    def _records(self) -> None:
        chains = dict(self._db.execute("SELECT n, id FROM chain"))
        bad = []
        for key, digest, text in self._db.execute("SELECT id, hash, jws FROM record"):
            number, seq = divmod(key, RECORDS_PER_CHAIN)
            body = self._body(text) if record_hash_of(text) == digest.hex() else None
            chain = None if body is None else body.get("chain")
            if not isinstance(chain, str) or body is None or body.get("seq") != seq:
                bad.append((key,))
                continue
            if chains.setdefault(number, chain) != chain:
                bad.append((key,))
            self._found.page = max(self._found.page, ocmf_pages.named(body))
        self._db.executemany("DELETE FROM record WHERE id = ?", bad)
        self._db.executemany(
            "INSERT OR IGNORE INTO chain(n, id) VALUES (?, ?)", sorted(chains.items())
        )

    def _body(self, text: str) -> dict[str, plain.JSON] | None:
        """What a record says, signed as far as that can be checked."""
        try:
            parsed = jws.parse(text, jws.RECORD_TYP)
            if self._plan.keys.get(parsed.kid) is not None:
                return parsed.check(self._plan.keys)
            return parsed.unchecked_body()  # of a key before this one: its hash must do
        except jws.JwsRefused:
            return None

    def _last_number(self) -> None:
        """How far the newest chain went, by its records and by the events that mention one."""
        db, found = self._db, self._found
        newest = db.execute(
            "SELECT n, id, pruned_through FROM chain ORDER BY n DESC LIMIT 1"
        ).fetchone()
        if newest is None:
            return
        number, found.old_chain, pruned = newest
        base = number * RECORDS_PER_CHAIN
        span = (base + 1, base + RECORDS_PER_CHAIN - 1)
        known = [
            db.execute(
                f"SELECT max({column}) FROM {table} WHERE {column} BETWEEN ? AND ?", span
            ).get
            for table, column in (("record", "id"), ("event", "record"))
        ]
        found.old_seq = max([pruned, *(key - base for key in known if key is not None)])
        digest = db.execute("SELECT hash FROM record WHERE id = ?", (base + found.old_seq,)).get
        found.old_hash = None if digest is None else digest.hex()
        expected = pruned + 1
        for (key,) in db.execute(
            "SELECT id FROM record WHERE id BETWEEN ? AND ? ORDER BY id", span
        ):
            if key - base > expected:
                found.lost.append((expected, key - base - 1))
            expected = max(expected, key - base + 1)
        if expected <= found.old_seq:
            found.lost.append((expected, found.old_seq))

    def _session(self, number: int) -> None:
        """A closed one is history. What is not known to be closed stands open, and as salvaged."""
        db = self._db
        row = db.execute("SELECT id FROM session WHERE n = ?", (number,)).fetchone()
        if row is None:
            name = self._name(number)
            self._insert(number, name, list(self._events(number, name)))
        db.execute("UPDATE session SET salvaged = 1 WHERE n = ? AND open = 1", (number,))

    def _name(self, number: int) -> str:
        """The id of a session whose row is lost: its records say it too."""
        base = number * EVENTS_PER_SESSION
        mentioned = self._db.execute(
            "SELECT r.jws FROM event e JOIN record r ON r.id = e.record WHERE e.id BETWEEN ? AND ? LIMIT 1",
            (base, base + EVENTS_PER_SESSION - 1),
        ).get
        body = None if mentioned is None else self._body(mentioned)
        name = None if body is None else body.get("session_id")
        taken = self._db.execute("SELECT 1 FROM session WHERE id = ?", (name,)).get
        return name if isinstance(name, str) and taken is None else f"LOST-{number}"

    def _events(self, number: int, name: str) -> Iterator[EventRow]:
        """From the first on without a gap."""
        base = number * EVENTS_PER_SESSION
        rows = self._db.execute(
            "SELECT e.id, e.name, e.data, e.state, e.table_version, e.utc_ms, e.boot_ms,"
            " coalesce(b.id, 'lost-boot-' || e.boot), e.quality"
            " FROM event e LEFT JOIN boot b ON b.n = e.boot WHERE e.id BETWEEN ? AND ? ORDER BY e.id",
            (base, base + EVENTS_PER_SESSION - 1),
        )
        for n, (key, word, data, state, version, utc, boot_ms, boot, quality) in enumerate(rows, 1):
            if key - base != n or quality not in tuple(Quality):
                return
            try:
                content = plain.loads_object(data)
            except plain.NotPlain:
                return
            stamp = Stamp(utc, boot_ms, boot, Quality(quality))
            yield EventRow(name, n, word, content, state, version, stamp)

    def _insert(self, number: int, name: str, events: list[EventRow]) -> None:
        """A session whose row is lost. Without a gap its events tell it all; else it is open."""
        base = number * EVENTS_PER_SESSION
        first, last = (
            self._db.execute(
                "SELECT utc_ms, boot_ms, boot, quality, state, id FROM event WHERE id BETWEEN ? AND ?"
                f" ORDER BY id {order} LIMIT 1",
                (base, base + EVENTS_PER_SESSION - 1),
            ).get
            for order in ("ASC", "DESC")
        )
        last_n = max(1, last[5] - base)
        known = self._plan.judge(name, events) if len(events) == last_n else None
        if known is None or known.state != last[4]:
            known = Known(last[4], True, None, "unknown")
        self._db.execute(
            "INSERT INTO session(n, id, evse, terminal, state, open, last_n, started_utc_ms,"
            " started_boot_ms, started_boot, started_quality, updated_utc_ms, updated_boot_ms,"
            " updated_boot, updated_quality) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(number, name, known.evse, known.terminal, known.state, int(known.open), last_n),
                *(*first[:4], *last[:4]),
            ),
        )


def record_hash_of(text: str) -> str:
    """As record_hash, for a text that may be anything."""
    return record_hash(text) if text.isascii() else ""


def _begin_chain(db: apsw.Connection, plan: Plan, found: Salvaged) -> None:
    chain = plan.new_chain()
    page = ocmf_pages.behind_loss([found.page], plan.utc_ms)
    body: dict[str, plain.JSON] = {"reason": plan.reason, "set_aside": plan.set_aside}
    sealed = plan.seal(chain, body | found.body() | {"pages_behind": page})
    stamp = Stamp.from_json(jws.parse(sealed.jws, jws.RECORD_TYP).unchecked_body()["stamp"])  # type: ignore[arg-type]  # as sealed
    assert (sealed.chain, sealed.seq, sealed.type) == (chain, 1, "gap") and sealed.hash != GENESIS
    with db:
        # Records that our own key has signed say whose the file was, whatever became of its name.
        how = "REPLACE" if found.records else "IGNORE"
        db.execute(f"INSERT OR {how} INTO meta VALUES ('station', ?)", (plan.station,))
        db.execute("INSERT OR IGNORE INTO boot(id) VALUES (?)", (stamp.boot_id,))
        boot = db.execute("SELECT n FROM boot WHERE id = ?", (stamp.boot_id,)).get
        db.execute("INSERT INTO chain(id) VALUES (?)", (chain,))
        number = db.last_insert_rowid()
        ocmf_pages.begin_behind(db, page)
        db.execute(
            "INSERT INTO record(id, type, session, utc_ms, boot_ms, boot, quality, hash, jws)"
            " VALUES (?, ?, NULL, ?, ?, ?, ?, ?, ?)",
            (
                *(number * RECORDS_PER_CHAIN + 1, sealed.type),
                *(stamp.utc_ms, stamp.boot_ms, boot, str(stamp.quality)),
                *(bytes.fromhex(sealed.hash), sealed.jws),
            ),
        )


_SESSION_NUMBERS = (
    f"SELECT n FROM session UNION SELECT DISTINCT id / {EVENTS_PER_SESSION} FROM event"
)
_COUNTS = "SELECT (SELECT count(*) FROM session), (SELECT count(*) FROM event), (SELECT count(*) FROM record)"
_BOOTS = " UNION ".join(
    f"SELECT {column} FROM {table}"
    for table, column in (
        ("event", "boot"),
        ("record", "boot"),
        ("upkeep", "boot"),
        ("session", "started_boot"),
        ("session", "updated_boot"),
    )
)
# What refers to something that is lost: a boot gets a name of its own, so that stamps of one boot stay
# comparable; other references end.
_MEND = (
    f"INSERT OR IGNORE INTO boot(n, id) SELECT boot, 'lost-boot-' || boot FROM ({_BOOTS})",
    "UPDATE event SET record = NULL WHERE record NOT IN (SELECT id FROM record)",
    "UPDATE record SET session = NULL WHERE session NOT IN (SELECT n FROM session)",
    "DELETE FROM outstanding WHERE record NOT IN (SELECT id FROM record)",
    "DELETE FROM card WHERE session NOT IN (SELECT n FROM session)",
    "DELETE FROM ack_mark WHERE chain NOT IN (SELECT n FROM chain)",
    "DELETE FROM upkeep WHERE intent IS NOT NULL AND intent NOT IN (SELECT n FROM upkeep)",
)
