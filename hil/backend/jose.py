"""Compact JWS with ES256, and the keys it is checked with. Own code on `cryptography` alone.

Source: RFC 7515 (compact serialisation), RFC 7518 ch. 3.4 (ES256: r and s of 32 bytes each). A key is
named by the hex SHA-256 of its DER SubjectPublicKeyInfo.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

RECORD_TYP, ACK_TYP = "voltill-record+jws", "voltill-ack+jws"
_PART_BYTES = 32


class BadJws(Exception):
    """`code` says what is wrong: malformed, unknown_key, bad_signature. `payload` is what could still
    be read, so that a refusal can name its record; it proves nothing."""

    def __init__(self, code: str, text: str, payload: dict[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.payload = code, payload or {}


@dataclass(frozen=True, slots=True)
class Signed:
    text: str
    kid: str
    payload: dict[str, Any]

    @property
    def hash(self) -> str:
        return jws_hash(self.text)


def jws_hash(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def strict_json(data: bytes) -> Any:
    """JSON as records allow it: no floats, no duplicate keys. Raises ValueError."""
    return json.loads(
        data, parse_float=_no_float, parse_constant=_no_float, object_pairs_hook=_unique
    )


def verify(text: str, keys: dict[str, ec.EllipticCurvePublicKey], typ: str) -> Signed:
    """The payload of a JWS signed by one of `keys` (by kid). Raises BadJws."""
    parts = text.split(".")
    if len(parts) != 3:
        raise BadJws("malformed", f"{len(parts)} parts, expected 3")
    try:
        header = strict_json(_decode(parts[0]))
        payload = strict_json(_decode(parts[1]))
        signature = _decode(parts[2])
    except ValueError as error:
        raise BadJws("malformed", str(error)) from None
    if not isinstance(header, dict) or not isinstance(payload, dict):
        raise BadJws("malformed", "header and payload must be objects")
    if header.get("alg") != "ES256" or header.get("typ") != typ or "crit" in header:
        raise BadJws("malformed", f"header {header}; expected ES256 and {typ}", payload)
    if len(signature) != 2 * _PART_BYTES:
        raise BadJws("bad_signature", f"{len(signature)} bytes, expected 64", payload)
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None or not isinstance(kid, str):
        raise BadJws("unknown_key", f"no key {kid} is trusted", payload)
    r, s = (int.from_bytes(p, "big") for p in (signature[:_PART_BYTES], signature[_PART_BYTES:]))
    signed = f"{parts[0]}.{parts[1]}".encode("ascii")
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise BadJws("bad_signature", "does not fit the signed bytes", payload) from None
    return Signed(text, kid, payload)


def payload_of(text: str) -> dict[str, Any]:
    """What a JWS says, unchecked; only for texts that were verified before."""
    payload: dict[str, Any] = strict_json(_decode(text.split(".")[1]))
    return payload


def sign(payload: dict[str, Any], key: ec.EllipticCurvePrivateKey, typ: str) -> str:
    header = {"alg": "ES256", "kid": key_id(key.public_key()), "typ": typ}
    signed = f"{_encode(_compact(header))}.{_encode(_compact(payload))}"
    r, s = decode_dss_signature(key.sign(signed.encode("ascii"), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_encode(r.to_bytes(_PART_BYTES, 'big') + s.to_bytes(_PART_BYTES, 'big'))}"


def load_public(path: Path) -> ec.EllipticCurvePublicKey:
    """A P-256 public key from PEM: a public key, a certificate, or (on a bench) a private key.

    Raises ValueError for anything else, OSError when the file cannot be read."""
    data = path.read_bytes()
    key: object
    if b"CERTIFICATE" in data:
        key = x509.load_pem_x509_certificate(data).public_key()
    elif b"PRIVATE KEY" in data:
        private = serialization.load_pem_private_key(data, None)
        key = private.public_key() if isinstance(private, ec.EllipticCurvePrivateKey) else None
    else:
        key = serialization.load_pem_public_key(data)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(f"{path} holds no P-256 key")
    return key


def load_or_make_private(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key in `path`; made, readable by its owner only, when there is none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        key = ec.generate_private_key(ec.SECP256R1())
        data = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        return key
    loaded = serialization.load_pem_private_key(data, None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} holds no elliptic curve key")
    return loaded


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    if "=" in text:
        raise ValueError("base64url must come without padding")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64url: {error}") from None
    if _encode(data) != text:
        # Two spellings of one signature would give one record two hashes.
        raise ValueError("base64url with stray bits")
    return data


def _compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _no_float(text: str) -> None:
    raise ValueError(f"{text} is no integer; records hold no floats")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("duplicate keys")
    return made
