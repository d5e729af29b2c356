"""(e) The signed readings in the session records (OCMF 1.3): genuine, counted without a gap, and of the same
energy, meter, time and payment as the record around them."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hil.backend.jose import payload_of
from hil.verify.evidence import NOTE, Evidence, Finding, Record

ALGORITHM = "ECDSA-secp256r1-SHA256"
CLOCKS = {"trusted": "S", "restored": "I", "unknown": "U"}
_PAGE = re.compile(r"T([1-9]\d*)")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d),(\d{3})([+-]\d{4}) ([UISR])")
_EXACT_WH = Decimal(1000)


class BadValue(ValueError):
    """`code` is that of the finding."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def check_signed_values(evidence: Evidence) -> Iterator[Finding]:
    """Order of the pages is that of the records; chains follow each other as their gap records say."""
    pages: dict[str, list[tuple[str, int]]] = defaultdict(list)
    sessions = {str(session["id"]): session for session in evidence.sessions}
    skipped: set[int] = set()
    for record in evidence.records:
        try:
            body = payload_of(record.jws)
        except (ValueError, IndexError):
            continue  # told as a bad record
        if record.type == "gap":
            skipped.add(int(body.get("pages_behind") or 0))
        if record.type == "session":
            yield from _record(record, body, sessions, evidence, pages)
    for kid, found in pages.items():
        yield from _counted(kid, found, skipped)


def _record(
    record: Record,
    body: dict[str, Any],
    sessions: dict[str, dict[str, Any]],
    evidence: Evidence,
    pages: dict[str, list[tuple[str, int]]],
) -> Iterator[Finding]:
    where = f"{body.get('session_id')} record {record.chain[:8]}/{record.seq}"
    if "signed_values" not in body:
        return  # of a version before they were made
    values, missing = body["signed_values"], body.get("signed_values_missing")
    if not values:
        code = "signed_value_missing" if missing else "signed_value_unexplained"
        yield Finding(code, where, str(missing), NOTE if missing else "error")
    session = sessions.get(str(body.get("session_id")), {})
    ours = [value for value in values if value["signed_by"] == "station"]
    if len(ours) < len(values) and not body.get(
        "meter_signing"
    ):  # else it says itself what is amiss
        yield from _of_meter(where, values, body)
    for value in ours:
        try:
            kid, payload = opened(value, evidence)
            pages[kid].append((where, _page(payload)))
            _agrees(payload, body, session)
        except BadValue as bad:
            yield Finding(bad.code, where, str(bad))
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            yield Finding("signed_value_malformed", where, repr(error))


def opened(value: dict[str, Any], evidence: Evidence) -> tuple[str, dict[str, Any]]:
    """The hash of the key and the payload. Raises BadValue where the signature is not of a key we trust."""
    text = str(value["text"])
    head, signed, signature = text.split("|")
    section = json.loads(signature)
    spki = bytes.fromhex(str(value["public_key"]))
    kid = hashlib.sha256(spki).hexdigest()
    if head != "OCMF" or not text.isascii() or section.get("SA", ALGORITHM) != ALGORITHM:
        raise BadValue("signed_value_malformed", "not OCMF in ASCII with P-256")
    key = serialization.load_der_public_key(spki)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadValue("signed_value_key", "no elliptic key")
    if kid not in evidence.keys:
        raise BadValue("signed_value_key", f"signed by {kid[:16]}, which is no key of the station")
    try:
        key.verify(bytes.fromhex(section["SD"]), signed.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise BadValue("signed_value_forged", "the signature does not fit") from None
    return kid, json.loads(signed, object_pairs_hook=_once, parse_float=Decimal)


def _of_meter(where: str, values: list[dict[str, Any]], body: dict[str, Any]) -> Iterator[Finding]:
    """Genuine by the key that came along, and of the energy that is billed, as far as its digits go."""
    try:
        readings = [reading for value in values for reading in _metered(value)]
        ends = [_wh(readings[0]), _wh(readings[-1])]
        (begin, _), (end, _) = ends
        if abs(end - begin - body["energy_wh"]) >= max(step for _, step in ends) + 1:
            text = f"{end - begin} Wh signed, {body['energy_wh']} billed"
            yield Finding("signed_value_differs", where, text)
    except BadValue as bad:
        yield Finding(bad.code, where, str(bad))
    except (KeyError, TypeError, ValueError, ArithmeticError, IndexError) as error:
        yield Finding("signed_value_malformed", where, repr(error))


def _metered(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The readings of one record of a meter, after its signature was verified."""
    text = str(value["text"])
    raw = text.encode() if text.startswith("OCMF|") else bytes.fromhex(text)
    _, signed, signature = raw.split(b"|")
    key = serialization.load_der_public_key(bytes.fromhex(value["public_key"]))
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadValue("signed_value_key", "no elliptic key")
    try:
        sd = bytes.fromhex(json.loads(signature)["SD"])
        key.verify(sd, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise BadValue("signed_value_forged", "the signature of the meter does not fit") from None
    readings: list[dict[str, Any]] = json.loads(
        signed, object_pairs_hook=_once, parse_float=Decimal
    )["RD"]
    return readings


def _wh(reading: dict[str, Any]) -> tuple[Decimal, Decimal]:
    """The register and what its last digit counts."""
    scale = 1000 if reading["RU"] == "kWh" else 1
    value = Decimal(reading["RV"])
    digits = len(f"{value:f}".partition(".")[2])
    return value * scale, scale * Decimal(1).scaleb(-digits)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise BadValue("signed_value_malformed", "one key twice")
    return dict(pairs)


def _page(payload: dict[str, Any]) -> int:
    found = _PAGE.fullmatch(payload["PG"])
    if found is None:
        raise BadValue("signed_value_page", f"PG is {payload['PG']!r}")
    return int(found[1])


def _agrees(payload: dict[str, Any], body: dict[str, Any], session: dict[str, Any]) -> None:
    meter, readings = body["meter"], payload["RD"]
    if payload["FV"] != "1.3" or len(readings) != 2 or readings[0]["TX"] != "B":
        raise BadValue("signed_value_malformed", "expected one begin and one end in format 1.3")
    for reading, wh, stamp in zip(
        readings, (meter["begin_wh"], meter["end_wh"]), (meter["begin"], meter["end"]), strict=True
    ):
        if reading["RU"] != "kWh" or Decimal(reading["RV"]) * _EXACT_WH != wh:
            seen = f"{reading['RV']} {reading['RU']}"
            raise BadValue("signed_value_differs", f"{seen} signed, {wh} Wh in the record")
        if reading["RI"] != "1-0:1.8.0":
            raise BadValue("signed_value_differs", f"register {reading['RI']}")
        _time(reading, stamp, meter["begin"])
    energy = (Decimal(readings[1]["RV"]) - Decimal(readings[0]["RV"])) * _EXACT_WH
    if energy != body["energy_wh"]:
        raise BadValue("signed_value_differs", f"{energy} Wh signed, {body['energy_wh']} billed")
    good = "G" if meter["end_quality"] == "confirmed" else "S"
    if (readings[0]["ST"], readings[1]["ST"]) != ("G", good):
        raise BadValue("signed_value_differs", f"status {readings[1]['ST']}, expected {good}")
    hold = session.get("hold") or {}
    known = [hold.get(name) for name in ("terminal_id", "receipt", "trace")]
    number = "-".join(str(part) for part in known if part is not None)
    expected = {"MS": meter["serial"], "CI": body["evse"], "GS": body["station"]}
    if hold.get("receipt") is not None:
        expected |= {"IT": "CARD_TXN_NR", "ID": number}
    for name, wanted in expected.items():
        if payload.get(name) != wanted:
            text = f"{name} is {payload.get(name)!r}, expected {wanted!r}"
            raise BadValue("signed_value_differs", text)


def _time(reading: dict[str, Any], stamp: dict[str, Any], first: dict[str, Any]) -> None:
    """Within one boot the time of day is the first reading's plus what has elapsed. Across boots it is the
    wall clock's, unless that was set back: then it is marked."""
    found = _TIME.fullmatch(reading["TM"])
    if found is None:
        raise BadValue("signed_value_malformed", f"TM is {reading['TM']!r}")
    at = datetime.strptime(found[1] + found[3], "%Y-%m-%dT%H:%M:%S%z")
    seen = round(at.timestamp()) * 1000 + int(found[2])
    if stamp["boot_id"] == first["boot_id"]:
        wanted = first["utc_ms"] + stamp["boot_ms"] - first["boot_ms"], CLOCKS[first["quality"]]
    elif stamp["utc_ms"] < first["utc_ms"]:
        wanted = first["utc_ms"], "U"
    else:
        wanted = stamp["utc_ms"], CLOCKS[stamp["quality"]]
    if (seen, found[4]) != wanted:
        raise BadValue("signed_value_time", f"TM says {seen} {found[4]}, expected {wanted}")


def _counted(kid: str, found: list[tuple[str, int]], skipped: set[int]) -> Iterator[Finding]:
    """From 1 on by one; behind a gap record from where it says."""
    before = 0
    for where, page in found:
        if page == before + 1 or page - 1 in skipped:
            before = page
            continue
        code = "page_reused" if page <= before else "page_gap"
        text = f"page T{page} of key {kid[:16]} after T{before}"
        yield Finding(code, where, text)
        before = max(before, page)
