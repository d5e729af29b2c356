"""What the terminal says to people, in its languages, and in which bytes."""

from __future__ import annotations

from hil.terminal.store import Memory
from hil.terminal.switches import Switches

CHARSETS = {0x01: "latin-1", 0xFE: "utf-8", 0xFF: "cp437"}
GERMAN, ENGLISH = 0x00, 0x01
LANGUAGES = {0x00: "de", 0x01: "en", 0x02: "fr", 0x03: "it"}

_ENGLISH = {
    0x05: "Declined",
    0x33: "PIN required",
    0x64: "Card not readable",
    0x68: "Card not accepted",
    0x6C: "Cancelled",
    0x71: "Not enough credit",
    0x78: "Card expired",
    0xB7: "Amount too high",
    0xB8: "No such reservation",
    0xDF: "Terminal is blocked",
    0xEC: "PIN not possible",
    0xF0: "End of day due",
}
_GERMAN = {
    0x05: "Zahlung abgelehnt",
    0x33: "PIN benötigt",
    0x64: "Karte nicht lesbar",
    0x68: "Karte nicht zulässig",
    0x6C: "Abbruch",
    0x71: "Guthaben ungenügend",
    0x78: "Karte ungültig",
    0xB7: "Betrag zu groß",
    0xB8: "Reservierung unbekannt",
    0xDF: "Terminal ist blockiert",
    0xEC: "PIN nicht möglich",
    0xF0: "Kassenschnitt fällig",
}


def text_for(code: int, language: int = ENGLISH) -> str:
    if language == GERMAN:
        return _GERMAN.get(code, f"Nicht möglich ({code:02X})")
    return _ENGLISH.get(code, f"Not possible ({code:02X})")


def encoded(text: str, memory: Memory, switches: Switches) -> bytes:
    """In the character set that was agreed, or in the one that a switch insists on."""
    agreed = CHARSETS.get(memory.charset, "cp437")
    charset = agreed if switches.text_charset == "agreed" else switches.text_charset
    return text.encode(charset, errors="replace")


def money(amount_minor: int, currency: str) -> str:
    name = {"978": "EUR", "756": "CHF", "826": "GBP"}.get(currency, currency)
    return f"{amount_minor // 100}.{amount_minor % 100:02d} {name}"
