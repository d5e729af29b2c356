"""The XML container of the S.A.F.E. transparency software (its XML_Format.md): values/value with signedData
and publicKey. Read with a bare expat parser that refuses document types: no entities to expand."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape

MAX_XML_BYTES = 4 * 1024 * 1024
MAX_VALUES = 1000
MAX_DEPTH = 20
CONTEXTS = ("", "Transaction.Begin", "Transaction.End")
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)  # readers keep it as a number of 32 bits


class ContainerRefused(ValueError):
    """The text is no container, or one that cannot be written."""


@dataclass(frozen=True, slots=True)
class Value:
    """One signed value and what the container says of it. `context`: Transaction.Begin or
    Transaction.End; `format`: OCMF, or another that is not read here. `problem`: why it cannot be read."""

    text: str = field(repr=False)
    public_key: str = ""
    context: str = ""
    transaction_id: str = ""
    format: str = "OCMF"
    problem: str = ""


def write(values: Sequence[Value]) -> str:
    """The container for the customer. The signed texts come out of any XML reader character for character.
    Raises ContainerRefused."""
    if not 1 <= len(values) <= MAX_VALUES:
        raise ContainerRefused(f"{len(values)} values; expected 1 to {MAX_VALUES}")
    lines = ['<?xml version="1.0" encoding="UTF-8" standalone="yes"?>', "<values>"]
    for value in values:
        number, context = value.transaction_id, value.context
        if number and _NUMBER.fullmatch(number) is None:
            raise ContainerRefused(f"transaction id {number!r}; expected up to nine digits")
        if context not in CONTEXTS:
            raise ContainerRefused(f"context {context!r}; expected {' or '.join(CONTEXTS[1:])}")
        numbered = f' transactionId="{number}"' if number else ""
        named = f' context="{context}"' if context else ""
        lines += [
            f"  <value{numbered}{named}>",
            f'    <signedData format="OCMF" encoding="plain"{numbered}>{_escaped(value.text)}</signedData>',
        ]
        if value.public_key:
            lines.append(
                f'    <publicKey encoding="plain">{_escaped(value.public_key)}</publicKey>'
            )
        lines.append("  </value>")
    text = "\n".join([*lines, "</values>", ""])
    try:
        back = read(text.encode("utf-8"))
    except (ContainerRefused, UnicodeEncodeError):
        raise ContainerRefused("a value holds a character that XML cannot carry") from None
    if [(one.text, one.public_key) for one in back] != [(v.text, v.public_key) for v in values]:
        raise ContainerRefused("a value begins or ends with a blank, or cannot be carried in XML")
    return text


def _escaped(text: str) -> str:
    # A bare carriage return would reach the reader as a line feed: another text than was signed.
    return escape(text, {"\r": "&#13;"})


def looks_like(data: bytes) -> bool:
    """Whether `data` is XML rather than text."""
    return data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"


def read(data: bytes) -> list[Value]:
    """Every value of a container, also of another format. Raises ContainerRefused."""
    if len(data) > MAX_XML_BYTES:
        raise ContainerRefused(f"larger than {MAX_XML_BYTES // 1024} KiB")
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        text = f"no XML: {expat.ErrorString(error.code)}, line {error.lineno}"
        raise ContainerRefused(text) from None
    except (ValueError, LookupError) as error:
        if isinstance(error, ContainerRefused):
            raise
        raise ContainerRefused("no XML: an encoding that is not known") from None
    if not reader.values:
        raise ContainerRefused("XML without values; expected values/value/signedData")
    return reader.values


class _Reader:
    def __init__(self) -> None:
        self.values: list[Value] = []
        self.path: list[str] = []
        self.value: dict[str, str] = {}
        self.data: dict[str, str] = {}
        self.coding = ""
        self.parts: list[str] | None = None

    def doctype(self, *_: object) -> None:
        raise ContainerRefused("a document type (DOCTYPE); a container has none")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        self.path.append(name)
        if len(self.path) > MAX_DEPTH:
            raise ContainerRefused(f"nested deeper than {MAX_DEPTH} levels")
        if len(self.path) == 1 and name != "values":
            raise ContainerRefused("the root is not `values`")
        if self.path == ["values", "value"]:
            self.value, self.data = attributes, {}
        elif self.path[:2] == ["values", "value"] and name in ("signedData", "publicKey"):
            self.coding = attributes.get("encoding", "plain").lower()
            self.parts = []
            if name == "signedData":
                self.data["format"] = attributes.get("format", "OCMF")
                self.data["id"] = attributes.get("transactionId", "")

    def text(self, text: str) -> None:
        if self.parts is not None:
            self.parts.append(text)

    def end(self, name: str) -> None:
        name = self.path.pop()
        if self.parts is not None and name in ("signedData", "publicKey"):
            self.data[name] = "".join(self.parts).strip()
            self.data[f"{name} coding"] = self.coding
            self.parts = None
        elif self.path == ["values"] and name == "value":
            if len(self.values) >= MAX_VALUES:
                raise ContainerRefused(f"more than {MAX_VALUES} values")
            self.values.append(self._value())

    def _value(self) -> Value:
        data, problem = self.data, ""
        text = data.get("signedData", "")
        try:
            text = _decoded(text, data.get("signedData coding", "plain"))
        except ContainerRefused as refused:
            problem = str(refused)
        if not text:
            problem = problem or "a value without signedData"
        elif data["format"].upper() != "OCMF":
            problem = "the signed data are in another format than OCMF"
        return Value(
            text,
            data.get("publicKey", ""),
            self.value.get("context", ""),
            self.value.get("transactionId", "") or data.get("id", ""),
            data.get("format", "OCMF"),
            problem,
        )


def _decoded(text: str, coding: str) -> str:
    """A signed text out of its coding. A key is left as it is: its own reader tells hex from base64."""
    if coding == "base64":
        try:
            return base64.b64decode("".join(text.split()), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise ContainerRefused("signedData is not coded in base64 as it says") from None
    if coding not in (
        "plain",
        "hex",
        "",
    ):  # hex is known by its looks, as it is outside of containers
        raise ContainerRefused("signedData is in an encoding that is not known")
    return text
