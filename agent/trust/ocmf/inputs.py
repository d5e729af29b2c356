"""What `ocmf verify` can be given: one record or many, plain or coded in hex, or a container in XML."""

from __future__ import annotations

import re

from agent.trust.ocmf import container
from agent.trust.ocmf.container import ContainerRefused, Value

# A thousand records with certificates inside are 3 MiB.
MAX_INPUT_BYTES = 4 * 1024 * 1024
# Payloads may be wrapped over lines, so a record ends where the next begins, not at the line's end.
_BEGIN = re.compile(r"^[ \t]*(?=OCMF[ \t]*\||(?i:4f434d46(?:20)*7c))", re.MULTILINE)


def load(data: bytes) -> list[Value]:
    """Every value in `data`, at least one. What cannot be read is a value with a `problem`, so that nothing
    is passed over in silence. Never raises."""
    if len(data) > MAX_INPUT_BYTES:
        return [_problem(f"larger than {MAX_INPUT_BYTES // 1024} KiB; verify it in parts")]
    if not data.strip():
        return [_problem("empty")]
    if container.looks_like(data):
        try:
            return container.read(data)
        except ContainerRefused as refused:
            return [_problem(str(refused))]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return [_problem("not UTF-8")]
    starts = [match.start() for match in _BEGIN.finditer(text)]
    if not starts:
        return [_problem("no OCMF record; expected OCMF|..., its hex coding, or an XML container")]
    ends = [*starts[1:], len(text)]
    values = [Value(text[a:b].strip()) for a, b in zip(starts, ends, strict=True)]
    if text[: starts[0]].strip():
        values.insert(0, _problem("text before the first record that is none"))
    if len(values) > container.MAX_VALUES:
        return [_problem(f"more than {container.MAX_VALUES} records; verify it in parts")]
    return values


def _problem(text: str) -> Value:
    return Value("", problem=text)
