"""The words of the format (OCMF ch. "Data Format"), for those who read records and those who make them."""

from __future__ import annotations

IDENTIFICATION_LEVELS = ("NONE", "HEARSAY", "TRUSTED", "VERIFIED", "CERTIFIED", "SECURE")
IDENTIFICATION_ERRORS = ("MISMATCH", "INVALID", "OUTDATED", "UNKNOWN")
IDENTIFICATION_FLAGS = frozenset(
    f"{way}_{how}"
    for way, hows in {
        "RFID": "NONE PLAIN RELATED PSK",
        "OCPP": "NONE RS AUTH RS_TLS AUTH_TLS CACHE WHITELIST CERTIFIED",
        "ISO15118": "NONE PNC",
        "PLMN": "NONE RING SMS",
    }.items()
    for how in hows.split()
)
IDENTIFICATION_TYPES = frozenset({
    "NONE", "DENIED", "UNDEFINED", "ISO14443", "ISO15693", "EMAID", "EVCCID", "EVCOID", "ISO7812",
    "CARD_TXN_NR", "CENTRAL", "CENTRAL_1", "CENTRAL_2", "LOCAL", "LOCAL_1", "LOCAL_2", "PHONE_NUMBER",
    "KEY_CODE",
})  # fmt: skip
MAX_FLAGS = 4
MAX_TARIFF_CHARS = 250
MAX_FIRMWARE_CHARS = 25
REASONS = frozenset("BCXELRAPST")
STATUS_TEXTS = {
    "N": "the meter is not present",
    "T": "the meter did not answer in time",
    "D": "the meter was disconnected from the signing component",
    "R": "the meter was removed",
    "M": "the meter was manipulated",
    "X": "the meter was exchanged",
    "I": "the meter is not compatible",
    "O": "the value is out of range",
    "S": "a substitute value, not the register at this moment",
    "E": "the meter has another error",
    "F": "the register could not be read",
}
END_REASONS = frozenset("ELRAP")
DEFAULT_ALGORITHM = "ECDSA-secp256r1-SHA256"
