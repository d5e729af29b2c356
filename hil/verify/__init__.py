"""The four-way check: acquirer's ledger, back end's records, the agent's sessions and the printed receipts
must tell one story. Imports nothing of the agent or its drivers.

    evidence = gather(Sources(...))
    findings = check(evidence)          # an empty list: all agree
"""

from hil.verify.check import check
from hil.verify.evidence import Evidence, Finding, Movement, Record, Truth
from hil.verify.gather import Sources, gather
from hil.verify.price import TariffRules

__all__ = [
    "Evidence",
    "Finding",
    "Movement",
    "Record",
    "Sources",
    "TariffRules",
    "Truth",
    "check",
    "gather",
]
