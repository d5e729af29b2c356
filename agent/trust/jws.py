"""Compact JWS with ES256 (RFC 7515 ch. 7.1, RFC 7518 ch. 3.4), written and read by us alone.

The reader is strict: it accepts one spelling of everything, so that a text has one hash and one
meaning. What was signed is kept as the bytes it came in; nothing is ever serialised again.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.trust import plain
from agent.trust.keys import KeySet, Signer
from agent.trust.plain import JSON

RECORD_TYP = "voltill-record+jws"
ACK_TYP = "voltill-ack+jws"
# One record must fit an MQTT message of 96 KiB together with its envelope.
MAX_JWS_BYTES = 64 * 1024
_PART = re.compile(r"[A-Za-z0-9_-]+\Z")
_KID = re.compile(r"[0-9a-f]{64}\Z")


class JwsRefused(ValueError):
    """`code` is one of not_jws, bad_header, unknown_key, bad_signature, bad_payload."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@dataclass(frozen=True, slots=True)
class Jws:
    """A JWS taken apart, not yet believed: call `check` before using `payload`."""

    text: str = field(repr=False)
    kid: str
    typ: str
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def check(self, keys: KeySet) -> dict[str, JSON]:
        """The payload once a key of `keys` has signed it. Raises JwsRefused."""
        key = keys.get(self.kid)
        if key is None:
            raise JwsRefused("unknown_key", f"signed by key {self.kid[:16]}, which is not trusted")
        signed = self.text.rpartition(".")[0].encode("ascii")
        if not key.verify(self.signature, signed):
            raise JwsRefused("bad_signature", "the signature does not fit the text")
        return self.unchecked_body()

    def unchecked_body(self) -> dict[str, JSON]:
        """The payload without a look at the signature: only to name a record in a report."""
        try:
            return plain.loads_object(self.payload)
        except plain.NotPlain as error:
            raise JwsRefused("bad_payload", f"the payload is refused: {error}") from None


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(part: str) -> bytes:
    """Base64url without padding, canonical: unused bits of the last character must be zero."""
    if not _PART.match(part):
        raise JwsRefused("not_jws", "a part is not base64url")
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise JwsRefused("not_jws", "a part is not base64url") from None
    if encode(data) != part:
        raise JwsRefused("not_jws", "a part is not canonical base64url")
    return data


def sign(payload: Mapping[str, object], key: Signer, typ: str) -> str:
    """A compact JWS of `payload` (plain JSON). Raises plain.NotPlain."""
    header = plain.dumps({"alg": "ES256", "kid": key.kid, "typ": typ})
    body = plain.dumps(payload)
    signed = f"{encode(header.encode('ascii'))}.{encode(body.encode('ascii'))}"
    text = f"{signed}.{encode(key.sign(signed.encode('ascii')))}"
    if len(text) > MAX_JWS_BYTES:
        raise plain.NotPlain(f"the signed text has {len(text)} bytes; at most {MAX_JWS_BYTES}")
    return text


def parse(text: str, typ: str) -> Jws:
    """Take `text` apart; its header must say ES256, a kid and exactly `typ`. Raises JwsRefused."""
    if len(text) > MAX_JWS_BYTES:
        raise JwsRefused("not_jws", f"longer than {MAX_JWS_BYTES} bytes")
    parts = text.split(".")
    if len(parts) != 3:
        raise JwsRefused("not_jws", f"has {len(parts)} parts; expected header.payload.signature")
    raw_header, payload, signature = (decode(part) for part in parts)
    try:
        header = plain.loads_object(raw_header)
    except plain.NotPlain as error:
        raise JwsRefused("bad_header", f"the header is refused: {error}") from None
    if set(header) != {"alg", "kid", "typ"} or header["alg"] != "ES256":
        raise JwsRefused("bad_header", "the header is not exactly alg ES256, kid and typ")
    kid = header["kid"]
    if header["typ"] != typ:
        raise JwsRefused("bad_header", f"typ is not {typ}")
    if not isinstance(kid, str) or not _KID.match(kid):
        raise JwsRefused("bad_header", "kid is not a hex SHA-256")
    return Jws(text, kid, typ, payload, signature)


def verify(text: str, keys: KeySet, typ: str) -> dict[str, JSON]:
    """The payload of `text` once a key of `keys` has signed it. Raises JwsRefused."""
    return parse(text, typ).check(keys)
