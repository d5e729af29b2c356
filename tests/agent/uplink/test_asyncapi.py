"""The published interface and what is really said: every message is checked against it."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from support.ack_backend import AckBackend
from support.ledger_rows import KEY, STATION, event, stamp
from support.mosquitto import Mosquitto
from support.session_events import reach
from test_uplink import running

from agent.ledger import Ledger, RecordRow
from agent.ledger.salvage import Salvaged
from agent.session import E, S
from agent.session.records import session_record, settlement_record, unmeasured_record
from agent.tariff import EnergyPrice, PriceBasis, Rounding, Tariff, Usage, price
from agent.trust import jws
from agent.trust.chain import GENESIS, seal
from agent.trust.keys import KeySet
from agent.uplink import topics

SPEC = yaml.safe_load((Path(__file__).parents[3] / "docs/interfaces/asyncapi.yaml").read_text())
KEYS = KeySet([KEY.public])
PRICE = price(
    Tariff(
        "adhoc", "EUR", PriceBasis.INCLUDING_VAT, Decimal(19), Rounding.HALF_UP,
        energy=(EnergyPrice(Decimal("0.49")),),
    ),
    Usage(energy_wh=8134, charging_ms=90_000, idle_ms=0),
)  # fmt: skip


def validator(schema: str) -> Draft202012Validator:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": SPEC["components"]}
    return Draft202012Validator(whole)


def check(schema: str, value: object) -> None:
    validator(schema).validate(value)


def bodies() -> list[tuple[str, dict[str, Any]]]:
    """Records of sessions that went in every way, made by the shipped code."""
    found: list[tuple[str, dict[str, Any]]] = []
    ended = reach(S.ENDING).tell(
        E.ENDED, cost_minor=PRICE.total_minor, price=PRICE.json(), energy_wh=112_345
    )
    found.append(("session", session_record(ended.session)))
    stories = [reach(state) for state in S if state is not S.NEW]
    stories.append(reach(S.AUTHORIZING).tell(E.REFUSED))
    stories.append(reach(S.RELEASING).all(E.EVIDENCE, E.SETTLED))
    for story in stories:
        body = settlement_record(story.session)
        for name in ("hold", "result"):
            reference = body[name]
            assert isinstance(reference, dict)
            if reference:  # the story's terminal tells no seconds
                body[name] = {**reference, "time": "120455"}
        found.append(("settlement", body))
    by_last = reach(S.ENDING).tell(E.ENDED, quality="last_durable", energy_wh=112_345)
    closed = by_last.all(E.RECORDED, E.SETTLED, E.RECORDED)
    found.append(("unmeasured", unmeasured_record(closed.tell(E.UNMEASURED).session)))
    return found


def sealed_texts() -> list[tuple[str, str]]:
    texts, prev = [], GENESIS
    found = Salvaged(old_chain="cd" * 16, old_seq=7, lost=[(2, 3)], open=["s1"])
    gap = {"reason": "damaged", "set_aside": "ledger.db.damaged-1", **found.body()}
    for seq, (kind, body) in enumerate([("gap", gap), *bodies()], 1):
        made = seal(
            KEY, chain="ab" * 16, seq=seq, prev=prev, type=kind, station=STATION,
            stamp=stamp(seq), body=body,
        )  # fmt: skip
        prev = made.hash
        texts.append((kind, made.jws))
    return texts


# --- The document itself --------------------------------------------------------------------------


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    for reference in references(SPEC):
        node: Any = SPEC
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
    for name, schema in SPEC["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert name
    for operation in SPEC["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert operation["bindings"]["mqtt"]["qos"] == 1


def test_every_channel_is_a_topic_of_the_code_and_the_other_way_round() -> None:
    ours = topics.Topics("{root}", "{tenant}", "{station}")
    addresses = {name: channel["address"] for name, channel in SPEC["channels"].items()}
    assert addresses == {
        "record": ours.record("{type}"),
        "recordBatch": ours.record("batch"),
        "ack": ours.acks,
        "stationState": ours.state,
        "backendState": ours.backend_state,
    }
    for channel in SPEC["channels"].values():
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel["parameters"])


# --- Records --------------------------------------------------------------------------------------


def test_every_kind_of_record_fits() -> None:
    kinds = set()
    for kind, text in sealed_texts():
        body = jws.verify(text, KEYS, jws.RECORD_TYP)
        check("recordPayload", body)
        check("jws", text)
        kinds.add((kind, body.get("outcome")))
    assert kinds >= {("session", None), ("gap", None)}
    outcomes = {outcome for kind, outcome in kinds if kind == "settlement"}
    assert outcomes >= {"captured", "cancelled", "refused", "unknown"}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("session", {"energy_wh": -1}),
        ("session", {"energy_wh": "8134"}),
        ("session", {"cost": {"exact": {}}}),
        ("session", {"cost_minor": 4.8}),
        ("session", {"currency": "€"}),
        ("session", {"prev": "0" * 63}),
        ("session", {"time": "2026-01-01 10:00"}),
        ("session", {"type": "other"}),
        ("settlement", {"outcome": "settled"}),
        ("settlement", {"refers_seq": 0}),
        ("settlement", {"captured_minor": None}),
        ("settlement", {"hold": {"receipt": "231"}}),
    ],
)
def test_the_schema_refuses_what_is_wrong(kind: str, change: dict[str, Any]) -> None:
    body = next(
        jws.verify(text, KEYS, jws.RECORD_TYP) for made, text in sealed_texts() if made == kind
    )
    check("recordPayload", body)
    with pytest.raises(ValidationError):
        check("recordPayload", {**body, **change})
    for name in ("chain", "seq", "stamp", "session_id"):
        lacking = copy.copy(body)
        del lacking[name]
        with pytest.raises(ValidationError):
            check("recordPayload", lacking)


# --- The wire -------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_everything_said_over_a_real_broker_fits(tmp_path: Path, protocol: str) -> None:
    ledger = Ledger.open(tmp_path / "ledger.db", STATION)
    for kind, body in bodies():
        head = ledger.head()
        made = seal(
            KEY, chain=head.chain, seq=head.seq + 1, prev=head.hash, type=kind, station=STATION,
            stamp=stamp(head.seq), body={**body, "session_id": f"s{head.seq}"},
        )  # fmt: skip
        name = f"s{head.seq}"
        ledger.append(
            event(name, 1), evse=None, terminal="t", open=False, record=RecordRow.of(made, name)
        )
    count = ledger.head().seq
    ledger.close()

    async def main(broker: Mosquitto, backend: AckBackend) -> None:
        async with running(tmp_path, broker.url, tmp_path / "trust.pem", protocol=protocol) as rig:
            # The first probe is a single event; the word of the back end brings the rest.
            await asyncio.to_thread(lambda: backend.wait(lambda: backend.messages))
            backend.say_online()
            await rig.unacked(0)
        await asyncio.to_thread(lambda: backend.wait(lambda: len(backend.states) >= 2))

    with Mosquitto(tmp_path) as broker, AckBackend(broker.url, STATION) as backend:
        (tmp_path / "trust.pem").write_bytes(backend.signer.pem())
        asyncio.run(main(broker, backend))

    assert len(backend.records) == count
    names = set()
    for topic, payload, content in backend.messages:
        batch = topic.endswith("/rec/batch")
        message = SPEC["components"]["messages"]["recordBatch" if batch else "record"]
        body = json.loads(payload)
        check("recordBatch" if batch else "recordEvent", body)
        if protocol == "5":
            assert content == message["contentType"]
        for item in body if batch else [body]:
            check("recordPayload", jws.verify(item["data"], KEYS, jws.RECORD_TYP))
        names.add(topic.rpartition("/")[2])
    assert "batch" in names
    assert len(names) >= 2, "no single event was seen"
    for state in backend.states:
        check("stationState", state)
    for text in backend.acks:
        check("jws", text)
        check("ackPayload", json.loads(jws.decode(text.split(".")[1])))
    assert backend.acks
