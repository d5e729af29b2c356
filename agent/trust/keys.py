"""Record keys: ECDSA P-256. Public keys are known by the SHA-256 of their SPKI.

A private key is in a PEM file (here), in a PKCS#11 token (pkcs11.py) or in a TPM 2.0 (tpm.py); whoever signs
sees a Signer. A key file signs by RFC 6979: the same record signed again after a crash has the same bytes.
Tokens and TPMs take a random number each time: there the record is the same and its signature another one, so
nothing may count on equal texts before one of them is stored.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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
    """A key cannot be used. `code` is a stable id of docs/errors.md."""

    def __init__(self, code: str, seen: str, remedy: str) -> None:
        super().__init__(f"{code}: {seen}; {remedy}")
        self.code, self.seen, self.remedy = code, seen, remedy


class KeyAway(KeyRefused):
    """The key cannot be reached now and may be again by itself: a token was pulled, a TPM is busy."""


def der_signature(raw: bytes) -> bytes:
    """r||s of 64 bytes as DER ECDSA-Sig-Value (RFC 3279 ch. 2.2.3), as OCMF and openssl have it."""
    if len(raw) != 2 * SCALAR_BYTES:
        raise ValueError(f"a raw P-256 signature has 64 bytes, not {len(raw)}")
    return encode_dss_signature(
        int.from_bytes(raw[:SCALAR_BYTES]), int.from_bytes(raw[SCALAR_BYTES:])
    )


def raw_signature(der: bytes) -> bytes:
    """The reverse of der_signature. Raises ValueError when `der` is no signature of a 256-bit curve."""
    r, s = decode_dss_signature(der)
    try:
        return r.to_bytes(SCALAR_BYTES) + s.to_bytes(SCALAR_BYTES)
    except OverflowError:
        raise ValueError("a number of the signature has more than 256 bits") from None


def read_key_file(path: Path) -> bytes:
    """What a key file holds. Raises KeyRefused."""
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


def write_private(path: Path, data: bytes) -> None:
    """A new file of mode 0600, durable when this returns. Raises KeyRefused: one that exists is never
    overwritten."""
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
        return cls.parse(read_key_file(path), str(path))

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


class Signer(Protocol):
    """A P-256 key that signs, wherever its private half is. Calls block, and come from one thread at a
    time."""

    @property
    def public(self) -> PublicKey: ...

    @property
    def kid(self) -> str: ...

    def sign(self, data: bytes) -> bytes:
        """Raw r||s, 64 bytes, over SHA-256 of `data` (RFC 7518 ch. 3.4). Raises KeyRefused and KeyAway."""
        ...

    def check(self) -> None:
        """Cheap, without a signature. Raises KeyAway when the key is known not to be able to sign now."""
        ...

    def close(self) -> None:
        """Let go of the device. May be called twice; never raises."""
        ...


class KeySource(Protocol):
    """Where the record key is and how it is opened. Making one touches no device."""

    @property
    def kind(self) -> str:
        """file, pkcs11 or tpm."""
        ...

    @property
    def name(self) -> str:
        """The place in a person's words: a path, or token and key."""
        ...

    @property
    def leaves(self) -> bool:
        """Whether it is in a device that may go away, hang, or take its time."""
        ...

    def open(self, *, by_person: bool = False) -> Signer:
        """`by_person`: somebody asks for it now, so a PIN that a token has refused may be given again.
        Raises KeyRefused, KeyAway."""
        ...

    def public(self) -> PublicKey:
        """The public half; needs no PIN. Raises KeyRefused, KeyAway."""
        ...

    def create(self) -> PublicKey:
        """Make the key where none is. A person asks for it; an existing one is never replaced. Raises
        KeyRefused, KeyAway."""
        ...


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A KeySource: a PEM file."""

    path: Path
    kind: str = "file"
    leaves: bool = False

    @property
    def name(self) -> str:
        return str(self.path)

    def open(self, *, by_person: bool = False) -> RecordKey:
        return RecordKey.load(self.path)

    def public(self) -> PublicKey:
        return RecordKey.load(self.path).public

    def create(self) -> PublicKey:
        key = RecordKey.generate()
        key.save(self.path)
        return key.public


class RecordKey:
    """A private key in this process's memory: a Signer that is always there."""

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
        data = read_key_file(path)
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
        write_private(path, data)

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
        return raw_signature(der)

    def check(self) -> None:
        """Nothing can take it away."""

    def close(self) -> None:
        """Nothing to let go of."""
