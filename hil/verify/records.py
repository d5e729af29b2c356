"""(b) The back end's records: signatures, chain, and what they say against what the agent says."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from hil.backend.jose import RECORD_TYP, BadJws, payload_of, verify
from hil.verify.evidence import Evidence, Finding, Record

GENESIS = "0" * 64
# Outcomes that end a hold for good; a hold has one end, so a session has at most one of them.
FINAL_OUTCOMES = ("captured", "released", "cancelled")
_SESSION_FIELDS = ("energy_wh", "held_minor", "cost_minor", "shortfall_minor", "currency", "evse")
_SETTLEMENT_FIELDS = (
    "held_minor",
    "captured_minor",
    "released_minor",
    "shortfall_minor",
    "owed_minor",
    "currency",
)
_WORKING = ("capturing", "releasing", "capture_due", "release_due", "settled")


def check_records(evidence: Evidence) -> Iterator[Finding]:
    if evidence.forks:
        yield Finding(
            "fork", "back end", f"{evidence.forks} records beside others of the same number"
        )
    for text in evidence.refused:
        yield Finding("refused", "back end", text)
    payloads: dict[str, list[tuple[Record, dict[str, Any]]]] = defaultdict(list)
    for record in evidence.records:
        payload, findings = _open(record, evidence)
        yield from findings
        payloads[str(payload.get("session_id"))].append((record, payload))
    yield from _chains(evidence.records)
    known = {str(session["id"]) for session in evidence.sessions}
    for session_id, found in payloads.items():
        if session_id not in known and any(r.type != "gap" for r, _ in found):
            yield Finding(
                "record_without_session", session_id, "the agent does not know the session"
            )
    for session in evidence.sessions:
        yield from _session(session, payloads.get(str(session["id"]), []))


def _name(record: Record) -> str:
    return f"record {record.chain[:8]}/{record.seq}"


def _open(record: Record, evidence: Evidence) -> tuple[dict[str, Any], list[Finding]]:
    findings = []
    name = _name(record)
    if hashlib.sha256(record.jws.encode()).hexdigest() != record.hash:
        findings.append(
            Finding("hash_differs", name, "the database's hash is not that of its text")
        )
    try:
        payload = verify(record.jws, evidence.keys, RECORD_TYP).payload
    except BadJws as error:
        findings.append(Finding(error.code, name, str(error)))
        payload = error.payload
    for key, value in (
        ("station", record.station),
        ("chain", record.chain),
        ("seq", record.seq),
        ("type", record.type),
    ):
        if payload and payload.get(key) != value:
            text = f"{key} is {payload.get(key)!r}, filed under {value!r}"
            findings.append(Finding("misfiled", name, text))
    return payload, findings


def _chains(records: list[Record]) -> Iterator[Finding]:
    chains: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        chains[record.station, record.chain].append(record)
    for (_, chain), members in chains.items():
        expected, before = 1, GENESIS
        for record in sorted(members, key=lambda r: r.seq):
            if record.seq != expected:
                text = f"number {expected} to {record.seq - 1} missing"
                yield Finding("chain_gap", f"chain {chain[:8]}", text)
            else:
                try:
                    prev = payload_of(record.jws).get("prev")
                except (ValueError, IndexError):
                    prev = None
                if prev != before:
                    yield Finding("chain_broken", _name(record), "does not link to the one before")
            expected, before = record.seq + 1, hashlib.sha256(record.jws.encode()).hexdigest()


def _session(
    session: dict[str, Any], found: list[tuple[Record, dict[str, Any]]]
) -> Iterator[Finding]:
    where = str(session["id"])
    ours = {(int(r["seq"]), str(r["hash"])) for r in session.get("records", [])}
    theirs = {(record.seq, record.hash) for record, _ in found}
    for seq, _ in sorted(ours - theirs):
        yield Finding("record_missing", where, f"the back end has not the agent's record {seq}")
    for seq, _ in sorted(theirs - ours):
        yield Finding("record_foreign", where, f"the agent has not the back end's record {seq}")
    of_type = {t: [(r, p) for r, p in found if r.type == t] for t in ("session", "settlement")}
    yield from _session_record(session, where, of_type["session"])
    first = of_type["session"][0][0].seq if of_type["session"] else None
    yield from _settlements(session, where, of_type["settlement"], first)


def _session_record(
    session: dict[str, Any], where: str, found: list[tuple[Record, dict[str, Any]]]
) -> Iterator[Finding]:
    if len(found) > 1:
        yield Finding("session_record_doubled", where, f"{len(found)} session records")
    past_energy = session.get("cost_minor") is not None
    if past_energy and not found and session["state"] in (*_WORKING, "closed", "unresolved"):
        yield Finding("session_record_missing", where, "energy was billed without a session record")
    if not past_energy and found:
        yield Finding("session_record_foreign", where, "a session record, but no cost")
    for record, payload in found:
        yield from _same(session, payload, _SESSION_FIELDS, f"{where} {_name(record)}")
        meter = payload.get("meter") or {}
        for key in ("begin_wh", "end_wh"):
            if meter.get(key) != session.get(key):
                text = f"{key}: record {meter.get(key)}, agent {session.get(key)}"
                yield Finding("record_differs", f"{where} {_name(record)}", text)
        limit = min(payload.get("cost_minor") or 0, payload.get("held_minor") or 0)
        if payload.get("to_capture_minor") != limit:
            text = f"to_capture_minor is {payload.get('to_capture_minor')}, expected {limit}"
            yield Finding("record_differs", f"{where} {_name(record)}", text)


def _settlements(
    session: dict[str, Any],
    where: str,
    found: list[tuple[Record, dict[str, Any]]],
    session_seq: int | None,
) -> Iterator[Finding]:
    final = [p for _, p in found if p.get("outcome") in FINAL_OUTCOMES]
    if len(final) > 1:
        yield Finding("settled_twice", where, f"{len(final)} settlement records end the hold")
    if session["state"] != "closed":
        return
    if not found:
        yield Finding("settlement_missing", where, "closed without a settlement record")
        return
    record, payload = found[-1]
    yield from _same(session, payload, _SETTLEMENT_FIELDS, f"{where} {_name(record)}")
    if payload.get("outcome") != session["payment"]:
        text = f"outcome: record {payload.get('outcome')}, agent {session['payment']}"
        yield Finding("record_differs", f"{where} {_name(record)}", text)
    for each, content in found:
        if content.get("set_aside") == "salvaged" and content.get("refers_seq") is None:
            continue  # its session record stands in the chain before
        if content.get("refers_seq") != session_seq:
            text = f"refers to {content.get('refers_seq')}, the session record is {session_seq}"
            yield Finding("reference_wrong", f"{where} {_name(each)}", text)


def _same(
    session: dict[str, Any], payload: dict[str, Any], keys: tuple[str, ...], where: str
) -> Iterator[Finding]:
    for key in keys:
        if payload.get(key) != session.get(key):
            text = f"{key}: record {payload.get(key)!r}, agent {session.get(key)!r}"
            yield Finding("record_differs", where, text)
