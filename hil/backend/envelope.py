"""From an MQTT message to the JWS texts in it: structured CloudEvents 1.0, single or as a batch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MAX_MESSAGE_BYTES = 96 * 1024
SINGLE_CONTENT = "application/cloudevents+json"
BATCH_CONTENT = "application/cloudevents-batch+json"


class BadMessage(Exception):
    """The message as a whole cannot be read."""


@dataclass(frozen=True, slots=True)
class Event:
    """One CloudEvent: its attributes as text, and the JWS."""

    id: str
    source: str
    type: str
    jws: str


@dataclass(frozen=True, slots=True)
class Topic:
    """`<root>/v1/<tenant>/<station>/<class>/<name>`."""

    tenant: str
    station: str
    kind: str
    name: str


def parse_topic(topic: str, root: str) -> Topic:
    """Raises BadMessage. The root may itself hold slashes."""
    prefix = f"{root}/v1/"
    parts = topic.removeprefix(prefix).split("/")
    if not topic.startswith(prefix) or len(parts) != 4 or not all(parts):
        raise BadMessage(f"topic {topic!r}")
    return Topic(*parts)


def parse_events(payload: bytes, name: str, content_type: str | None) -> list[Event]:
    """The events of one message on `rec/<name>`. Raises BadMessage."""
    if len(payload) > MAX_MESSAGE_BYTES:
        raise BadMessage(f"{len(payload)} bytes, expected at most {MAX_MESSAGE_BYTES}")
    try:
        body = json.loads(payload.decode("utf-8"))
    except ValueError as error:
        raise BadMessage(f"not JSON: {error}") from None
    batch = isinstance(body, list)
    expected = BATCH_CONTENT if batch else SINGLE_CONTENT
    if content_type is not None and content_type != expected:
        raise BadMessage(f"content type {content_type!r}, expected {expected!r}")
    if batch != (name == "batch"):
        raise BadMessage(f"{'a batch' if batch else 'a single event'} on rec/{name}")
    events = [_event(item) for item in (body if batch else [body])]
    if not batch and events[0].type != f"voltill.record.{name}":
        raise BadMessage(f"{events[0].type} on rec/{name}")
    return events


def mismatch(event: Event, tenant: str, station: str, payload: dict[str, Any]) -> str | None:
    """What the envelope says otherwise than the signed payload; None when they agree."""
    wanted = {
        "id": f"{payload.get('chain')}-{payload.get('seq')}",
        "source": f"/{tenant}/{station}",
        "type": f"voltill.record.{payload.get('type')}",
    }
    for attribute, value in wanted.items():
        if getattr(event, attribute) != value:
            return f"{attribute} is {getattr(event, attribute)!r}, expected {value!r}"
    if payload.get("station") != station:
        return f"station is {payload.get('station')!r}, the topic says {station!r}"
    return None


def _event(item: object) -> Event:
    if not isinstance(item, dict):
        raise BadMessage("an event is not an object")
    if item.get("specversion") != "1.0" or item.get("datacontenttype") != "application/jose":
        raise BadMessage("expected CloudEvents 1.0 with data of application/jose")
    texts = [item.get(name) for name in ("id", "source", "type", "data")]
    if not all(isinstance(text, str) and text.isascii() for text in texts):
        raise BadMessage("id, source, type and data must be ASCII text")
    return Event(*map(str, texts))
