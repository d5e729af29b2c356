"""The record chain: every signed record names its predecessor's hash, so nothing can be taken out of the
middle, put in or swapped without being seen (design §3 Records). What no chain can show by itself is a
cut at its newest end; the back end's acknowledgements and the terminal's totals show that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from agent.trust import card_like, jws, plain
from agent.trust.keys import KeySet, Signer
from agent.trust.plain import JSON
from agent.values import Stamp

GENESIS = "0" * 64
RECORD_TYPES = ("session", "settlement", "gap", "unmeasured")
# A report is read by people and scripts: past this many problems the file is simply not ours.
MAX_PROBLEMS = 1000
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRAME = ("chain", "seq", "prev", "type", "station", "time", "stamp")


def iso_utc(utc_ms: int) -> str:
    """Milliseconds since 1970 as "2026-08-21T10:00:00.123Z"."""
    moment = _EPOCH + timedelta(milliseconds=utc_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record_hash(text: str) -> str:
    """Hex SHA-256 of a record's JWS text: what the next record's `prev` must say."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A signed record that is not stored yet."""

    chain: str
    seq: int
    type: str
    jws: str
    hash: str


def seal(
    key: Signer,
    *,
    chain: str,
    seq: int,
    prev: str,
    type: str,
    station: str,
    stamp: Stamp,
    body: Mapping[str, object],
) -> Sealed:
    """Sign record `seq` of `chain`, whose predecessor has the hash `prev` (GENESIS for the first).
    With a key file the same input gives the same text; a token or a TPM signs it anew, so only the text that
    was stored is the record.
    Raises plain.NotPlain when `body` holds a float or something like a card number."""
    if type not in RECORD_TYPES:
        raise ValueError(f"record type {type!r}; expected one of {', '.join(RECORD_TYPES)}")
    if seq < 1 or not _HEX64.match(prev) or (seq == 1) != (prev == GENESIS):
        raise ValueError(f"record {seq} cannot follow hash {prev!r}")
    if taken := [name for name in _FRAME if name in body]:
        raise ValueError(f"the body may not set {', '.join(taken)}")
    if (place := card_like.find(body)) is not None:
        raise plain.NotPlain(f"{place} looks like a card number; it is not signed")
    payload: dict[str, object] = {
        "chain": chain,
        "seq": seq,
        "prev": prev,
        "type": type,
        "station": station,
        "time": iso_utc(stamp.utc_ms),
        "stamp": stamp.to_json(),
        **body,
    }
    text = jws.sign(payload, key, jws.RECORD_TYP)
    return Sealed(chain, seq, type, text, record_hash(text))


# --- Verification ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """`seq` is None when the record cannot even be read."""

    seq: int | None
    code: str
    text: str

    def json(self) -> dict[str, JSON]:
        return {"seq": self.seq, "code": self.code, "text": self.text}


@dataclass(frozen=True, slots=True)
class ChainSpan:
    """What of one chain was seen and held together: from `first_seq` to `last_seq`, whose record has
    the hash `hash`."""

    chain: str
    station: str
    first_seq: int
    last_seq: int
    hash: str

    def json(self) -> dict[str, JSON]:
        return {
            "chain": self.chain,
            "station": self.station,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "hash": self.hash,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a set of records. `ok` speaks of the records only; with self-asserted keys it
    proves no more than that one unknown key signed them all."""

    records: int
    trust: str
    problems: tuple[Problem, ...]
    chains: tuple[ChainSpan, ...] = ()
    partial: bool = False

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 good and anchored, 1 good but self-asserted, 2 not good (design §3)."""
        if self.problems:
            return 2
        return 0 if self.trust == "anchored" else 1

    def json(self) -> dict[str, JSON]:
        return {
            "ok": self.ok,
            "trust": self.trust,
            "records": self.records,
            "problems": [problem.json() for problem in self.problems],
            "chains": [span.json() for span in self.chains],
            "partial": self.partial,
        }


@dataclass(frozen=True, slots=True)
class _Link:
    seq: int
    prev: str
    hash: str
    station: str
    type: str
    session_id: JSON
    refers_seq: JSON


@dataclass(slots=True)
class _Verifier:
    keys: KeySet
    partial: bool
    problems: list[Problem] = field(default_factory=list)
    chains: dict[str, dict[int, _Link]] = field(default_factory=dict)
    lost: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # as gap records say

    def note(self, seq: int | None, code: str, text: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(seq, code, text))

    def add(self, number: int, text: str) -> None:
        """Take in the `number`th text of the input."""
        try:
            parsed = jws.parse(text, jws.RECORD_TYP)
        except jws.JwsRefused as error:
            self.note(None, error.code, f"record at place {number}: {error.text}")
            return
        try:
            body = parsed.unchecked_body()
        except jws.JwsRefused as error:
            self.note(None, error.code, f"record at place {number}: {error.text}")
            return
        seq = body.get("seq")
        named = seq if isinstance(seq, int) and not isinstance(seq, bool) else None
        try:
            parsed.check(self.keys)
        except jws.JwsRefused as error:
            # A record whose signature is wrong says nothing, so it takes no place in the chain.
            self.note(named, error.code, f"record at place {number}: {error.text}")
            return
        self._link(number, named, body, record_hash(text))

    def _link(self, number: int, seq: int | None, body: dict[str, JSON], digest: str) -> None:
        chain, prev, station = body.get("chain"), body.get("prev"), body.get("station")
        kind = body.get("type")
        if (
            seq is None
            or seq < 1
            or not (isinstance(chain, str) and isinstance(station, str) and isinstance(kind, str))
            or not (isinstance(prev, str) and _HEX64.match(prev))
        ):
            text = f"record at place {number} lacks a proper chain, seq, prev, type or station"
            self.note(seq, "bad_payload", text)
            return
        links = self.chains.setdefault(chain, {})
        known = links.get(seq)
        if known is not None and known.hash != digest:
            text = f"two different records are number {seq} of chain {chain}"
            self.note(seq, "fork", text)
            return
        session_id, refers_seq = body.get("session_id"), body.get("refers_seq")
        links[seq] = _Link(seq, prev, digest, station, kind, session_id, refers_seq)
        if kind == "gap":
            self._gap(body)

    def _gap(self, body: dict[str, JSON]) -> None:
        """A damaged ledger was begun anew: its signed first record names what it has lost of the chain
        before. Those numbers are told, so they are no problem of the records that are left."""
        chain, lost = body.get("old_chain"), body.get("lost")
        if not isinstance(chain, str) or not isinstance(lost, list):
            return
        for pair in lost:
            if isinstance(pair, list) and len(pair) == 2:
                first, last = pair
                if isinstance(first, int) and isinstance(last, int):
                    self.lost.setdefault(chain, []).append((first, last))

    def _told(self, chain: str, first: int, last: int) -> bool:
        """Whether all numbers from `first` to `last` are named as lost."""
        for low, high in sorted(self.lost.get(chain, [])):
            if low <= first <= high:
                first = high + 1
        return first > last

    def close(self) -> tuple[ChainSpan, ...]:
        """Walk every chain in its own order and give what it spans."""
        spans = []
        for chain, links in self.chains.items():
            ordered = [links[seq] for seq in sorted(links)]
            self._walk(chain, ordered)
            self._references(links)
            first, last = ordered[0], ordered[-1]
            spans.append(ChainSpan(chain, last.station, first.seq, last.seq, last.hash))
        return tuple(spans)

    def _walk(self, chain: str, ordered: list[_Link]) -> None:
        before = _Link(0, "", GENESIS, ordered[0].station, "", None, None)
        for link in ordered:
            missing = link.seq - before.seq - 1
            told = self._told(chain, before.seq + 1, link.seq - 1)
            if missing and not (self.partial or told):
                which = f"record {before.seq + 1}" if missing == 1 else f"{missing} records"
                self.note(before.seq + 1, "gap", f"{which} missing before record {link.seq}")
            if not missing and link.prev != before.hash:
                text = f"record {link.seq} names another predecessor than record {before.seq}"
                self.note(link.seq, "broken_link", text)
            if link.station != before.station:
                text = f"record {link.seq} is of station {link.station}, not {before.station}"
                self.note(link.seq, "wrong_station", text)
            before = link

    def _references(self, links: dict[int, _Link]) -> None:
        """A settlement refers to an earlier session record of the same session."""
        for link in links.values():
            at = link.refers_seq
            if link.type != "settlement" or at is None:
                continue
            target = None
            if isinstance(at, int) and not isinstance(at, bool):
                target = links.get(at)
                if target is None and 0 < at < link.seq:
                    continue  # absent: an excerpt may leave it out, else the walk has told the gap
            if target is None or target.seq >= link.seq or target.type != "session":
                text = f"settlement {link.seq} refers to {at}, which is no session record before it"
                self.note(link.seq, "bad_reference", text)
            elif target.session_id != link.session_id:
                text = f"settlement {link.seq} and session record {at} are of different sessions"
                self.note(link.seq, "bad_reference", text)


def verify_records(
    lines: Iterable[str], keys: KeySet, *, anchored: bool = True, partial: bool = False
) -> Report:
    """Check signatures, hashes and numbers of the JWS texts `lines`, in any order, of one or more
    chains. `anchored`: `keys` come from the verifier, not from the file itself. `partial`: the file
    says that it is an excerpt, so missing numbers are no problem; neighbours must still fit."""
    verifier = _Verifier(keys, partial)
    count = 0
    for text in lines:
        count += 1
        verifier.add(count, text)
    spans = verifier.close()
    if count == 0:
        verifier.note(None, "no_records", "no record was found")
    trust = "anchored" if anchored else "self_asserted"
    return Report(count, trust, tuple(verifier.problems), spans, partial)
