"""The signature of a record: ECDSA with SHA-256 over the payload's bytes as they came (OCMF ch. "Signature
Section"), with `cryptography` alone.

The verdict is `valid`, `invalid` (it was read, and does not fit), `undecodable` (it cannot be read, or not
here) or `no_key`, with a reason:

| reason | verdict | what it says |
|---|---|---|
| format, duplicate_key, size | undecodable | the text is no OCMF record |
| algorithm | undecodable | SA names none of the format's algorithms |
| curve | undecodable | the curve is known but `cryptography` lacks it (secp192k1) |
| signature | undecodable | SD is no DER signature in the coding that SE names |
| key | undecodable | the key is no public key that can be read |
| key_curve | invalid | the key is on another curve than SA says |
| mismatch | invalid | text, signature and key do not belong together |
| no_key | no_key | there is no key to verify with |
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from agent.trust.ocmf.exact import JSON, OcmfRefused
from agent.trust.ocmf.record import Record, parse
from agent.trust.ocmf.terms import DEFAULT_ALGORITHM

Outcome: TypeAlias = Literal["valid", "invalid", "undecodable", "no_key"]

_ALGORITHM = re.compile(r"ECDSA-([A-Za-z0-9]+)-SHA-?256", re.IGNORECASE)
# The format's table writes brainpool256r1 and brainpool384r1; meters write the curves' own names.
_CURVES = {
    "secp192k1": "secp192k1",
    "secp192r1": "secp192r1",
    "secp256k1": "secp256k1",
    "secp256r1": "secp256r1",
    "secp384r1": "secp384r1",
    "brainpool256r1": "brainpoolP256r1",
    "brainpoolp256r1": "brainpoolP256r1",
    "brainpool384r1": "brainpoolP384r1",
    "brainpoolp384r1": "brainpoolP384r1",
}
_LACKING = frozenset({"secp192k1"})
# The longest, a P-384 signature, has 104 bytes; firmware that pads its numbers adds a few.
MAX_SIGNATURE_BYTES = 256
# A key in PEM with its headings has 200 characters.
MAX_KEY_CHARS = 4096
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_SEQUENCE, _INTEGER, _LONG_LENGTH = 0x30, 0x02, 0x81
_SHA256 = ec.ECDSA(hashes.SHA256())


class KeyProblem(ValueError):
    """The text is no key that can be used; `reason` is `key` or `curve`."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason, self.text = reason, text


@dataclass(frozen=True, slots=True)
class Key:
    """A public key. `curve` is its name as `cryptography` writes it, `fingerprint` the hex SHA-256 of its
    DER SubjectPublicKeyInfo, as the `kid` of the station's own keys."""

    spki: bytes
    curve: str
    public: ec.EllipticCurvePublicKey = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.spki).hexdigest()


def read_key(text: str | bytes) -> Key:
    """A public key as DER SubjectPublicKeyInfo, in hex, base64 or PEM, or (bytes) DER itself; its point may
    be compressed. Raises KeyProblem."""
    der = _key_der(text)
    try:
        public = serialization.load_der_public_key(der)
    except UnsupportedAlgorithm:
        raise KeyProblem("curve", "the key is on a curve that is not available here") from None
    except (ValueError, TypeError):
        raise KeyProblem("key", _not_a_key(der)) from None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise KeyProblem("key", "the key is no elliptic-curve key")
    if public.curve.name not in _CURVES.values():
        raise KeyProblem("curve", f"the key is on {public.curve.name}, which OCMF does not know")
    spki = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Key(spki, public.curve.name, public)


def _key_der(text: str | bytes) -> bytes:
    if len(text) > MAX_KEY_CHARS:
        raise KeyProblem("key", f"the key is longer than {MAX_KEY_CHARS} characters")
    if isinstance(text, bytes):
        if not text.isascii() or b"\0" in text:
            return text
        text = text.decode("ascii")
    if "-----BEGIN" in text:
        found = re.search(r"-----BEGIN ([A-Z ]+)-----(.*?)-----END", text, re.DOTALL)
        if found is None or found[1] != "PUBLIC KEY":
            kind = "a PEM text" if found is None else found[1].lower()
            raise KeyProblem("key", f"expected a PUBLIC KEY in PEM, not {kind}")
        text = found[2]
    text = "".join(text.split())
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise KeyProblem("key", "the key is neither hex nor base64 nor PEM") from None


def _not_a_key(der: bytes) -> str:
    expected = "expected a SubjectPublicKeyInfo in hex, base64 or PEM"
    try:
        serialization.load_der_private_key(der, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return f"the key cannot be read; {expected}"
    return f"this is a private key, which must be shown to nobody; {expected}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`text` says the reason in words. `key` is the one that was used, `embedded` whether it came in the
    record itself, which shows only that the record was not changed since, not who signed it."""

    signature: Outcome
    reason: str = ""
    text: str = ""
    record: Record | None = None
    key: Key | None = None
    embedded: bool = False
    algorithm: str = ""

    @property
    def valid(self) -> bool:
        return self.signature == "valid"


def verify(text: str | bytes | Record, key: str | bytes | Key | None) -> Verdict:
    """Verify one record, with `key`, or, when that is None or empty, with the key in the record's fourth
    section. Never raises."""
    try:
        record = text if isinstance(text, Record) else parse(text)
    except OcmfRefused as refused:
        return Verdict("undecodable", refused.reason, refused.text)
    try:
        algorithm, curve = _algorithm(record.signature.get("SA"))
        signature = _signature(record.signature)
        if curve in _LACKING:
            raise KeyProblem("curve", f"curve {curve} is not available here")
        embedded = not key
        given = key or record.key
        if not given:
            return Verdict("no_key", "no_key", "no public key to verify with", record)
        used = given if isinstance(given, Key) else read_key(given)
    except (OcmfRefused, KeyProblem) as problem:
        return Verdict("undecodable", problem.reason, problem.text, record)
    outcome, reason, words = _check(record, signature, used, curve)
    return Verdict(outcome, reason, words, record, used, embedded, algorithm)


def _check(
    record: Record, signature: tuple[int, int], key: Key, curve: str
) -> tuple[Outcome, str, str]:
    if key.curve != curve:
        return "invalid", "key_curve", f"signed on {curve}, but the key is on {key.curve}"
    mismatch = "the record was changed, or the key is not the one it was signed with"
    if min(signature) < 1:
        return "invalid", "mismatch", mismatch  # no signature has such numbers
    try:
        key.public.verify(encode_dss_signature(*signature), record.signed, _SHA256)
    except InvalidSignature:
        return "invalid", "mismatch", mismatch
    except UnsupportedAlgorithm:
        return "undecodable", "curve", f"curve {curve} is not available here"
    return "valid", "", ""


def _algorithm(name: JSON) -> tuple[str, str]:
    """(SA, curve). KEBA, ebee and SEAL leave SA out: the default is P-256 then."""
    if name is None or name == "":
        return DEFAULT_ALGORITHM, "secp256r1"
    match = _ALGORITHM.fullmatch(name.strip()) if isinstance(name, str) else None
    curve = None if match is None else _CURVES.get(match[1].lower())
    if curve is None or not isinstance(name, str):
        raise OcmfRefused("algorithm", "SA names no ECDSA with SHA-256 that OCMF knows")
    return name.strip(), curve


def _signature(section: dict[str, JSON]) -> tuple[int, int]:
    """r and s out of SD."""
    data, coding, mime = section.get("SD"), section.get("SE", "hex"), section.get("SM")
    if mime not in (None, "", "application/x-der"):
        raise OcmfRefused("signature", "SM is not application/x-der")
    if not isinstance(data, str) or len(data) > 2 * MAX_SIGNATURE_BYTES:
        raise OcmfRefused("signature", "SD is missing, no text or too long")
    data = data.strip()
    if coding in ("", "hex"):
        if not _HEX.fullmatch(data):
            raise OcmfRefused("signature", "SD is not coded in hex")
        raw = bytes.fromhex(data)
    elif coding == "base64":
        try:
            raw = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise OcmfRefused("signature", "SD is not coded in base64") from None
    else:
        raise OcmfRefused("signature", "SE is neither hex nor base64")
    return numbers(raw)


def numbers(der: bytes) -> tuple[int, int]:
    """r and s of a DER signature, also where firmware (Iskra's) has put more zeros before them than DER
    allows. Raises OcmfRefused."""
    body, rest = _element(der, _SEQUENCE)
    r, after = _element(body, _INTEGER)
    s, end = _element(after, _INTEGER)
    if rest or end or not r or not s:
        raise OcmfRefused("signature", "SD is no DER sequence of two integers")
    return int.from_bytes(r, signed=True), int.from_bytes(s, signed=True)


def _element(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the DER element that `der` begins with, and what follows it."""
    long = len(der) > 2 and der[1] == _LONG_LENGTH
    start = 3 if long else 2
    if len(der) < start or der[0] != tag or (der[1] > 0x7F and not long):
        raise OcmfRefused("signature", "SD is no DER sequence of two integers")
    end = start + der[start - 1]
    if end > len(der):
        raise OcmfRefused("signature", "SD is cut off")
    return der[start:end], der[end:]
