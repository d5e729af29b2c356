"""What a check says, and how a foreign text is shown in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from agent.trust import card_like
from agent.trust.card_like import BEFORE_LAST_FOUR, masked
from agent.trust.ocmf.exact import JSON

MAX_SHOWN_CHARS = 60  # of a foreign text within a sentence
# Serial numbers are long and may pass the check digit by chance.
_SERIALS = ("GS", "MS")


@dataclass(frozen=True, slots=True)
class Finding:
    """`level` error: the record is no proof of what is to be billed, and the S.A.F.E. transparency software
    or one of the checks of our own refuses it; warning: it is, with what the text says. `where`: the place
    in the payload, such as RD[1].ST. `record` counts from 1 where several records were checked."""

    code: str
    level: Literal["error", "warning"]
    where: str
    text: str
    record: int | None = None

    def json(self) -> dict[str, JSON]:
        out: dict[str, JSON] = {
            "code": self.code,
            "level": self.level,
            "where": self.where,
            "text": self.text,
        }
        return out if self.record is None else out | {"record": self.record}


def error(code: str, where: str, text: str) -> Finding:
    return Finding(code, "error", where, text)


def warning(code: str, where: str, text: str) -> Finding:
    return Finding(code, "warning", where, text)


def shown(value: JSON) -> str:
    """A foreign value for people: short, without card numbers, and without what moves a cursor."""
    text = masked(value if isinstance(value, str) else str(value))
    if len(text) > MAX_SHOWN_CHARS:
        text = text[: MAX_SHOWN_CHARS - 3] + "..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def card_places(payload: Mapping[str, JSON]) -> list[str]:
    """Where the payload holds a card number, or is meant to hold one."""
    found = [card_like.find(value, name) for name, value in payload.items() if name not in _SERIALS]
    places = [place for place in found if place is not None]
    if payload.get("IT") == "ISO7812" and payload.get("ID") and "ID" not in places:
        places.append("ID")
    return places


def without_cards(payload: Mapping[str, JSON]) -> dict[str, JSON]:
    """The payload for output: as it is, but for card numbers."""
    whole = {name: value if name in _SERIALS else _masked(value) for name, value in payload.items()}
    if payload.get("IT") == "ISO7812" and isinstance(payload.get("ID"), str):
        whole["ID"] = BEFORE_LAST_FOUR.sub("*", str(payload["ID"]))
    return whole


def _masked(value: JSON) -> JSON:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return masked(str(value)) if card_like.in_text(str(value)) else value
    if isinstance(value, Mapping):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_masked(item) for item in value]
    return value
