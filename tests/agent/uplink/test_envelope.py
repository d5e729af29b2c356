"""Packing records into messages."""

from __future__ import annotations

import itertools
import json

import pytest
from support.ledger_rows import KEY, STATION, stamp

from agent.ledger import RecordRow
from agent.trust.chain import GENESIS, seal
from agent.uplink.envelope import BATCH, MAX_MESSAGE_BYTES, SINGLE, pack


def rows(sizes: list[int]) -> list[RecordRow]:
    made, prev = [], GENESIS
    for seq, size in enumerate(sizes, 1):
        sealed = seal(
            KEY, chain="c" * 32, seq=seq, prev=prev, type="gap", station=STATION,
            stamp=stamp(seq), body={"note": "x" * size},
        )  # fmt: skip
        made.append(RecordRow.of(sealed, None))
        prev = sealed.hash
    return made


@pytest.mark.parametrize("limit", [3_000, 10_000, MAX_MESSAGE_BYTES])
def test_batches_are_full_in_order_and_never_over_the_limit(limit: int) -> None:
    given = rows([100 + 37 * number % 900 for number in range(150)])
    messages = pack(given, "/abc/S", limit)
    assert [seq for message in messages for seq in message.seqs] == list(range(1, 151))
    for message, following in itertools.pairwise(messages):
        assert len(message.payload) <= limit
        first = len(pack([given[following.seqs[0] - 1]], "/abc/S")[0].payload)
        assert len(message.payload) + 1 + first > limit, "the batch had room for one more"
    for message in messages:
        body = json.loads(message.payload)
        events = body if isinstance(body, list) else [body]
        assert [event["data"] for event in events] == [given[seq - 1].jws for seq in message.seqs]
        assert message.content_type == (BATCH if isinstance(body, list) else SINGLE)
        assert message.name == ("batch" if isinstance(body, list) else "gap")


def test_one_record_goes_alone_even_when_it_is_large() -> None:
    given = rows([10, 40_000, 10])
    assert [message.seqs for message in pack(given, "/a/s", 5_000)] == [(1,), (2,), (3,)]
    assert pack([], "/a/s") == []
