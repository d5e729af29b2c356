"""What every simulated signing unit has: a key, memory that survives a power cut, text in registers, and
OCMF as such meters write it. Own code, shared with no driver. No I/O; the clock is a value.

Source of the form: Open Charge Metering Format 1.0, ch. "Payload Data" and "Signature Data".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any, Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hil.charger.rtu import ILLEGAL_ADDRESS, ModbusException

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
BUSY, DEVICE_FAILURE = 6, 4
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "secp256r1": ec.SECP256R1, "brainpoolP256r1": ec.BrainpoolP256R1, "brainpoolP384r1": ec.BrainpoolP384R1,
}  # fmt: skip


class World(Protocol):
    """What the meter around the unit tells: its number, what flowed in exactly, and the time."""

    @property
    def serial(self) -> str: ...

    @property
    def import_wh(self) -> Fraction: ...

    @property
    def now_ns(self) -> Callable[[], int]: ...


class Key:
    """A private key; `number` is what the memory keeps of it."""

    def __init__(self, curve: str, number: int | None = None) -> None:
        self.curve = curve
        kind = _CURVES[curve]()
        if number is None:
            self._key = ec.generate_private_key(kind)
        else:
            self._key = ec.derive_private_key(number, kind)

    @property
    def number(self) -> int:
        return self._key.private_numbers().private_value

    @property
    def spki(self) -> bytes:
        return self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def point(self) -> bytes:
        """X and Y."""
        raw = self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return raw[1:]

    def sign(self, data: bytes) -> bytes:
        """DER."""
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))


@dataclass(slots=True)
class Faults:
    """What may go wrong with signing. `slow_ms`: a signature takes so much longer. `refuse`: so many
    commands that sign fail, with `code` where the meter has codes."""

    slow_ms: int = 0
    refuse: int = 0
    code: int = 0

    def refuses(self) -> bool:
        if not self.refuse:
            return False
        self.refuse -= 1
        return True


@dataclass(slots=True)
class MeterClock:
    """The meter's own time of day: seconds since 1970 at the instant it was set. Stands still at 1970 plus
    its running time until then."""

    set_to_s: int | None = None
    set_at_ns: int = 0
    offset_min: int = 0
    sets: int = 0

    def set(self, utc_s: int, now_ns: int) -> None:
        self.set_to_s, self.set_at_ns = utc_s, now_ns
        self.sets += 1

    @property
    def valid(self) -> bool:
        return self.set_to_s is not None

    def utc_s(self, now_ns: int) -> int:
        return (self.set_to_s or 0) + (now_ns - self.set_at_ns) // NS_PER_S

    def ocmf(self, now_ns: int, status: str = "S") -> str:
        """As OCMF writes it."""
        zone = timezone(timedelta(minutes=self.offset_min))
        at = datetime.fromtimestamp(self.utc_s(now_ns), UTC).astimezone(zone)
        return at.strftime("%Y-%m-%dT%H:%M:%S,000%z ") + (status if self.valid else "U")


@dataclass(slots=True)
class Block:
    """Registers at one place that can be read and, if `writable`, written in pieces."""

    address: int
    words: list[int]
    writable: bool = False

    def has(self, address: int) -> bool:
        return self.address <= address < self.address + len(self.words)

    def clear(self) -> None:
        self.words = [0] * len(self.words)

    @property
    def raw(self) -> bytes:
        return b"".join(word.to_bytes(2, "big") for word in self.words)

    @property
    def text(self) -> str:
        return self.raw.split(b"\0", 1)[0].decode("latin-1")

    def put(self, data: bytes) -> None:
        padded = data.ljust(2 * len(self.words), b"\0")
        self.words = list(struct.unpack(f">{len(self.words)}H", padded))


@dataclass(slots=True)
class Registers:
    """The blocks of a unit. A request must stay within one block."""

    functions: tuple[int, ...]
    blocks: list[Block] = field(default_factory=list)

    def add(self, address: int, count: int = 1, *, writable: bool = False) -> Block:
        block = Block(address, [0] * count, writable)
        self.blocks.append(block)
        return block

    def at(self, address: int) -> Block | None:
        return next((block for block in self.blocks if block.has(address)), None)

    def read(self, address: int, count: int) -> list[int]:
        block = self.at(address)
        start = 0 if block is None else address - block.address
        if block is None or start + count > len(block.words):
            raise ModbusException(ILLEGAL_ADDRESS)
        return block.words[start : start + count]

    def write(self, address: int, values: Sequence[int]) -> Block:
        block = self.at(address)
        start = 0 if block is None else address - block.address
        if block is None or not block.writable or start + len(values) > len(block.words):
            raise ModbusException(ILLEGAL_ADDRESS)
        block.words[start : start + len(values)] = values
        return block


class SigningUnit(Protocol):
    """A part of a simulated meter that signs (see `hil.meter.slave.Part`). `memory` is what survives a
    power cut; `truth` the exact Wh at each reading it signed, by the name of the record."""

    memory: dict[str, Any]
    faults: Faults

    def has(self, function: int, address: int) -> bool: ...

    def read(self, function: int, address: int, count: int) -> Sequence[int]: ...

    def write(self, address: int, values: Sequence[int]) -> None: ...

    def power_off(self) -> None: ...

    def power_on(self) -> None: ...

    def late_ms(self) -> int:
        """How much later than usual it answers at this moment."""

    def told(self) -> dict[str, Any]:
        """For the control socket: what happened, plain JSON."""


def kwh(wh: int, decimals: int) -> str:
    """`wh` cut off to so many decimals of a kWh, as displays do."""
    unit = 10 ** (3 - decimals)
    counted = wh // unit
    whole, rest = divmod(counted, 10**decimals)
    return f"{whole}.{rest:0{decimals}d}"
