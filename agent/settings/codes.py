"""The ids of everything that can be wrong with a file, for each kind of file. Rows in docs/errors.md.

The first numbers are about YAML and shape and mean the same for both files."""

from __future__ import annotations

from enum import Enum, auto


class Kind(Enum):
    """A way in which a file can be wrong."""

    UNREADABLE = auto()
    TOO_LARGE = auto()
    NOT_TEXT = auto()
    SYNTAX = auto()
    NOT_PLAIN = auto()  # anchors, aliases, tags, merge keys
    TOO_DEEP = auto()
    MANY_DOCUMENTS = auto()
    EMPTY = auto()
    TWICE = auto()
    UNKNOWN_SETTING = auto()
    MISSING = auto()
    WRONG_KIND = auto()
    NOT_ALLOWED = auto()
    MONEY = auto()
    SECRET_INLINE = auto()

    ID_TWICE = auto()
    NO_SUCH_REFERENCE = auto()
    CURRENCY = auto()
    UNIT_TWICE = auto()
    PORT_TWICE = auto()
    NOT_INSTALLED = auto()
    FILE_MISSING = auto()
    FILE_OPEN_TO_OTHERS = auto()
    FILE_CONTENT = auto()
    CREDENTIAL = auto()
    UPLINK = auto()
    HOLD = auto()
    UNUSED = auto()
    NOT_NEEDED = auto()

    TARIFF = auto()


CFG: dict[Kind, str] = {
    Kind.UNREADABLE: "CFG-001",
    Kind.TOO_LARGE: "CFG-002",
    Kind.NOT_TEXT: "CFG-003",
    Kind.SYNTAX: "CFG-004",
    Kind.NOT_PLAIN: "CFG-005",
    Kind.TOO_DEEP: "CFG-006",
    Kind.MANY_DOCUMENTS: "CFG-007",
    Kind.EMPTY: "CFG-008",
    Kind.TWICE: "CFG-009",
    Kind.UNKNOWN_SETTING: "CFG-010",
    Kind.MISSING: "CFG-011",
    Kind.WRONG_KIND: "CFG-012",
    Kind.NOT_ALLOWED: "CFG-013",
    Kind.MONEY: "CFG-014",
    Kind.SECRET_INLINE: "CFG-015",
    Kind.ID_TWICE: "CFG-020",
    Kind.NO_SUCH_REFERENCE: "CFG-021",
    Kind.CURRENCY: "CFG-022",
    Kind.UNIT_TWICE: "CFG-023",
    Kind.PORT_TWICE: "CFG-024",
    Kind.NOT_INSTALLED: "CFG-025",
    Kind.FILE_MISSING: "CFG-026",
    Kind.FILE_OPEN_TO_OTHERS: "CFG-027",
    Kind.FILE_CONTENT: "CFG-028",
    Kind.CREDENTIAL: "CFG-029",
    Kind.UPLINK: "CFG-030",
    Kind.HOLD: "CFG-031",
    Kind.UNUSED: "CFG-032",
    Kind.NOT_NEEDED: "CFG-033",
}

TAR: dict[Kind, str] = {
    Kind.UNREADABLE: "TAR-001",
    Kind.TOO_LARGE: "TAR-002",
    Kind.NOT_TEXT: "TAR-003",
    Kind.SYNTAX: "TAR-004",
    Kind.NOT_PLAIN: "TAR-005",
    Kind.TOO_DEEP: "TAR-006",
    Kind.MANY_DOCUMENTS: "TAR-007",
    Kind.EMPTY: "TAR-008",
    Kind.TWICE: "TAR-009",
    Kind.UNKNOWN_SETTING: "TAR-010",
    Kind.MISSING: "TAR-011",
    Kind.WRONG_KIND: "TAR-012",
    Kind.NOT_ALLOWED: "TAR-013",
    Kind.MONEY: "TAR-014",
    Kind.TARIFF: "TAR-020",
}
