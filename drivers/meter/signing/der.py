"""The few pieces of DER (X.690) that registers need: keys and signatures. Pure."""

from __future__ import annotations

from drivers.meter.signing.steps import unusable

# SubjectPublicKeyInfo of a point on P-256 up to and with the mark of an uncompressed point (RFC 5480).
_P256_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_SEQUENCE, _INTEGER = 0x30, 0x02
_LONG_1, _LONG_2 = 0x81, 0x82


def p256_key(point: bytes) -> bytes:
    """SubjectPublicKeyInfo of X and Y, 32 bytes each."""
    return _P256_HEAD + point


def whole(data: bytes) -> bytes:
    """The element that `data` begins with, without what follows. Raises SigningTrouble MTR-037."""
    end = _bounds(data)[1]
    return data[:end]


def minimal_signature(der: bytes) -> bytes:
    """The same two numbers as DER wants them. Some firmware puts more zero bytes before them, which most
    validators refuse; the numbers stay what the meter made."""
    start, end = _bounds(der, _SEQUENCE)
    r, used = _number(der[start:end])
    s, _ = _number(der[start + used : end])
    body = r + s
    return bytes((_SEQUENCE,)) + _length(len(body)) + body


def _number(data: bytes) -> tuple[bytes, int]:
    start, end = _bounds(data, _INTEGER)
    value = data[start:end]
    while len(value) > 1 and value[0] == 0 and value[1] < 0x80:
        value = value[1:]
    return bytes((_INTEGER,)) + _length(len(value)) + value, end


def _length(many: int) -> bytes:
    return bytes((many,)) if many < 0x80 else bytes((_LONG_1, many))


def _bounds(data: bytes, tag: int = _SEQUENCE) -> tuple[int, int]:
    """Where the content of the first element begins and ends."""
    if len(data) < 4 or data[0] != tag:
        raise unusable("key or signature is no DER")
    start, many = 2, data[1]
    if many == _LONG_1:
        start, many = 3, data[2]
    elif many == _LONG_2:
        start, many = 4, int.from_bytes(data[2:4], "big")
    elif many >= 0x80:
        raise unusable("key or signature is no DER")
    if start + many > len(data) or many == 0:
        raise unusable("key or signature is cut off")
    return start, start + many
