"""What the back end does with a message, without MQTT: check, keep, and say what to acknowledge."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from hil.backend.database import Coverage, Database
from hil.backend.envelope import BadMessage, Event, Topic, mismatch, parse_events, parse_topic
from hil.backend.jose import ACK_TYP, RECORD_TYP, BadJws, Signed, sign, verify
from hil.backend.keyring import Keyring

RECORD_TYPES = ("session", "settlement", "gap", "unmeasured")


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Intake:
    """`take` commits before it returns, so whatever it asks to acknowledge is durable."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        key: ec.EllipticCurvePrivateKey,
        root: str,
        tenant: str,
        now: Callable[[], str] = utc_now,
    ) -> None:
        self.database, self.keyring, self.root, self.tenant = database, keyring, root, tenant
        self._key, self._now = key, now

    def take(self, topic_text: str, payload: bytes, content_type: str | None) -> list[Coverage]:
        """The chains to acknowledge after a message; empty for state and for rubbish."""
        now = self._now()
        try:
            topic = parse_topic(topic_text, self.root)
            if topic.kind == "state":
                self._take_state(topic, payload)
                return []
            events = parse_events(payload, topic.name, content_type)
        except BadMessage as error:
            self.database.alarm("message", f"{topic_text}: {error}", now)
            return []
        else:
            touched: dict[str, list[dict[str, Any]]] = {}
            for event in events:
                self._take_event(topic, event, now, touched)
            return [self._coverage(topic.station, *item) for item in touched.items()]
        finally:
            self.database.commit()

    def ack(self, coverage: Coverage) -> tuple[str, bytes]:
        """Topic and text of the signed word on one chain."""
        payload = {
            "station": coverage.station,
            "chain": coverage.chain,
            "through_seq": coverage.through_seq,
            "hash": coverage.hash,
            "holes": coverage.holes,
            "refused": coverage.refused,
            "time": self._now(),
        }
        topic = f"{self.root}/v1/{self.tenant}/{coverage.station}/ack/records"
        return topic, sign(payload, self._key, ACK_TYP).encode("ascii")

    def _take_event(
        self, topic: Topic, event: Event, now: str, touched: dict[str, list[dict[str, Any]]]
    ) -> None:
        try:
            record = self._check(topic, event)
        except BadJws as error:
            self.database.refuse(
                topic.station, error.payload, error.code, str(error), event.jws, now
            )
            self._note_refusal(error.payload, error.code, touched)
            return
        outcome = self.database.store(topic.station, record, now)
        if outcome == "fork":
            self._note_refusal(record.payload, "fork", touched)
        else:
            touched.setdefault(record.payload["chain"], [])

    def _check(self, topic: Topic, event: Event) -> Signed:
        known = self.keyring.keys
        try:
            record = verify(event.jws, known, RECORD_TYP)
        except BadJws as error:
            if error.code != "unknown_key":
                raise
            self.keyring.reload()
            record = verify(event.jws, known, RECORD_TYP)
        payload = record.payload
        if not _is_record(payload):
            raise BadJws("malformed", "chain, seq, prev or type is missing or wrong", payload)
        if (text := mismatch(event, self.tenant, topic.station, payload)) is not None:
            raise BadJws("envelope", text, payload)
        if not self.database.bind_key(topic.station, record.kid):
            raise BadJws("other_key", f"{topic.station} signed with another key before", payload)
        return record

    def _take_state(self, topic: Topic, payload: bytes) -> None:
        """The birth or will of a station. A will of an older connection says nothing any more."""
        if topic.name != "agent" or not payload:
            return
        try:
            state = json.loads(payload)
        except ValueError as error:
            raise BadMessage(f"state is not JSON: {error}") from None
        if not isinstance(state, dict) or not isinstance(state.get("online"), bool):
            raise BadMessage("state must be an object with online")
        before = self.database.states().get(topic.station, {})
        newer = state.get("boot") != before.get("boot") or state.get("conn") == before.get("conn")
        if state["online"] or newer:
            self.database.keep_state(topic.station, state)

    def _coverage(self, station: str, chain: str, refused: list[dict[str, Any]]) -> Coverage:
        coverage = self.database.coverage(station, chain)
        coverage.refused += refused
        return coverage

    @staticmethod
    def _note_refusal(
        payload: dict[str, Any], code: str, touched: dict[str, list[dict[str, Any]]]
    ) -> None:
        """Name the refused record in the ack, where it could still be read who it claims to be."""
        chain, seq = payload.get("chain"), payload.get("seq")
        if isinstance(chain, str) and isinstance(seq, int):
            touched.setdefault(chain, []).append({"seq": seq, "code": code})


def _is_record(payload: dict[str, Any]) -> bool:
    chain, seq, prev = (payload.get(name) for name in ("chain", "seq", "prev"))
    return (
        isinstance(chain, str)
        and bool(chain)
        and isinstance(seq, int)
        and not isinstance(seq, bool)
        and seq >= 1
        and isinstance(prev, str)
        and len(prev) == 64
        and payload.get("type") in RECORD_TYPES
    )
