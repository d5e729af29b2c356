"""The back end's memory: every record once, byte for byte, and everything that did not fit."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.backend.jose import Signed, payload_of

GENESIS = "0" * 64
# Holes named in one ack; a station that misses more is told of the rest when these are filled.
MAX_HOLES = 100
# A gap record may name any range; this many numbers of one are believed.
MAX_LOST = 100_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
  station TEXT NOT NULL, chain TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL,
  jws TEXT NOT NULL, type TEXT NOT NULL, received TEXT NOT NULL,
  PRIMARY KEY (station, chain, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fork (
  station TEXT NOT NULL, chain TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL,
  jws TEXT NOT NULL, received TEXT NOT NULL, PRIMARY KEY (station, chain, seq, hash)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (
  id INTEGER PRIMARY KEY, station TEXT NOT NULL, chain TEXT, seq INTEGER, code TEXT NOT NULL,
  text TEXT NOT NULL, jws TEXT NOT NULL, received TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS head (
  station TEXT NOT NULL, chain TEXT NOT NULL, through_seq INTEGER NOT NULL, hash TEXT NOT NULL,
  touched INTEGER NOT NULL, PRIMARY KEY (station, chain)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS station (
  station TEXT PRIMARY KEY, kid TEXT, state TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alarm (
  id INTEGER PRIMARY KEY, time TEXT NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL);
"""


@dataclass(slots=True)
class Coverage:
    """What an ack says about one chain."""

    station: str
    chain: str
    through_seq: int
    hash: str
    holes: list[int] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)


class Database:
    """Used under one lock; `commit()` ends what one message brought."""

    def __init__(self, path: Path) -> None:
        self._gaps: dict[str, list[dict[str, Any]]] = {}
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def commit(self) -> None:
        self._db.commit()

    def store(self, station: str, record: Signed, received: str) -> str:
        """`stored`, `duplicate` or `fork` (same place in the chain, other text: kept apart)."""
        key = (station, record.payload["chain"], record.payload["seq"])
        row = self._db.execute(
            "SELECT hash FROM record WHERE station=? AND chain=? AND seq=?", key
        ).fetchone()
        if row is None:
            self._db.execute(
                "INSERT INTO record VALUES (?,?,?,?,?,?,?)",
                (*key, record.hash, record.text, str(record.payload["type"]), received),
            )
            self._extend(station, key[1])
            ended = record.payload.get("old_chain")
            if record.payload["type"] == "gap" and isinstance(ended, str):
                self._gaps.pop(station, None)
                self._extend(station, ended)
            return "stored"
        if row["hash"] == record.hash:
            return "duplicate"
        self._db.execute(
            "INSERT OR IGNORE INTO fork VALUES (?,?,?,?,?,?)",
            (*key, record.hash, record.text, received),
        )
        self.alarm(
            "fork", f"{station} {key[1]} {key[2]}: {record.hash} beside {row['hash']}", received
        )
        return "fork"

    def _extend(self, station: str, chain: str) -> None:
        """Move the chain's head over every record that is there and links to the one before. Numbers that a
        gap record names as lost will never come: the next one that is there is believed by its signature."""
        through, hash_ = self.head(station, chain)
        lost = self._lost(station, chain)
        while True:
            following = through + 1
            while following in lost:
                following += 1
            row = self._row(station, chain, following)
            if row is None or (following == through + 1 and _prev(row["jws"]) != hash_):
                break
            through, hash_ = following, row["hash"]
        (touched,) = self._db.execute("SELECT coalesce(max(touched), 0) + 1 FROM head").fetchone()
        self._db.execute(
            "INSERT OR REPLACE INTO head VALUES (?,?,?,?,?)",
            (station, chain, through, hash_, touched),
        )

    def _lost(self, station: str, chain: str) -> set[int]:
        """The numbers of `chain` that a station has declared as lost. Read once: a backlog asks for them with
        every record."""
        if station not in self._gaps:
            found = self._db.execute(
                "SELECT jws FROM record WHERE station=? AND type='gap'", (station,)
            ).fetchall()
            self._gaps[station] = [payload_of(row["jws"]) for row in found]
        ranges = [
            pair
            for gap in self._gaps[station]
            if gap.get("old_chain") == chain
            for pair in gap.get("lost", [])
        ]
        return {n for first, last in ranges for n in range(first, min(last, first + MAX_LOST) + 1)}

    def _row(self, station: str, chain: str, seq: int) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(
            "SELECT * FROM record WHERE station=? AND chain=? AND seq=?", (station, chain, seq)
        ).fetchone()
        return row

    def head(self, station: str, chain: str) -> tuple[int, str]:
        row = self._db.execute(
            "SELECT through_seq, hash FROM head WHERE station=? AND chain=?", (station, chain)
        ).fetchone()
        return (row["through_seq"], row["hash"]) if row else (0, GENESIS)

    def coverage(self, station: str, chain: str) -> Coverage:
        """Through where the chain is complete, and what is missing or does not link after that."""
        through, hash_ = self.head(station, chain)
        rows = self._db.execute(
            "SELECT seq FROM record WHERE station=? AND chain=? AND seq>? ORDER BY seq",
            (station, chain, through),
        ).fetchall()
        made = Coverage(station, chain, through, hash_)
        lost = self._lost(station, chain)
        expected = through + 1
        for row in rows:
            room = MAX_HOLES - len(made.holes)
            missing = [seq for seq in range(expected, row["seq"]) if seq not in lost]
            made.holes += missing[:room]
            expected = row["seq"] + 1
        if rows and rows[0]["seq"] == through + 1:
            made.refused.append({"seq": through + 1, "code": "prev_mismatch"})
        return made

    def refuse(
        self, station: str, payload: dict[str, Any], code: str, text: str, jws: str, received: str
    ) -> None:
        chain, seq = payload.get("chain"), payload.get("seq")
        self._db.execute(
            "INSERT INTO refused (station, chain, seq, code, text, jws, received)"
            " VALUES (?,?,?,?,?,?,?)",
            (
                station,
                chain if isinstance(chain, str) else None,
                seq if isinstance(seq, int) else None,
                code,
                text,
                jws,
                received,
            ),
        )
        self.alarm(code, f"{station}: {text}", received)

    def alarm(self, code: str, text: str, time: str) -> None:
        self._db.execute("INSERT INTO alarm (time, code, text) VALUES (?,?,?)", (time, code, text))

    def bind_key(self, station: str, kid: str) -> bool:
        """The first key a station uses is its key; False when it used another one before."""
        row = self._db.execute("SELECT kid FROM station WHERE station=?", (station,)).fetchone()
        if row is not None and row["kid"] is not None:
            return bool(row["kid"] == kid)
        self._db.execute(
            "INSERT INTO station (station, kid) VALUES (?,?)"
            " ON CONFLICT (station) DO UPDATE SET kid=excluded.kid",
            (station, kid),
        )
        return True

    def unbind_key(self, station: str) -> None:
        self._db.execute("UPDATE station SET kid=NULL WHERE station=?", (station,))

    def keep_state(self, station: str, state: dict[str, Any]) -> None:
        self._db.execute(
            "INSERT INTO station (station, state) VALUES (?,?)"
            " ON CONFLICT (station) DO UPDATE SET state=excluded.state",
            (station, json.dumps(state)),
        )

    def states(self) -> dict[str, dict[str, Any]]:
        rows = self._db.execute("SELECT station, state FROM station").fetchall()
        return {row["station"]: json.loads(row["state"]) for row in rows if row["state"]}

    def chains(self) -> list[Coverage]:
        """Every chain, the one that grew last at the end."""
        rows = self._db.execute("SELECT station, chain FROM head ORDER BY touched").fetchall()
        return [self.coverage(row["station"], row["chain"]) for row in rows]

    def rows(self, table: str, limit: int) -> list[dict[str, Any]]:
        """The newest rows of `fork`, `refused` or `alarm`, oldest first."""
        if table not in ("fork", "refused", "alarm"):
            raise ValueError(f"no such table {table!r}")
        order = "received" if table == "fork" else "id"
        rows = self._db.execute(
            f"SELECT * FROM {table} ORDER BY {order} DESC LIMIT ?",  # table is one of three literals
            (limit,),
        ).fetchall()
        return [dict(row) for row in reversed(rows)]

    def records(self, station: str | None, from_seq: int, limit: int) -> list[dict[str, Any]]:
        rows = self._db.execute(
            "SELECT * FROM record WHERE (?1 IS NULL OR station=?1) AND seq>=?2"
            " ORDER BY station, chain, seq LIMIT ?3",
            (station, from_seq, limit),
        ).fetchall()
        return [dict(row) for row in rows]


def _prev(jws: str) -> object:
    return payload_of(jws).get("prev")
