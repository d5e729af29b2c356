"""Records as messages: structured CloudEvents 1.0 JSON, single or as a JSON array of events.

The array is our documented use of the CloudEvents JSON batch format, for which the MQTT binding has no
mode of its own. `data` is the JWS text exactly as it stands in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.ledger import RecordRow
from agent.trust import jws, plain

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
# Under the 128 KB that large brokers allow, with room for the packet's header.
MAX_MESSAGE_BYTES = 96 * 1024
_BRACKETS = 2  # of the array; the commas are counted with the events


@dataclass(frozen=True, slots=True)
class Message:
    """One publication: `name` is the last level of its topic."""

    name: str
    payload: bytes = field(repr=False)
    content_type: str
    seqs: tuple[int, ...]


def event(row: RecordRow, source: str) -> bytes:
    """One record as a structured CloudEvent."""
    signed = jws.parse(row.jws, jws.RECORD_TYP).unchecked_body()
    return plain.dumps(
        {
            "specversion": "1.0",
            "id": f"{row.chain}-{row.seq}",
            "source": source,
            "type": f"voltill.record.{row.type}",
            "time": signed["time"],
            "datacontenttype": "application/jose",
            "data": row.jws,
        }
    ).encode("ascii")


def pack(
    rows: Sequence[RecordRow], source: str, max_bytes: int = MAX_MESSAGE_BYTES
) -> list[Message]:
    """`rows` in order, as few messages as fit: one record goes alone on its own topic, several as a
    batch of at most `max_bytes`. One that is larger by itself still goes alone: nobody else can
    decide what becomes of it."""
    messages: list[Message] = []
    group: list[tuple[RecordRow, bytes]] = []
    size = _BRACKETS

    def close() -> None:
        if len(group) == 1:
            row, alone = group[0]
            messages.append(Message(row.type, alone, SINGLE, (row.seq,)))
        elif group:
            body = b"[" + b",".join(data for _, data in group) + b"]"
            messages.append(Message("batch", body, BATCH, tuple(row.seq for row, _ in group)))

    for row in rows:
        data = event(row, source)
        if group and size + len(data) > max_bytes:
            close()
            group, size = [], _BRACKETS
        group.append((row, data))
        size += len(data) + 1
    close()
    return messages
