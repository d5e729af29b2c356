"""Open Charge Metering Format: signed meter readings, read, verified, judged and made. Pure."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from agent.trust.ocmf.checks import eichrecht
    from agent.trust.ocmf.record import Reading, Record, parse
    from agent.trust.ocmf.series import Expected, across, against
    from agent.trust.ocmf.signature import Key, KeyProblem, Verdict, read_key, verify

# A station makes records and reads none: what reads and judges takes 0.4 MiB, so it comes when it is used.
_READERS = {
    "checks": ("eichrecht",),
    "record": ("Reading", "Record", "parse"),
    "series": ("Expected", "across", "against"),
    "signature": ("Key", "KeyProblem", "Verdict", "read_key", "verify"),
}

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


def __getattr__(name: str) -> Any:
    for module, names in _READERS.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
