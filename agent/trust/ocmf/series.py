"""Checks across records that no validator makes: pages without gaps, begin and end of one transaction, and
whether the records agree with receipt and bill."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from agent.trust.ocmf.checks import begin_and_end, page, pair
from agent.trust.ocmf.findings import Finding, error, shown, warning
from agent.trust.ocmf.record import Reading, Record


@dataclass(frozen=True, slots=True)
class Transaction:
    """A charge: in one record, or begin and end in two. The indexes are those of the records given."""

    begin_at: int
    end_at: int
    begin: Reading
    end: Reading

    @property
    def energy_wh(self) -> Decimal | None:
        """End minus begin, exact; None when one of them has no energy."""
        if self.begin.wh is None or self.end.wh is None:
            return None
        return self.end.wh - self.begin.wh


@dataclass(frozen=True, slots=True)
class Expected:
    """What record and bill are to say alike; None is not compared."""

    energy_wh: int | None = None
    tariff_text: str | None = None
    transaction_number: str | None = None
    meter_serial: str | None = None


def _distinct(records: Sequence[Record]) -> list[tuple[int, Record]]:
    """The records without repetitions: containers list one record under its begin and its end."""
    out: list[tuple[int, Record]] = []
    seen: set[bytes] = set()
    for index, record in enumerate(records):
        if record.signed not in seen:
            seen.add(record.signed)
            out.append((index, record))
    return out


def transactions(records: Sequence[Record]) -> list[Transaction]:
    """The charges in `records`, in their order. An end belongs to the open begin of its meter, or, when
    only one is open, to that."""
    found: list[Transaction] = []
    open_begins: list[tuple[int, Reading]] = []
    for index, record in _distinct(records):
        begin, end = begin_and_end(record)
        if begin is not None and end is not None:
            found.append(Transaction(index, index, begin, end))
        elif begin is not None:
            open_begins.append((index, begin))
        elif end is not None and open_begins:
            serial = record.get("MS")
            of_meter = [one for one in open_begins if records[one[0]].get("MS") == serial]
            if of_meter or len(open_begins) == 1:
                chosen = (of_meter or open_begins)[-1]
                open_begins.remove(chosen)
                found.append(Transaction(chosen[0], index, chosen[1], end))
    return found


def across(records: Sequence[Record], *, whole: bool = False) -> list[Finding]:
    """Findings that need more than one record, each with the number of its record. `whole`: these are all
    the signer's records from the first to the last, so a missing page is an error; otherwise others may
    have been made in between, for another connector or another driver. Never raises."""
    findings = list(_pages(records, whole))
    for charge in transactions(records):
        if charge.begin_at != charge.end_at:
            first, last = records[charge.begin_at], records[charge.end_at]
            seen = [*_same_payload(first, last), *pair(charge.begin, charge.end, "")]
            findings += [replace(finding, record=charge.end_at + 1) for finding in seen]
    return findings


def _pages(records: Sequence[Record], whole: bool) -> Iterable[Finding]:
    """Each signer counts each context by one, over restarts too."""
    last: dict[tuple[str, str], tuple[int, int]] = {}
    for index, record in _distinct(records):
        at = page(record)
        if at is None:
            continue
        counter = (record.get("GS") or record.get("MS"), at[0])
        before, where = last.get(counter, (None, 0))
        last[counter] = (at[1], index)
        if before is None or at[1] == before + 1:
            continue
        seen = f"page {at[0]}{at[1]} after {at[0]}{before} (record {where + 1})"
        finding = error("page_order", "PG", f"{seen}: the records are not in their order")
        if at[1] == before:
            finding = error("page_reused", "PG", f"two different records are page {at[0]}{before}")
        elif at[1] > before:
            tell = error if whole else warning
            finding = tell("page_gap", "PG", f"{seen}: records in between are not here")
        yield replace(finding, record=index + 1)


def _same_payload(begin: Record, end: Record) -> Iterable[Finding]:
    for name, what in (("MS", "meter"), ("GS", "gateway"), ("CI", "charge point")):
        first, last = begin.get(name), end.get(name)
        if first != last:
            text = f"begin is of {what} {shown(first)}, end of {shown(last)}"
            yield error("serial_differs" if name != "CI" else "charge_point_differs", name, text)
    first, last = begin.get("ID"), end.get("ID")
    if first != last:
        # A begin may be recorded before anybody is identified.
        tell = error if first and last else warning
        yield tell("id_differs", "ID", f"begin is of {shown(first)}, end of {shown(last)}")
    if begin.get("TT") != end.get("TT"):
        yield error("tariff_differs", "TT", "begin and end name different tariffs")


def against(records: Sequence[Record], expected: Expected) -> list[Finding]:
    """Whether the records of one charge say what receipt and bill say. Never raises."""
    findings: list[Finding] = []
    if expected.energy_wh is not None:
        charges = transactions(records)
        energy = [charge.energy_wh for charge in charges]
        if energy != [Decimal(expected.energy_wh)]:
            seen = ", ".join(f"{value} Wh" for value in energy) or "no whole charge"
            text = f"the records say {seen}, the bill {expected.energy_wh} Wh"
            findings.append(error("energy_differs", "RD", text))
    for name, code, want in (
        ("TT", "tariff_differs", expected.tariff_text),
        ("ID", "id_differs", expected.transaction_number),
        ("MS", "serial_differs", expected.meter_serial),
    ):
        for index, record in enumerate(records):
            if want is not None and record.get(name) != want:
                text = f"the record says {shown(record.get(name))}, expected {shown(want)}"
                findings.append(replace(error(code, name, text), record=index + 1))
    return findings
