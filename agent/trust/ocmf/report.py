"""The verdict on everything that was given, for scripts and for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from agent.trust.ocmf.checks import begin_and_end, eichrecht
from agent.trust.ocmf.container import Value
from agent.trust.ocmf.exact import JSON
from agent.trust.ocmf.findings import Finding, error, warning, without_cards
from agent.trust.ocmf.record import Reading, Record
from agent.trust.ocmf.series import Transaction, across, transactions
from agent.trust.ocmf.signature import Key, KeyProblem, Outcome, Verdict, read_key, verify

# The worst of many counts.
_RANK: tuple[Outcome, ...] = ("valid", "no_key", "undecodable", "invalid")


@dataclass(frozen=True, slots=True)
class Judged:
    """One value with its verdict. `findings` are its own and those across records that concern it."""

    value: Value
    verdict: Verdict
    findings: tuple[Finding, ...]

    @property
    def key_from(self) -> str:
        """given, record (it came along with the record, so it proves nothing about the signer), or none."""
        if self.verdict.key is None:
            return "none"
        return "record" if self.verdict.embedded else "given"

    def json(self) -> dict[str, JSON]:
        verdict = self.verdict
        key: JSON = None
        if verdict.key is not None:
            key = {
                "from": self.key_from,
                "curve": verdict.key.curve,
                "fingerprint": verdict.key.fingerprint,
                "spki": verdict.key.spki.hex(),
            }
        return {
            "signature": verdict.signature,
            "reason": verdict.reason,
            "explanation": verdict.text,
            "eichrecht": [finding.json() for finding in self.findings],
            "payload": None if verdict.record is None else without_cards(verdict.record.payload),
            "algorithm": verdict.algorithm,
            "key": key,
            "context": self.value.context,
            "transaction_id": self.value.transaction_id,
        }


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge with the numbers of its records, counted from 1."""

    begin: int
    end: int
    transaction: Transaction

    def json(self) -> dict[str, JSON]:
        energy = self.transaction.energy_wh
        return {
            "begin": self.begin,
            "end": self.end,
            "energy_wh": None if energy is None else plain(energy),
        }


@dataclass(frozen=True, slots=True)
class Report:
    records: tuple[Judged, ...]
    charges: tuple[Charge, ...]

    @property
    def worst(self) -> Judged:
        return max(self.records, key=lambda judged: _RANK.index(judged.verdict.signature))

    @property
    def valid(self) -> bool:
        return self.worst.verdict.valid

    def json(self) -> dict[str, JSON]:
        """Of one record: its verdict, findings and payload. Of several: the worst verdict, all findings with
        the number of their record, and no payload; each stands in `records`."""
        worst = self.worst
        several = len(self.records) > 1
        findings = [
            (replace(finding, record=number) if several else finding).json()
            for number, judged in enumerate(self.records, 1)
            for finding in judged.findings
        ]
        return {
            **worst.json(),
            "eichrecht": findings,
            "payload": None if several else worst.json()["payload"],
            "charges": [charge.json() for charge in self.charges],
            "records": [judged.json() for judged in self.records],
        }


def assess(values: Sequence[Value], key: str | bytes | None = None) -> Report:
    """Judge all `values`, with `key` where it is given, else with the key that came with each. Never
    raises."""
    given = _opened(key)
    verdicts = [_verdict(value, given) for value in values]
    read = [(n, verdict.record) for n, verdict in enumerate(verdicts, 1) if verdict.record]
    records = [record for _, record in read]
    places = [n for n, _ in read]
    charges = tuple(
        Charge(places[one.begin_at], places[one.end_at], one) for one in transactions(records)
    )
    # Within one charge of two records each holds only one end of it, as it should.
    halves = {
        n for charge in charges if charge.begin != charge.end for n in (charge.begin, charge.end)
    }
    found = [
        replace(finding, record=places[(finding.record or 1) - 1]) for finding in across(records)
    ]
    judged = []
    for number, (value, verdict) in enumerate(zip(values, verdicts, strict=True), 1):
        own = [] if verdict.record is None else _own(value, verdict, verdict.record, given)
        if number in halves:
            own = [one for one in own if one.code not in ("begin_only", "end_only")]
        own += [replace(finding, record=None) for finding in found if finding.record == number]
        judged.append(Judged(value, verdict, tuple(own)))
    return Report(tuple(judged), charges)


def _opened(key: str | bytes | None) -> Key | str | bytes | None:
    """Read the key once for all; one that cannot be read is told with each record."""
    if not key:
        return None
    try:
        return read_key(key)
    except KeyProblem:
        return key


def _verdict(value: Value, given: Key | str | bytes | None) -> Verdict:
    if value.problem:
        return Verdict("undecodable", "format", value.problem)
    verdict = verify(value.text, given or value.public_key or None)
    return replace(verdict, embedded=given is None) if verdict.key is not None else verdict


def _own(
    value: Value, verdict: Verdict, record: Record, given: Key | str | bytes | None
) -> list[Finding]:
    return [
        *eichrecht(record),
        *_context(value, record),
        *_other_key(value, verdict, record, given),
    ]


def _context(value: Value, record: Record) -> Iterable[Finding]:
    begin, end = begin_and_end(record)
    wanted: dict[str, Reading | None] = {"Transaction.Begin": begin, "Transaction.End": end}
    if (begin or end) and value.context in wanted and wanted[value.context] is None:
        text = f"the container calls it {value.context}, but it has no such reading"
        yield error("context", "", text)


def _other_key(
    value: Value, verdict: Verdict, record: Record, given: Key | str | bytes | None
) -> Iterable[Finding]:
    came = value.public_key or record.key
    if given is None or verdict.key is None or not came:
        return
    try:
        same = read_key(came).spki == verdict.key.spki
    except KeyProblem:
        same = False
    if not same:
        yield warning("key_differs", "", "another key came with the record than the one given")


def plain(value: Decimal) -> str:
    """An exact decimal without exponent and without zeros that say nothing: "9500", "0.1"."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
