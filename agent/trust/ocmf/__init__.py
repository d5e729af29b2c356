"""Open Charge Metering Format: signed meter readings, read, verified, judged and made. Pure."""

from agent.trust.ocmf.checks import eichrecht
from agent.trust.ocmf.exact import OcmfRefused
from agent.trust.ocmf.findings import Finding
from agent.trust.ocmf.make import (
    CannotMake,
    Content,
    Customer,
    Gateway,
    Mark,
    MeterLabel,
    Place,
    RecordSigner,
    SignedValue,
    make,
)
from agent.trust.ocmf.record import Reading, Record, parse
from agent.trust.ocmf.series import Expected, across, against
from agent.trust.ocmf.signature import Key, KeyProblem, Verdict, read_key, verify

__all__ = [
    "CannotMake",
    "Content",
    "Customer",
    "Expected",
    "Finding",
    "Gateway",
    "Key",
    "KeyProblem",
    "Mark",
    "MeterLabel",
    "OcmfRefused",
    "Place",
    "Reading",
    "Record",
    "RecordSigner",
    "SignedValue",
    "Verdict",
    "across",
    "against",
    "eichrecht",
    "make",
    "parse",
    "read_key",
    "verify",
]
