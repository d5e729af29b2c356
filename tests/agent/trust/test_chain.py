"""The record chain and what `verify` says about files that were tampered with."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path

import pytest

from agent.trust import chain, jws, plain
from agent.trust.chain import GENESIS, Report, iso_utc, record_hash, seal, verify_records
from agent.trust.files import InputRefused, load, verify_path
from agent.trust.keys import KeyRefused, KeySet, RecordKey
from agent.values import Quality, Stamp

KEY = RecordKey.generate()
KEYS = KeySet([KEY.public])
STAMP = Stamp(1_790_000_000_123, 77, "boot", Quality.RESTORED)


def make(
    count: int, *, name: str = "c" * 32, station: str = "S1", key: RecordKey = KEY
) -> list[str]:
    """A chain: session and settlement records by turns."""
    texts, prev = [], GENESIS
    for seq in range(1, count + 1):
        settled = seq % 2 == 0
        body: dict[str, object] = {"session_id": f"s{(seq + 1) // 2}"}
        if settled:
            body["refers_seq"] = seq - 1
        kind = "settlement" if settled else "session"
        made = seal(
            key, chain=name, seq=seq, prev=prev, type=kind, station=station, stamp=STAMP, body=body
        )
        texts.append(made.jws)
        prev = made.hash
    return texts


def codes(report: Report) -> list[tuple[int | None, str]]:
    return [(problem.seq, problem.code) for problem in report.problems]


def test_a_sealed_record_says_what_it_must() -> None:
    first, second = make(2)
    body = jws.verify(second, KEYS, jws.RECORD_TYP)
    assert body == {
        "chain": "c" * 32,
        "seq": 2,
        "prev": record_hash(first),
        "type": "settlement",
        "station": "S1",
        "time": "2026-09-21T14:13:20.123Z",
        "stamp": STAMP.to_json(),
        "session_id": "s1",
        "refers_seq": 1,
    }
    assert jws.verify(first, KEYS, jws.RECORD_TYP)["prev"] == "0" * 64


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"seq": 0}, ValueError),
        ({"seq": 2}, ValueError),
        ({"prev": "00"}, ValueError),
        ({"type": "other"}, ValueError),
        ({"body": {"prev": "x"}}, ValueError),
        ({"body": {"cost": 1.5}}, plain.NotPlain),
        ({"body": {"text": "4111111111111111"}}, plain.NotPlain),
        ({"body": {"text": "x" * 70_000}}, plain.NotPlain),
    ],
)
def test_what_must_not_be_sealed(change: dict, error: type[Exception]) -> None:
    given = {
        "chain": "c",
        "seq": 1,
        "prev": GENESIS,
        "type": "session",
        "station": "S",
        "stamp": STAMP,
        "body": {},
    }
    with pytest.raises(error):
        seal(KEY, **{**given, **change})


def test_times_are_utc_with_milliseconds() -> None:
    assert iso_utc(0) == "1970-01-01T00:00:00.000Z"
    assert iso_utc(951_782_399_999) == "2000-02-28T23:59:59.999Z"


def test_a_whole_chain_verifies_in_any_order_and_twice() -> None:
    texts = make(9)
    random.shuffle(texts)
    report = verify_records(texts + texts[:3], KEYS)
    assert (report.ok, report.exit_code, report.records) == (True, 0, 12)
    span = report.chains[0]
    assert (span.first_seq, span.last_seq) == (1, 9)
    assert report.json() == {
        "ok": True,
        "trust": "anchored",
        "records": 12,
        "problems": [],
        "chains": [span.json()],
        "partial": False,
    }
    assert verify_records(texts, KEYS, anchored=False).exit_code == 1


def test_every_kind_of_tampering_is_named_with_its_number() -> None:
    texts = make(8)
    assert codes(verify_records(texts[:3] + texts[4:], KEYS)) == [(4, "gap")]
    assert codes(verify_records(texts[1:], KEYS)) == [(1, "gap")]
    assert codes(verify_records(texts[:2] + texts[5:], KEYS)) == [(3, "gap")]
    # The payload changed, the signature kept.
    head, payload, signature = texts[2].split(".")
    changed = jws.encode(jws.decode(payload).replace(b'"s2"', b'"s7"'))
    bent = f"{head}.{changed}.{signature}"
    got = codes(verify_records([*texts[:2], bent, *texts[3:]], KEYS))
    assert (3, "bad_signature") in got
    assert (3, "gap") in got
    # Another key of the same station signed a replacement.
    other = RecordKey.generate()
    assert {code for _, code in codes(verify_records(make(3, key=other), KEYS))} == {"unknown_key"}
    # Rewritten from 5 on by someone who has the key: the old and new 5 are both there.
    rewritten = seal(
        KEY,
        chain="c" * 32,
        seq=5,
        prev=record_hash(texts[3]),
        type="session",
        station="S1",
        stamp=STAMP,
        body={"session_id": "forged"},
    ).jws
    assert codes(verify_records([*texts, rewritten], KEYS)) == [(5, "fork")]
    # ... or the old one is gone: then its successor no longer fits, nor does the settlement's session.
    swapped = [*texts[:4], rewritten, *texts[5:]]
    assert codes(verify_records(swapped, KEYS)) == [(6, "broken_link"), (6, "bad_reference")]
    assert codes(verify_records([], KEYS)) == [(None, "no_records")]
    assert codes(verify_records(["garbage"], KEYS))[0] == (None, "not_jws")


def test_references_must_point_to_an_earlier_session_record() -> None:
    def settlement(refers: object) -> list[str]:
        first = make(1)
        second = seal(
            KEY,
            chain="c" * 32,
            seq=2,
            prev=record_hash(first[0]),
            type="settlement",
            station="S1",
            stamp=STAMP,
            body={"session_id": "s1", "refers_seq": refers},
        )
        return [*first, second.jws]

    assert verify_records(settlement(None), KEYS).ok
    assert verify_records(settlement(1), KEYS).ok
    for wrong in (2, 3, 0, -1, "1", True):
        assert codes(verify_records(settlement(wrong), KEYS)) == [(2, "bad_reference")], wrong


def test_a_record_of_another_station_in_the_chain_is_told() -> None:
    texts = make(2)
    alien = seal(
        KEY,
        chain="c" * 32,
        seq=3,
        prev=record_hash(texts[1]),
        type="session",
        station="S2",
        stamp=STAMP,
        body={"session_id": "x"},
    )
    assert codes(verify_records([*texts, alien.jws], KEYS)) == [(3, "wrong_station")]


def test_signed_but_senseless_payloads_are_refused() -> None:
    for body in (
        {},
        {"seq": True},
        {"seq": 1, "chain": "c", "prev": "x", "station": "s", "type": "t"},
    ):
        text = jws.sign(body, KEY, jws.RECORD_TYP)
        assert [code for _, code in codes(verify_records([text], KEYS))] == ["bad_payload"]


def test_an_excerpt_may_have_gaps_but_its_neighbours_must_fit() -> None:
    texts = make(9)
    excerpt = [texts[1], texts[5], texts[6]]
    report = verify_records(excerpt, KEYS, partial=True)
    assert (report.ok, report.partial) == (True, True)
    bad = seal(
        KEY,
        chain="c" * 32,
        seq=8,
        prev="ab" * 32,
        type="session",
        station="S1",
        stamp=STAMP,
        body={"session_id": "x"},
    )
    assert codes(verify_records([*excerpt, bad.jws], KEYS, partial=True)) == [(8, "broken_link")]


def test_a_flood_of_problems_is_cut_off() -> None:
    report = verify_records(["x"] * 3000, KEYS)
    assert len(report.problems) == chain.MAX_PROBLEMS
    assert not report.ok


# --- Files ----------------------------------------------------------------------------------------


def event(text: str) -> dict[str, str]:
    return {"specversion": "1.0", "id": "x", "source": "/t/s", "type": "v", "data": text}


def test_every_form_of_input_gives_the_same_verdict(tmp_path: Path) -> None:
    texts = make(6)
    pem = KEY.public.pem()
    trust = tmp_path / "trusted.key"
    trust.write_text(pem)
    forms = tmp_path / "forms"
    forms.mkdir()
    (forms / "lines.jws").write_text("\n".join(texts) + "\n")
    (forms / "events.jsonl").write_text("\n".join(json.dumps(event(text)) for text in texts))
    (forms / "one-event.json").write_text(json.dumps(event(texts[0])))
    (forms / "batch.json").write_text(json.dumps([event(text) for text in texts]))
    (forms / "export.json").write_text(json.dumps({"keys": [pem], "records": texts}, indent=1))
    for form in sorted(forms.iterdir()):
        report = verify_path(form, (trust,))
        assert (report.ok, report.trust, report.exit_code) == (True, "anchored", 0), form.name
    assert verify_path(forms / "export.json").exit_code == 1
    assert verify_path(forms / "lines.jws").problems[0].code == "unknown_key"

    folder = tmp_path / "evidence"
    folder.mkdir()
    (folder / "station.pem").write_text(pem)
    (folder / "records.jsonl").write_text("\n".join(texts))
    (folder / "receipt.txt").write_text("Danke für Ihren Besuch")
    assert verify_path(folder).exit_code == 1
    archive = tmp_path / "evidence.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in folder.iterdir():
            packed.write(file, f"evidence/{file.name}")
    assert verify_path(archive).exit_code == 1
    assert verify_path(archive, (trust,)).exit_code == 0
    assert load(archive).records == texts


def test_a_partial_export_says_so(tmp_path: Path) -> None:
    texts = make(6)
    path = tmp_path / "some.json"
    whole = {"keys": [KEY.public.pem()], "records": texts[2:4], "partial": True}
    path.write_text(json.dumps(whole))
    report = verify_path(path)
    assert (report.ok, report.partial) == (True, True)
    path.write_text(json.dumps({**whole, "partial": False}))
    assert codes(verify_path(path)) == [(1, "gap")]


def test_unreadable_inputs_are_refused_with_an_id(tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(InputRefused) as caught:
            verify_path(path)
        return caught.value.code

    assert refusal(tmp_path / "missing") == "KEY-010"
    path = tmp_path / "x.json"
    for content in (
        '{"keys":1,"records":[]}',
        '{"records":[1]}',
        '{"a":1}',
        '[{"data":1}]',
        '{"keys":[5],"records":[]}',
        "{bad",
        "{}\n{",
        "ü",
    ):
        path.write_text(content)
        assert refusal(path) == "KEY-012", content
    path.write_text('{"keys":["nonsense"],"records":[]}')
    with pytest.raises(KeyRefused, match="KEY-003"):
        verify_path(path)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.jws", b"A" * 300 * 1024 * 1024)
    assert refusal(bomb) == "KEY-011"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.jws", "\n".join(make(20)))
    broken = bytearray(bomb.read_bytes())
    broken[200:260] = b"\xff" * 60
    bomb.write_bytes(broken)
    assert refusal(bomb) == "KEY-012"


def test_numbers_that_a_signed_gap_record_names_as_lost_are_no_problem() -> None:
    old = make(6)
    body = {"old_chain": "c" * 32, "old_seq": 6, "lost": [[2, 3]]}
    gap = seal(
        KEY, chain="e" * 32, seq=1, prev=GENESIS, type="gap", station="S1", stamp=STAMP, body=body
    ).jws
    kept = [old[0], *old[3:]]
    assert codes(verify_records([*kept, gap], KEYS)) == []
    assert codes(verify_records(kept, KEYS)) == [(2, "gap")]
    assert codes(verify_records([old[0], *old[4:], gap], KEYS)) == [(2, "gap")]
    others = seal(
        RecordKey.generate(), chain="e" * 32, seq=1, prev=GENESIS, type="gap", station="S1",
        stamp=STAMP, body=body,
    ).jws  # fmt: skip
    assert (2, "gap") in codes(verify_records([*kept, others], KEYS))
