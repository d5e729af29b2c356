"""voltill ocmf verify FILE|- [--key HEX|BASE64|FILE]"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import FAILED, OK, json_option

if TYPE_CHECKING:
    from agent.trust.ocmf.record import Reading, Record
    from agent.trust.ocmf.report import Charge, Judged, Report

_KEY_TEXT = re.compile(r"[A-Za-z0-9+/=\s]+|\s*-----BEGIN .*", re.DOTALL)
_LABEL_WIDTH = 12
_SHOWN_CHARS = 60  # of an argument that was no file


@click.group()
def command() -> None:
    """Signed meter readings in OCMF."""


@command.command("verify")
@click.argument("file", metavar="FILE|-")
@click.option(
    "--key",
    metavar="KEY",
    help="Public key of the meter or station: hex, base64, or a file with one (PEM, DER, hex, base64).",
)
@json_option
def verify(file: str, key: str | None, as_json: bool) -> None:
    """Verify signed meter readings, and check them as legal metrology does.

    FILE, or standard input (-), holds a record (OCMF|...), plain or coded in hex, several of them, or the XML
    container of the transparency software. Without --key the key that came with a record is used: compare
    it with the one printed on the meter.

    Exit code 0 only when every signature is valid; findings do not change it."""
    from agent.trust.ocmf import exact
    from agent.trust.ocmf.inputs import load
    from agent.trust.ocmf.report import assess

    report = assess(load(_read(file)), _key(key))
    if as_json:
        click.echo(exact.dumps(report.json(), indent=2))
    else:
        _print(report)
    raise click.exceptions.Exit(OK if report.valid else FAILED)


def _read(file: str) -> bytes:
    """As bytes: reading text would translate line ends, which a signature covers."""
    from agent.trust.ocmf.inputs import MAX_INPUT_BYTES

    if file == "-":
        return sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    if file.startswith("OCMF|"):
        raise click.UsageError("this is a record itself: put it into a file, or give it to `-`")
    try:
        with Path(file).open("rb") as opened:
            return opened.read(MAX_INPUT_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise click.UsageError(f"{file[:_SHOWN_CHARS]}: {why}") from None


def _key(text: str | None) -> str | bytes | None:
    from agent.trust.ocmf.signature import MAX_KEY_CHARS

    if text is None or not text.strip():
        return None
    try:
        if Path(text).is_file():
            with Path(text).open("rb") as opened:
                return opened.read(MAX_KEY_CHARS + 1)
    except (OSError, ValueError):
        pass  # a long key is no file name
    if _KEY_TEXT.fullmatch(text) is None:
        raise click.UsageError(
            f"--key {text[:_SHOWN_CHARS]!r} is no file, and no key in hex or base64"
        )
    return text


# --- For people -----------------------------------------------------------------------------------


def _print(report: Report) -> None:
    several = len(report.records) > 1
    for number, judged in enumerate(report.records, 1):
        if several:
            _say(f"record {number} of {len(report.records)}{_named(judged)}")
        _print_one(judged)
        for charge in report.charges:
            if charge.end == number:
                _line("energy", _energy(charge))
        _findings(judged)
        if several:
            _say("")
    _verdict(report)


def _named(judged: Judged) -> str:
    """What the container calls it: " (Transaction.Begin, transaction 7)"."""
    number = judged.value.transaction_id
    parts = [_text(judged.value.context), f"transaction {_text(number)}" if number else ""]
    names = ", ".join(part for part in parts if part)
    return f" ({names})" if names else ""


def _say(text: str) -> None:
    """Foreign records hold any character; a terminal may know few."""
    coding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(text.encode(coding, "backslashreplace").decode(coding))


def _print_one(judged: Judged) -> None:
    verdict = judged.verdict
    how = {"valid": "VALID", "invalid": "INVALID", "no_key": "not verified"}
    words = how.get(verdict.signature, "cannot be verified")
    if verdict.valid:
        _line("signature", f"{words}, {verdict.algorithm}")
    else:
        _line("signature", f"{words}: {verdict.text} [{verdict.reason}]")
    if verdict.key is not None:
        if judged.key_from == "given":
            _line("key", f"given with --key, SHA-256 {verdict.key.fingerprint[:16]}...")
        else:  # to be compared with what is printed on the meter
            _line("key", f"came with the record: {verdict.key.spki.hex()}")
    if verdict.record is not None:
        _print_record(verdict.record)


def _print_record(record: Record) -> None:
    from agent.trust.ocmf.checks import begin_and_end

    _line("signed by", _names(record, "GI", "GS", "GV"))
    _line("meter", _names(record, ["MV", "MM"], "MS", "MF"))
    _line("page", _text(record.get("PG")))
    kind, trust = record.get("IT"), "" if record.payload.get("IS") is True else "not identified"
    who = f"{_text(kind)} {_text(record.get('ID'))}".strip() if kind != "NONE" else ""
    _line("customer", ", ".join(part for part in (who, trust) if part))
    _line("at", _text(record.get("CI")))
    _line("tariff", _text(record.get("TT")))
    begin, end = begin_and_end(record)
    if begin is not None:
        _line("begin", _reading(begin))
    if end is not None:
        _line("end", _reading(end))


def _names(record: Record, model: str | list[str], serial: str, version: str) -> str:
    """ "DZG DVH4013, serial 1DZG0033, version v017", as far as it is known."""
    keys = [model] if isinstance(model, str) else model
    name = " ".join(_text(record.get(key)) for key in keys).strip()
    parts = [name]
    if record.get(serial):
        parts.append(f"serial {_text(record.get(serial))}")
    if record.get(version):
        parts.append(f"version {_text(record.get(version))}")
    return ", ".join(part for part in parts if part)


def _text(value: str) -> str:
    from agent.trust.ocmf.findings import shown

    return shown(value)


def _reading(reading: Reading) -> str:
    clock = {"S": "", "I": " (clock informative only)", "R": " (relative time)"}
    value = f"{_text(str(reading.rv).strip())} {_text(reading.ru or '?')}"
    time = reading.time
    if time is None:
        return f"{value}  at an unknown time"
    when = time.at.isoformat(sep=" ", timespec="seconds")
    return f"{value}  {when}{clock.get(time.status, ' (clock not set)')}"


def _energy(charge: Charge) -> str:
    from agent.trust.ocmf.report import plain

    energy = charge.transaction.energy_wh
    if energy is None:
        return "unknown: begin or end has no value"
    text = f"{plain(energy.scaleb(-3))} kWh"
    if charge.begin != charge.end:
        text += f", since record {charge.begin}"
    first, last = charge.transaction.begin.time, charge.transaction.end.time
    if first is not None and last is not None and last.at >= first.at:
        text += f" in {last.at - first.at}"
    return text


def _findings(judged: Judged) -> None:
    for finding in judged.findings:
        where = f" ({finding.where})" if finding.where else ""
        _line(finding.level, f"{finding.text} [{finding.code}]{where}")


def _verdict(report: Report) -> None:
    findings = [finding for judged in report.records for finding in judged.findings]
    errors = sum(finding.level == "error" for finding in findings)
    told = f"{_count(errors, 'error')}, {_count(len(findings) - errors, 'warning')}"
    _say(f"{_signatures(report)}; {told}")
    if any(judged.verdict.valid and judged.key_from == "record" for judged in report.records):
        _say("The key came with the record: it shows that nothing was changed, not who signed.")
        _say("Compare it with the key printed on the meter, or give that one with --key.")
    if any(judged.verdict.signature == "no_key" for judged in report.records):
        _say("Give the public key that is printed on the meter with --key.")


def _signatures(report: Report) -> str:
    if len(report.records) > 1:
        good = sum(judged.verdict.valid for judged in report.records)
        which = f"{good} of {len(report.records)}"
        return f"{'all ' + str(good) if report.valid else which} signatures valid"
    words = {"valid": "valid", "invalid": "INVALID", "no_key": "not verified"}
    return f"signature {words.get(report.worst.verdict.signature, 'cannot be verified')}"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _line(label: str, text: str) -> None:
    if text:
        _say(f"  {label:<{_LABEL_WIDTH}} {text}")
