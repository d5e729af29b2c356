"""Records as a station would sign them, made with joserfc: an independent hand, for tests of receivers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from joserfc import jws
from joserfc.jwk import ECKey

GENESIS = "0" * 64
TIME = "2026-11-21T10:00:00.000Z"


class RecordChain:
    """Signs payloads one after the other: `add` fills in chain, seq, prev and signs."""

    def __init__(
        self, station: str = "DE*ABC*S1", chain: str = "c0ffee", tenant: str = "abc"
    ) -> None:
        self.station, self.chain, self.tenant = station, chain, tenant
        self.key = ECKey.generate_key("P-256", private=True)
        self.texts: list[str] = []

    @property
    def kid(self) -> str:
        der = self.key.public_key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(der).hexdigest()

    def write_public(self, path: Path) -> Path:
        path.write_bytes(self.key.as_pem(private=False))
        return path

    def add(self, kind: str = "settlement", **extra: Any) -> str:
        """The next record of the chain; `extra` may override anything, for bad ones."""
        text = self.make(len(self.texts) + 1, kind, **extra)
        self.texts.append(text)
        return text

    def make(self, seq: int, kind: str = "settlement", **extra: Any) -> str:
        prev = self.hash(seq - 1) if seq > 1 else GENESIS
        payload = {
            "chain": self.chain,
            "seq": seq,
            "prev": prev,
            "type": kind,
            "station": self.station,
            "time": TIME,
            "stamp": {
                "utc_ms": 1795255200000,
                "boot_ms": seq,
                "boot_id": "b",
                "quality": "trusted",
            },
        }
        return self.sign({**payload, **extra})

    def sign(self, payload: dict[str, Any], typ: str = "voltill-record+jws") -> str:
        header = {"alg": "ES256", "kid": self.kid, "typ": typ}
        data = json.dumps(payload, separators=(",", ":")).encode()
        return jws.serialize_compact(header, data, self.key)

    def hash(self, seq: int) -> str:
        return hashlib.sha256(self.texts[seq - 1].encode()).hexdigest()

    def event(self, seq: int, kind: str = "settlement", data: str | None = None) -> dict[str, Any]:
        """The CloudEvent of record `seq`, or of `data` in its place."""
        return {
            "specversion": "1.0",
            "id": f"{self.chain}-{seq}",
            "source": f"/{self.tenant}/{self.station}",
            "type": f"voltill.record.{kind}",
            "time": TIME,
            "datacontenttype": "application/jose",
            "data": self.texts[seq - 1] if data is None else data,
        }


def payload_of(text: str) -> dict[str, Any]:
    """What a compact JWS says, by joserfc, unverified."""
    payload: dict[str, Any] = json.loads(jws.extract_compact(text.encode()).payload)
    return payload
