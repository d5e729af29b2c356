"""Record keys: ECDSA P-256 in PEM files. Public keys are known by the SHA-256 of their SPKI.

Signing follows RFC 6979, so signing the same record again after a crash gives the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

# A PEM file of one key is under 1 KiB; more than this is not a key file.
MAX_KEY_FILE_BYTES = 64 * 1024
SCALAR_BYTES = 32
_CHECK = ec.ECDSA(hashes.SHA256())


class KeyRefused(Exception):
    """A key file cannot be used. `code` is a stable id of docs/errors.md."""

    def __init__(self, code: str, seen: str, remedy: str) -> None:
        super().__init__(f"{code}: {seen}; {remedy}")
        self.code, self.seen, self.remedy = code, seen, remedy


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise KeyRefused(
            "KEY-001",
            f"{path}: {error.strerror or error}",
            "expected a readable PEM file; check the path and that the service user may read it",
        ) from None
    if len(data) > MAX_KEY_FILE_BYTES:
        raise KeyRefused("KEY-003", f"{path} is larger than 64 KiB", "expected one key in PEM")
    return data


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A P-256 public key. `kid` is the hex SHA-256 of `spki`, its DER SubjectPublicKeyInfo."""

    kid: str
    spki: bytes

    @classmethod
    def of(cls, key: ec.EllipticCurvePublicKey) -> PublicKey:
        spki = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(hashlib.sha256(spki).hexdigest(), spki)

    @classmethod
    def parse(cls, pem: bytes, name: str = "the key") -> PublicKey:
        """A public key, the public half of a certificate, or of a private key. Raises KeyRefused."""
        try:
            if b"PRIVATE KEY-----" in pem:
                private = serialization.load_pem_private_key(pem, None)
                key: object = private.public_key()
            elif b"BEGIN CERTIFICATE-----" in pem:
                from cryptography import x509  # only for certificates: it costs memory

                key = x509.load_pem_x509_certificate(pem).public_key()
            else:
                key = serialization.load_pem_public_key(pem)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise KeyRefused(
                "KEY-003", f"{name} holds no key that can be read", "expected a P-256 key in PEM"
            ) from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise KeyRefused("KEY-004", f"{name} is not an elliptic P-256 key", "make a P-256 key")
        return cls.of(key)

    @classmethod
    def load(cls, path: Path) -> PublicKey:
        return cls.parse(_read(path), str(path))

    def pem(self) -> str:
        key = serialization.load_der_public_key(self.spki)
        return key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode("ascii")

    def verify(self, signature: bytes, data: bytes) -> bool:
        """`signature` is raw r||s, 64 bytes (RFC 7518 ch. 3.4)."""
        if len(signature) != 2 * SCALAR_BYTES:
            return False
        r, s = (int.from_bytes(signature[i : i + SCALAR_BYTES]) for i in (0, SCALAR_BYTES))
        key = serialization.load_der_public_key(self.spki)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(encode_dss_signature(r, s), data, _CHECK)
        except InvalidSignature:
            return False
        return True


class KeySet:
    """Public keys by kid."""

    def __init__(self, keys: Iterable[PublicKey] = ()) -> None:
        self._keys: Mapping[str, PublicKey] = {key.kid: key for key in keys}

    @classmethod
    def load(cls, paths: Iterable[Path]) -> KeySet:
        """Every file holds one key (public, certificate or private). Raises KeyRefused."""
        return cls(PublicKey.load(path) for path in paths)

    def get(self, kid: str) -> PublicKey | None:
        return self._keys.get(kid)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def kids(self) -> tuple[str, ...]:
        return tuple(self._keys)


class RecordKey:
    """The station's private record key."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public = PublicKey.of(key.public_key())

    @property
    def kid(self) -> str:
        return self.public.kid

    @classmethod
    def generate(cls) -> RecordKey:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, path: Path) -> RecordKey:
        """Read a PEM private key (unencrypted; the file's mode protects it). Raises KeyRefused."""
        data = _read(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise KeyRefused(
                "KEY-002",
                f"{path} has mode {mode:04o}, so others can read the record key",
                f"chmod 600 {path}; if others had access, make a new key",
            )
        try:
            key = serialization.load_pem_private_key(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise KeyRefused(
                "KEY-003",
                f"{path} holds no private key that can be read",
                "expected an unencrypted P-256 private key in PEM",
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise KeyRefused("KEY-004", f"{path} is not an elliptic P-256 key", "make a P-256 key")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the private key, mode 0600, durable when this returns. An existing file is never
        overwritten: its records could not be told apart from forged ones any more."""
        data = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise KeyRefused("KEY-005", f"{path} exists already", "move it away first") from None
        except OSError as error:
            raise KeyRefused(
                "KEY-001", f"{path}: {error.strerror}", "check the directory and its owner"
            ) from None
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def sign(self, data: bytes) -> bytes:
        """Raw r||s over SHA-256 of `data`; the same data gives the same bytes (RFC 6979)."""
        try:
            algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
            der = self._key.sign(data, algorithm)
        except UnsupportedAlgorithm:
            raise KeyRefused(
                "KEY-006",
                "the cryptography library cannot sign deterministically (OpenSSL before 3.2)",
                "install the cryptography wheel named in packaging/requirements",
            ) from None
        r, s = decode_dss_signature(der)
        return r.to_bytes(SCALAR_BYTES) + s.to_bytes(SCALAR_BYTES)
