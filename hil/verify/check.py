"""All checks in a row."""

from __future__ import annotations

from hil.verify.acquirer import check_acquirer
from hil.verify.cards import check_cards
from hil.verify.evidence import Evidence, Finding
from hil.verify.receipt import check_receipts
from hil.verify.records import check_records
from hil.verify.sessions import check_sessions
from hil.verify.signed_values import check_signed_values


def check(evidence: Evidence) -> list[Finding]:
    """Every disagreement between the four stories, and every broken invariant. Empty: all is well."""
    return [
        *check_acquirer(evidence),
        *check_records(evidence),
        *check_sessions(evidence),
        *check_receipts(evidence),
        *check_signed_values(evidence),
        *check_cards(evidence),
    ]
