"""Open Charge Metering Format: signed meter readings, read, verified, judged and made. Pure."""

from agent.trust.ocmf.exact import OcmfRefused
from agent.trust.ocmf.record import Reading, Record, parse
from agent.trust.ocmf.signature import Key, KeyProblem, Verdict, read_key, verify

__all__ = [
    "Key",
    "KeyProblem",
    "OcmfRefused",
    "Reading",
    "Record",
    "Verdict",
    "parse",
    "read_key",
    "verify",
]
