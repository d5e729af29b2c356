"""OBIS codes as OCMF writes them (IEC 62056-6-1; OCMF 1.4 ch. "Reserved OBIS Codes").

All groups are hexadecimal, `b` and `e` included: meters write "1-b:1.8.e" for the groups 0Bh and 0Eh.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OBIS = re.compile(
    r"([0-9a-f]{1,2})-([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-9a-f]{1,2})\.([0-9a-f]{1,2})"
    r"(?:[.*]([0-9a-f]{1,3}))?",
    re.IGNORECASE,
)
ELECTRICITY = 1
ENERGY = 8  # D: a register that counts up
# C: active import, the older compensated register, a vendor's, and what OCMF 1.4 has set aside.
_BILLED = frozenset({0x01, 0x98, 0x9E, *range(0xB0, 0xC8)})
_COMPENSATED = frozenset({0x98, 0xB1, 0xB3, 0xC1, 0xC3})
_EXPORT = frozenset(range(0xC0, 0xC4))
# F as the S.A.F.E. transparency software accepts it: it reads "200" and "255" as hexadecimal too.
_PLAIN_F = frozenset({None, 0x0, 0x200, 0x255, 0xFF})
# Bauer's transaction register: its records bear valid signatures, but that software does not count it.
_TRANSACTION_F = 0x198


@dataclass(frozen=True, slots=True)
class Obis:
    a: int
    b: int
    c: int
    d: int
    e: int
    f: int | None

    @property
    def counts_energy(self) -> bool:
        """An energy register that a charge may be billed from, its F group aside."""
        return self.a == ELECTRICITY and self.d == ENERGY and self.c in _BILLED

    @property
    def accepted(self) -> bool:
        """As `counts_energy`, in a spelling that the transparency software counts."""
        return self.counts_energy and self.f in _PLAIN_F

    @property
    def by_transaction(self) -> bool:
        return self.counts_energy and self.f == _TRANSACTION_F

    @property
    def compensated(self) -> bool:
        """Cable losses are taken off."""
        return self.counts_energy and self.c in _COMPENSATED

    @property
    def exports(self) -> bool:
        """Energy that the vehicle gave back."""
        return self.counts_energy and self.c in _EXPORT


def parse(text: str) -> Obis | None:
    """The groups of `text`, or None when it is no OBIS code."""
    match = _OBIS.fullmatch(text.strip())
    if match is None:
        return None
    *groups, f = match.groups()
    a, b, c, d, e = (int(group, 16) for group in groups)
    return Obis(a, b, c, d, e, None if f is None else int(f, 16))
