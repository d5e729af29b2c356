"""The back end's signed word on what it has. PUBACK is not delivery: a broker confirms what it may drop
a moment later, so only this counts (design §3 Topics)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.trust import jws
from agent.trust.keys import KeySet
from agent.trust.plain import JSON

_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_CODE = 64


class AckRefused(ValueError):
    """The message counts for nothing. `code` is a stable id of docs/errors.md."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@dataclass(frozen=True, slots=True)
class Ack:
    """`hash` is the back end's hash of the record `through_seq`; `holes` are numbers it wants (again);
    `refused` are (number, reason) it has and will not take. `time_ms` is the back end's clock."""

    chain: str
    through_seq: int
    hash: str
    holes: tuple[int, ...]
    refused: tuple[tuple[int, str], ...]
    time_ms: int


def read(payload: bytes, keys: KeySet, station: str) -> Ack:
    """The ack in `payload`, signed by one of `keys` and meant for `station`. Raises AckRefused."""
    try:
        body = jws.verify(payload.decode("ascii"), keys, jws.ACK_TYP)
    except UnicodeDecodeError:
        raise AckRefused("UPL-010", "not ASCII text") from None
    except jws.JwsRefused as error:
        raise AckRefused("UPL-010", f"{error.code}: {error.text}") from None
    if body.get("station") != station:
        raise AckRefused("UPL-010", "it is meant for another station")
    return _ack(body)


def _ack(body: dict[str, JSON]) -> Ack:
    chain, through, digest = body.get("chain"), body.get("through_seq"), body.get("hash")
    holes, refused = body.get("holes", []), body.get("refused", [])
    if (
        not isinstance(chain, str)
        or not chain.isascii()
        or not isinstance(digest, str)
        or not _HEX64.match(digest)
        or not isinstance(holes, list)
        or not isinstance(refused, list)
    ):
        raise AckRefused("UPL-010", "chain, hash, holes or refused is missing or malformed")
    return Ack(
        chain,
        _number(through, "through_seq", 0),
        digest,
        tuple(_number(seq, "a hole", 1) for seq in holes),
        tuple(_refusal(item) for item in refused),
        _time_ms(body.get("time")),
    )


def _number(value: JSON, what: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise AckRefused("UPL-010", f"{what} is not a whole number from {least} on")
    return value


def _refusal(item: JSON) -> tuple[int, str]:
    if not isinstance(item, dict) or not isinstance(code := item.get("code"), str):
        raise AckRefused("UPL-010", "a refusal lacks its code")
    return _number(item.get("seq"), "a refused seq", 1), code[:MAX_CODE]


def _time_ms(value: JSON) -> int:
    if not isinstance(value, str) or not _TIME.match(value):
        raise AckRefused("UPL-010", "time is not ISO 8601 UTC")
    try:
        return (datetime.fromisoformat(value) - _EPOCH) // timedelta(milliseconds=1)
    except ValueError:
        raise AckRefused("UPL-010", "time is not a date") from None
