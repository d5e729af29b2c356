"""The XML container, files with many records, and the verdict on all of them together."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyocmf import OcmfContainer

from agent.trust import ocmf
from agent.trust.keys import RecordKey
from agent.trust.ocmf import Content, Customer, Gateway, Mark, MeterLabel, make
from agent.trust.ocmf.container import MAX_VALUES, ContainerRefused, Value, read, write
from agent.trust.ocmf.exact import dumps
from agent.trust.ocmf.inputs import MAX_INPUT_BYTES, load
from agent.trust.ocmf.report import Report, assess
from agent.values import Quality, Stamp

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors" / "ocmf.json"
KEY, OTHER = RecordKey.generate(), RecordKey.generate()
SPKI = KEY.public.spki.hex()
BEGIN = Mark("B", 104_211, Stamp(1_787_306_400_000, 0, "b", Quality.TRUSTED))
END = Mark("E", 116_711, Stamp(1_787_308_200_000, 1_800_000, "b", Quality.TRUSTED))
CONTENT = Content(
    1, Gateway("S1", "1"), MeterLabel("M1"), Customer.by_card("52-231"), (BEGIN, END), "a < b & c"
)
WHOLE = make(CONTENT, KEY).text
FIRST = make(replace(CONTENT, marks=(BEGIN,)), KEY).text
LAST = make(replace(CONTENT, page=2, marks=(END,)), KEY).text
BOTH = [
    Value(FIRST, SPKI, "Transaction.Begin", "7"),
    Value(LAST, SPKI, "Transaction.End", "7"),
]


def codes(report: Report) -> list[str]:
    return [finding.code for judged in report.records for finding in judged.findings]


# --- The container --------------------------------------------------------------------------------


def test_what_is_written_is_read_back() -> None:
    assert read(write(BOTH).encode()) == BOTH


def test_another_reader_sees_the_same_texts() -> None:
    root = ElementTree.fromstring(write(BOTH))
    assert root.tag == "values"
    data = [value.find("signedData") for value in root]
    assert [one.text for one in data if one is not None] == [FIRST, LAST]
    assert [one.attrib for one in data if one is not None] == [
        {"format": "OCMF", "encoding": "plain", "transactionId": "7"}
    ] * 2
    keys = [value.find("publicKey") for value in root]
    assert [(key.text, key.attrib) for key in keys if key is not None] == [
        (SPKI, {"encoding": "plain"})
    ] * 2
    assert [value.attrib for value in root] == [
        {"transactionId": "7", "context": "Transaction.Begin"},
        {"transactionId": "7", "context": "Transaction.End"},
    ]


def test_pyocmf_reads_the_container_and_finds_no_fault(tmp_path: Path) -> None:
    (tmp_path / "values.xml").write_text(write(BOTH))
    theirs = OcmfContainer.from_xml(tmp_path / "values.xml", strict=True)
    assert [record.verify_signature() for record in theirs] == [True, True]
    assert [record.context for record in theirs] == ["Transaction.Begin", "Transaction.End"]
    (result,) = theirs.check_eichrecht()
    assert (result.transaction_id, result.issues) == (7, [])


def test_line_ends_inside_a_signed_text_survive() -> None:
    """XML readers turn a bare carriage return into a line feed: that would be another text."""
    text = 'OCMF|{\r\n"RD":\r[]\n\t}|{"SD":"00"}'
    xml = write([Value(text)])
    assert ElementTree.fromstring(xml)[0][0].text == text
    assert read(xml.encode())[0].text == text


@given(st.text(max_size=40))
def test_any_text_comes_back_or_is_refused(text: str) -> None:
    try:
        xml = write([Value(text, "30")])
    except ContainerRefused:
        return
    assert read(xml.encode())[0].text == text


@pytest.mark.parametrize(
    "values",
    [
        [],
        [Value("x")] * (MAX_VALUES + 1),
        [Value("a\0b")],
        [Value(" ")],
        [Value("x", "", "Transaction.Begin", 'DE"1')],
        [Value("x", "", "Transaction.Begin", "1234567890")],
        [Value("x", "", "Begin", "1")],
    ],
    ids=lambda values: repr(values)[:40],
)
def test_what_cannot_be_written(values: list[Value]) -> None:
    with pytest.raises(ContainerRefused):
        write(values)


def test_codings_names_and_what_belongs_to_nothing() -> None:
    xml = f"""<?xml version="1.0"?>
        <!-- as from a back end --><safe:values xmlns:safe="urn:x"><other/>
        <safe:value transactionId="1" context="Transaction.End"><meter>3</meter>
          <safe:signedData format="ocmf" encoding="base64">{base64.b64encode(WHOLE.encode()).decode()}
          </safe:signedData>
          <safe:publicKey encoding="base64">{base64.b64encode(KEY.public.spki).decode()}</safe:publicKey>
        </safe:value>
        <safe:value><safe:signedData transactionId="9"><![CDATA[{WHOLE}]]></safe:signedData></safe:value>
        <safe:value><safe:signedData encoding="hex">{WHOLE.encode().hex()}</safe:signedData></safe:value>
        </safe:values>"""
    values = read(xml.encode())
    assert [ocmf.parse(value.text).text for value in values] == [WHOLE] * 3
    assert [value.transaction_id for value in values] == ["1", "9", ""]
    report = assess(values)
    assert [judged.verdict.signature for judged in report.records] == ["valid", "no_key", "no_key"]
    assert assess(values, SPKI).valid


@pytest.mark.parametrize(
    "value",
    [
        "<value/>",
        "<value><signedData/></value>",
        '<value><signedData format="ALFEN">AP;0;3;ALCV</signedData></value>',
        '<value><signedData encoding="base64">%%%</signedData></value>',
        '<value><signedData encoding="base64">/w==</signedData></value>',
        '<value><signedData encoding="rot13">BPZS</signedData></value>',
    ],
)
def test_values_that_cannot_be_read_are_told_one_by_one(value: str) -> None:
    xml = f"<values>{value}<value><signedData>{WHOLE}</signedData></value></values>"
    xml = xml.replace("a < b & c", "a &lt; b &amp; c")
    report = assess(load(xml.encode()), SPKI)
    assert [judged.verdict.signature for judged in report.records] == ["undecodable", "valid"]
    assert report.records[0].verdict.reason == "format"
    assert not report.valid


def test_another_format_is_named_as_such() -> None:
    (value,) = read(b'<values><value><signedData format="ALFEN">AP;0</signedData></value></values>')
    assert (value.format, value.text) == ("ALFEN", "AP;0")
    assert "another format" in assess([value]).records[0].verdict.text


BILLION = "<!DOCTYPE values [" + "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))


@pytest.mark.parametrize(
    "xml",
    [
        b"<",
        b"<values>",
        b"<values></values>",
        b"<other><value/></other>",
        b"<values><value></values>",
        f"{BILLION}]><values><value><signedData>&l9;</signedData></value></values>".encode(),
        b'<!DOCTYPE values SYSTEM "file:///etc/hostname"><values><value/></values>',
        b'<!DOCTYPE v [<!ENTITY x SYSTEM "file:///etc/hostname">]><values>&x;</values>',
        b"<values>&undefined;</values>",
        b'<?xml version="1.0" encoding="nonsense"?><values><value/></values>',
        b"<values>" + b"<value>" * 50 + b"</value>" * 50 + b"</values>",
        b"<values>" + b"<value/>" * (MAX_VALUES + 1) + b"</values>",
        b"<values>\xff</values>",
        b"<values>" + b" " * 5 * 1024 * 1024 + b"</values>",
    ],
    ids=lambda xml: repr(xml)[:40],
)
def test_hostile_and_broken_xml_is_refused(xml: bytes) -> None:
    with pytest.raises(ContainerRefused):
        read(xml)
    (judged,) = assess(load(xml)).records
    assert (judged.verdict.signature, judged.verdict.reason) == ("undecodable", "format")


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        WHOLE,
        f"\ufeff{WHOLE}\r\n",
        WHOLE.encode().hex(),
        f"\n\n   {WHOLE}\n{WHOLE.encode().hex().upper()}\n{WHOLE}",
        WHOLE.replace('{"SA"', '\n {\n"SA"'),
    ],
    ids=["plain", "with a byte order mark", "hex", "several", "wrapped"],
)
def test_every_form_of_a_file(data: str) -> None:
    assert assess(load(data.encode()), SPKI).valid


def test_a_payload_over_several_lines_is_one_record() -> None:
    payload = '{"PG":"T1",\n\n "RD":[\n]}'
    text = f'OCMF|{payload}|{{"SD":"{"00" * 8}"}}'
    values = load(f"{text}\n{text}\n".encode())
    assert [value.text for value in values] == [text, text]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n\t",
        b"hello",
        b"\xff\xfe",
        b"|",
        f"hello\n{WHOLE}".encode(),
        f"{WHOLE}\nhello".encode(),
        f"{WHOLE}{WHOLE}".encode(),
        b"x" * (MAX_INPUT_BYTES + 1),
        WHOLE.encode() + b"\n" * MAX_INPUT_BYTES,
        b"OCMF|\n" * (MAX_VALUES + 1),
    ],
    ids=lambda data: repr(data)[:30],
)
def test_nothing_in_a_file_is_passed_over(data: bytes) -> None:
    report = assess(load(data), SPKI)
    assert not report.valid
    assert report.worst.verdict.signature == "undecodable"


@given(st.binary(max_size=300))
def test_no_bytes_break_the_way_through(data: bytes) -> None:
    for whole in (data, b"<values>" + data, WHOLE.encode() + data, b"OCMF|" + data):
        report = assess(load(whole), SPKI)
        json.loads(dumps(report.json()))
    assess(load(WHOLE.encode()), data)


# --- The verdict ----------------------------------------------------------------------------------


def test_one_record() -> None:
    report = assess([Value(WHOLE)], SPKI).json()
    assert (report["signature"], report["reason"], report["eichrecht"]) == ("valid", "", [])
    whole = json.loads(dumps(report))
    assert whole["payload"]["RD"][1]["RV"] == 116.711
    assert whole["payload"] == json.loads(WHOLE.split("|")[1])
    assert whole["charges"] == [{"begin": 1, "end": 1, "energy_wh": "12500"}]
    assert whole["key"] == {
        "from": "given",
        "curve": "secp256r1",
        "fingerprint": KEY.kid,
        "spki": SPKI,
    }
    assert len(whole["records"]) == 1


def test_digits_are_those_of_the_record() -> None:
    text = WHOLE.replace("116.711", "116.7110")
    assert '"RV": 116.7110' in dumps(assess([Value(text)]).json(), indent=2)


def test_begin_and_end_in_a_container() -> None:
    report = assess(BOTH)
    assert report.valid
    assert codes(report) == []
    whole = json.loads(dumps(report.json()))
    assert whole["payload"] is None
    assert [one["payload"]["PG"] for one in whole["records"]] == ["T1", "T2"]
    assert whole["charges"] == [{"begin": 1, "end": 2, "energy_wh": "12500"}]


def test_begin_and_end_swapped() -> None:
    """Both signatures hold; the order, and the containers' words, do not."""
    swapped = [replace(BOTH[0], text=LAST), replace(BOTH[1], text=FIRST)]
    report = assess(swapped, SPKI)
    assert report.valid
    assert set(codes(report)) >= {"context", "page_order"}
    assert [finding["record"] for finding in report.json()["eichrecht"]]  # type: ignore[union-attr,index]


def test_the_worst_verdict_counts() -> None:
    bad = replace(BOTH[1], text=LAST.replace("116.711", "116.712"))
    for values, worst in (
        ([BOTH[0], replace(BOTH[1], public_key="")], "no_key"),
        ([BOTH[0], replace(BOTH[1], public_key=""), Value("rubbish")], "undecodable"),
        ([BOTH[0], Value("rubbish"), bad], "invalid"),
    ):
        report = assess(values)
        assert (report.json()["signature"], report.valid) == (worst, False)


def test_where_the_key_came_from() -> None:
    assert [judged.key_from for judged in assess(BOTH).records] == ["record", "record"]
    assert [judged.key_from for judged in assess(BOTH, SPKI).records] == ["given", "given"]
    assert [judged.key_from for judged in assess([Value(WHOLE)]).records] == ["none"]
    appended = assess([Value(f"{WHOLE}|{SPKI}")])
    assert appended.valid
    assert appended.records[0].key_from == "record"


def test_a_key_that_is_given_goes_before_the_one_that_came_along() -> None:
    forged = make(CONTENT, OTHER)
    values = [Value(forged.text, forged.public_key)]
    assert assess(values).valid  # whoever made it signed it
    assert not assess(values, SPKI).valid
    genuine = [Value(WHOLE, forged.public_key)]
    assert codes(assess(genuine, SPKI)) == ["key_differs"]
    assert codes(assess([Value(WHOLE, "rubbish")], SPKI)) == ["key_differs"]


def test_a_key_that_cannot_be_read_is_told_with_each_record() -> None:
    report = assess(BOTH, "rubbish!")
    assert [judged.verdict.reason for judged in report.records] == ["key", "key"]


def test_all_public_records_in_one_container() -> None:
    if not VECTORS.exists():
        pytest.skip(f"needs the captured vectors in {VECTORS.name}")
    vectors = json.loads(VECTORS.read_text())["vectors"]
    values = [Value(vector["ocmf"], vector["public_key"]) for vector in vectors]
    report = assess(read(write(values).encode()))
    signatures = [judged.verdict.signature for judged in report.records]
    alone = [ocmf.verify(value.text, value.public_key).signature for value in values]
    assert signatures == alone
    json.loads(dumps(report.json()))
