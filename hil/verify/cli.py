"""`python -m hil verify`: the four-way check from the command line. Exit status 0 or 1, 2 when a source
cannot be read."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hil.verify.acquirer import group
from hil.verify.check import check
from hil.verify.evidence import ERROR, Evidence, Finding
from hil.verify.gather import Sources, gather
from hil.verify.price import minor_units

EXIT_OK, EXIT_FOUND, EXIT_UNREADABLE = 0, 1, 2


def main(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    sources = Sources(
        ledger=args.ledger,
        db=args.db,
        voltill=args.voltill,
        tariffs=args.tariff,
        trust=args.trust,
        state=args.state,
        config=args.config,
        truth=args.energy_truth,
        must_be_closed=args.all_closed,
        texts=args.also_search,
    )
    try:
        evidence = gather(sources)
    except (ValueError, OSError) as error:
        print(f"cannot check: {error}", file=sys.stderr)
        return EXIT_UNREADABLE
    findings = check(evidence)
    errors = [finding for finding in findings if finding.severity == ERROR]
    if args.json:
        print(json.dumps(report(evidence, findings), indent=2))
    else:
        print("\n".join(lines(evidence, findings)))
    return EXIT_FOUND if errors else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hil verify",
        description="Compares acquirer, back end, agent and receipts, session by session.",
    )
    parser.add_argument("--ledger", type=Path, required=True, help="the terminal's JSON lines")
    parser.add_argument("--db", type=Path, required=True, help="the back end's SQLite file")
    parser.add_argument("--voltill", required=True, help='command, such as ".venv/bin/voltill"')
    parser.add_argument("--state", type=Path, help="passed on to voltill")
    parser.add_argument("--config", type=Path, help="passed on to voltill (receipts)")
    parser.add_argument("--tariff", type=Path, required=True, action="append", help="YAML")
    parser.add_argument("--trust", type=Path, required=True, action="append", help="station PEM")
    parser.add_argument(
        "--energy-truth", type=Path, help="the charger's control socket, or its `state` in a file"
    )
    parser.add_argument("--also-search", type=Path, action="append", default=[], help="for PANs")
    parser.add_argument("--all-closed", action="store_true", help="an open session is an error")
    parser.add_argument("--json", action="store_true")
    return parser


def report(evidence: Evidence, findings: list[Finding]) -> dict[str, object]:
    return {
        "ok": not any(finding.severity == ERROR for finding in findings),
        "sessions": len(evidence.sessions),
        "holds": len(group(evidence.movements)[0]),
        "records": len(evidence.records),
        "receipts": len(evidence.receipts),
        "findings": [finding.to_json() for finding in findings],
    }


def _amount(minor: int, currency: str) -> str:
    units = minor_units(currency)
    return str(minor) if units == 1 else f"{minor // units}.{minor % units:02d}"


def lines(evidence: Evidence, findings: list[Finding]) -> list[str]:
    """One row for each hold of the acquirer and its sums, then the findings."""
    rows = [("HOLD", "HELD", "CAPTURED", "RELEASED", "ENDED BY")]
    for hold in group(evidence.movements)[0]:
        start, captured = hold.start, hold.captured_minor
        ended = bool(hold.ends)
        rows.append(
            (
                f"{start.tid}/{start.turnover}/{start.receipt}",
                f"{_amount(hold.amount_minor, start.currency)} {start.currency}",
                _amount(captured, start.currency) if ended else "-",
                _amount(hold.amount_minor - captured, start.currency) if ended else "-",
                ", ".join(end.kind for end in hold.ends) or "open",
            )
        )
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    text = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    told = report(evidence, findings)
    text += ["", *(f"{f.severity}: {f.code}: {f.where}: {f.text}" for f in findings)]
    counts = ", ".join(f"{told[k]} {k}" for k in ("sessions", "holds", "records", "receipts"))
    text.append(f"{'all four agree' if told['ok'] else 'THEY DISAGREE'}: {counts}")
    return text
