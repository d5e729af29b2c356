"""Loading and checking configurations: every mistake found, each with its id and place."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from agent.settings import (
    Known,
    Problem,
    Settings,
    SettingsRefused,
    Severity,
    check,
    check_tariff,
    load_settings,
    load_station,
    load_tariff,
    report,
)
from agent.settings.codes import CFG, TAR
from agent.tariff import EnergyPrice, FixedPrice, PriceBasis, Rounding, Tariff
from agent.values import Money

Write = Callable[..., Path]
HERE = Path(__file__).parent
REPO = HERE.parents[2]
KNOWN = Known(
    protocols=["zvt"],
    meter_models=["eastron_sdm630"],
    evse_drivers=["phoenix_rtu"],
    profiles={"zvt": ["generic", "feig_cvend"]},
)


def found(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(p.code, p.path) for p in problems]


def test_good_files_have_no_problem(station: Write) -> None:
    path = station()
    assert check(path, known=KNOWN, starting=True) == []
    loaded = load_station(path, known=KNOWN)
    assert loaded.warnings == ()
    s = loaded.settings
    assert s.station.place == "NO"
    assert s.hold(s.terminals[0], loaded.tariff) == Money(5000, "EUR")
    assert s.buses["rs485"].line.baud == 9600
    assert s.evse("DE*ABC*E1").meter.unit == 1
    assert s.uplink is not None
    assert (s.uplink.host, s.uplink.port, s.uplink.tls) == ("broker.example", 8883, True)
    assert (s.payment.connection_timeout_s, s.payment.on_sigterm) == (120, "end")
    assert loaded.tariff == Tariff(
        "adhoc",
        "EUR",
        PriceBasis.INCLUDING_VAT,
        Decimal("19"),
        Rounding.HALF_UP,
        energy=(EnergyPrice(Decimal("0.4900")),),
        fixed=(FixedPrice(Decimal("0.35")),),
    )


def test_every_mistake_at_once_as_a_person_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    problems = check("bad-station.yaml", files=False)
    assert len(problems) == 17
    assert report(problems) + "\n" == Path("bad-station.expected.txt").read_text("utf-8")


def test_no_place_in_the_golden_output_is_wrong() -> None:
    """What is written under every caret is in the file at that line and column."""
    lines = (HERE / "bad-station.yaml").read_text("utf-8").splitlines()
    for p in check(HERE / "bad-station.yaml", files=False):
        assert p.place.column <= len(lines[p.place.line - 1]) + 1
        assert p.place.excerpt == re.sub(r"123456", "******", lines[p.place.line - 1])


SERIAL = "port: /dev/energy-bus, baud: 9600, framing: 8N1"
TCP = "port: modbus-tcp://192.0.2.7"


def test_a_modbus_tcp_bus_has_a_port_and_nothing_else(station: Write) -> None:
    path = station((SERIAL, TCP))
    assert check(path, known=KNOWN) == []
    line = load_settings(path).buses["rs485"].line
    assert line.is_modbus_tcp and line.port == "modbus-tcp://192.0.2.7"


@pytest.mark.parametrize(
    "given", ["baud: 9600", "framing: 8N1", "transmitter: kernel", "echo: remove", "baud: fast"]
)
def test_what_says_nothing_on_modbus_tcp_is_refused_where_it_stands(
    station: Write, given: str
) -> None:
    (problem,) = check(station((SERIAL, f"{TCP}, {given}")), known=KNOWN)
    name = given.partition(":")[0]
    assert (problem.code, problem.path) == ("CFG-033", f"buses.rs485.{name}")
    line = problem.place.excerpt
    assert line[problem.place.column - 1 :].startswith(name)
    assert "no serial line" in problem.seen and "take it out" in problem.expected


@pytest.mark.parametrize(
    "port", ["/dev/energy-bus", "tcp://192.0.2.7:4001", "rfc2217://192.0.2.7:4001"]
)
@pytest.mark.parametrize("left", ["baud: 9600", "framing: 8N1", "baud: 9600, framing: "])
def test_a_serial_line_needs_speed_and_framing(station: Write, port: str, left: str) -> None:
    (problem,) = check(station((SERIAL, f"port: {port}, {left}")), known=KNOWN)
    missing = "framing" if "baud" in left else "baud"
    assert (problem.code, problem.path) == ("CFG-011", f"buses.rs485.{missing}")


def test_a_mistyped_speed_is_one_mistake(station: Write) -> None:
    problems = check(station(("baud: 9600, framing: 8N1}", "buad: 9600, framing: 8N1}")))
    assert found(problems) == [("CFG-010", "buses.rs485.buad")]


@pytest.mark.parametrize(
    ("old", "new", "code", "path"),
    [
        ("max_power_w: 22000", "max_power_w: 22e3", "CFG-012", "evses[0].max_power_w"),
        ("max_power_w: 22000", "max_power_w: 0", "CFG-013", "evses[0].max_power_w"),
        ("max_power_w: 22000", "max_power_w: [1]", "CFG-012", "evses[0].max_power_w"),
        ("unit: 3", "unit: 0", "CFG-013", "evses[0].evse.unit"),
        ("unit: 3", "unit: 1", "CFG-023", "evses[0].meter.unit"),
        ("baud: 9600", "baud: 9601", "CFG-013", "buses.rs485.baud"),
        ("bus: rs485, unit: 3", "bus: rs486, unit: 3", "CFG-021", "evses[0].evse.bus"),
        ("  rs485: {port", "  RS 485: {port", "CFG-013", "buses.RS 485"),
        ("serves: [DE*ABC*E1]", "serves: [DE*ABC*E2]", "CFG-021", "terminals[0].serves[0]"),
        ("serves: [DE*ABC*E1]", "serves: []", "CFG-013", "terminals[0].serves"),
        (
            "serves: [DE*ABC*E1]",
            "serves: [DE*ABC*E1, DE*ABC*E1]",
            "CFG-020",
            "terminals[0].serves[1]",
        ),
        ("/dev/payment-terminal", "/dev/./energy-bus", "CFG-024", "terminals[0].port"),
        ("currency: EUR\n    serves", "serves", "CFG-011", "terminals[0].currency"),
        ("    password: {file: zvt-password}\n", "", "CFG-011", "terminals[0].password"),
        ('amount: "50.00"', "amount: 50.00", "CFG-014", "payment.hold.amount"),
        ('amount: "50.00"', 'amount: "50,00"', "CFG-014", "payment.hold.amount"),
        ('amount: "50.00"', 'amount: "-5"', "CFG-014", "payment.hold.amount"),
        ('amount: "50.00"', 'amount: "1e3"', "CFG-014", "payment.hold.amount"),
        ('amount: "50.00"', 'amount: "0.00"', "CFG-031", "payment.hold.amount"),
        ('amount: "50.00"', 'amount: "50.001"', "CFG-031", "payment.hold.amount"),
        ('amount: "50.00"', 'amount: "0.35"', "CFG-031", "payment.hold.amount"),
        (', amount: "50.00"', "", "CFG-011", "payment.hold.amount"),
        ("{file: zvt-password}", "{}", "CFG-013", "terminals[0].password"),
        ("{file: zvt-password}", "{file: a, credential: b}", "CFG-013", "terminals[0].password"),
        (
            "{file: zvt-password}",
            "{credential: ../x}",
            "CFG-013",
            "terminals[0].password.credential",
        ),
        ("{file: zvt-password}", '"000000"', "CFG-015", "terminals[0].password"),
        ("{file: zvt-password}", "{file: absent}", "CFG-026", "terminals[0].password.file"),
        ("{record: {file: record-key.pem}}", "{record: {}}", "CFG-013", "keys.record"),
        ("file: record-key.pem", "file: absent.pem", "CFG-026", "keys.record.file"),
        ("ca: ca.pem", "ca: absent.pem", "CFG-026", "uplink.ca"),
        ("ca: ca.pem", "ca: zvt-password", "CFG-028", "uplink.ca"),
        ("trust: [backend.pem]", "trust: []", "CFG-013", "uplink.trust"),
        (", trust: [backend.pem]", "", "CFG-011", "uplink.trust"),
        ("mqtts://broker", "mqtts://user@broker", "CFG-013", "uplink.url"),
        ("mqtts://broker.example", "mqtts://broker:99999", "CFG-013", "uplink.url"),
        ("mqtts://broker.example", "mqtts://[::1", "CFG-013", "uplink.url"),
        ("mqtts://broker.example", "mqtt://localhost", "CFG-030", "uplink.ca"),
        ("ca: ca.pem", "certificate: ca.pem", "CFG-030", "uplink.certificate"),
        ("time_zone: Europe/Berlin", "time_zone: ../../etc/passwd", "CFG-013", "station.time_zone"),
        ("tenant: abc", "tenant: a/b", "CFG-013", "station.tenant"),
        ("place: NO", "place: Norway", "CFG-013", "station.place"),
        ("tenant: abc", 'tenant: ""', "CFG-012", "station.tenant"),
        ("start: tap", "start: [tap]", "CFG-012", "payment.start"),
        ("stop: [tap, unplug]", "stop: tap", "CFG-012", "payment.stop"),
        ("tariff: {file: tariff.yaml}", "tariff: tariff.yaml", "CFG-012", "tariff"),
        ("tariff: {file: tariff.yaml}", "tariff: {file: absent.yaml}", "TAR-001", ""),
        ("protocol: zvt", "protocol: zvp", "CFG-025", "terminals[0].protocol"),
        ("profile: feig_cvend", "profile: feig", "CFG-025", "terminals[0].profile"),
        ("eastron_sdm630", "eastron_sdm63", "CFG-025", "evses[0].meter.model"),
        ("phoenix_rtu", "phonix_rtu", "CFG-025", "evses[0].evse.driver"),
    ],
)
def test_one_mistake_is_one_error(station: Write, old: str, new: str, code: str, path: str) -> None:
    problems = [
        p
        for p in check(station((old, new)), known=KNOWN, starting=True)
        if p.severity is Severity.ERROR
    ]
    if new.startswith("  RS 485"):
        problems = [p for p in problems if p.code != "CFG-021"]  # the devices' bus is gone with it
    assert found(problems) == [(code, path)], report(problems)
    (problem,) = problems
    with pytest.raises(SettingsRefused):
        load_station(station((old, new)), known=KNOWN)
    assert problem.place.line > 0 or code == "TAR-001"
    assert problem.expected or problem.close, problem.text()


@pytest.mark.parametrize(
    ("old", "new", "close"),
    [
        ("tenant: abc", "tennant: abc", "tenant"),
        ("max_power_w", "max-power-w", "max_power_w"),
        ("start: tap", "start: tab", "tap"),
        ("languages: [de, en]", "languages: [dee, en]", "de"),
        ("Europe/Berlin", "europe/berlin", "Europe/Berlin"),
        ("bus: rs485, unit: 3", "bus: rs48, unit: 3", "rs485"),
        ("serves: [DE*ABC*E1]", "serves: [DE*ABC*E]", "DE*ABC*E1"),
        ("eastron_sdm630", "sdm630", "eastron_sdm630"),
        ("currency: EUR", "currency: EURO", "EUR"),
    ],
)
def test_did_you_mean(station: Write, old: str, new: str, close: str) -> None:
    path = station()
    path.write_text(path.read_text().replace(old, new, 1))
    words = [p.close for p in check(path, known=KNOWN) if p.severity is Severity.ERROR]
    assert words == [close]


def test_references_are_checked_although_another_setting_is_wrong(station: Write) -> None:
    path = station(
        ("baud: 9600", "baud: fast"),
        ("bus: rs485, unit: 3", "bus: rs232, unit: 3"),
        ("serves: [DE*ABC*E1]", "serves: [E9]"),
    )
    assert found(check(path)) == [
        ("CFG-032", "evses[0].id"),
        ("CFG-021", "evses[0].evse.bus"),
        ("CFG-012", "buses.rs485.baud"),
        ("CFG-021", "terminals[0].serves[0]"),
    ]


def test_ids_and_ports_of_two_connectors(station: Write) -> None:
    more = (
        "  - {id: DE*ABC*E1, max_power_w: 1, evse: {driver: phoenix_rtu},"
        " meter: {model: eastron_sdm630, bus: rs485, unit: 1}}\n"
        "buses:\n  spare: {port: /dev/spare, baud: 9600, framing: 8N1}\n"
    )
    problems = check(station(("buses:\n", more)))
    assert found(problems) == [
        ("CFG-020", "evses[1].id"),
        ("CFG-023", "evses[1].meter.unit"),
        ("CFG-032", "buses.spare"),
    ]
    assert "line 3" in problems[0].seen
    assert problems[2].severity is Severity.WARNING


@pytest.mark.parametrize(
    ("mode", "code"), [(0o644, "CFG-027"), (0o640, "CFG-027"), (0o600, None), (0o400, None)]
)
def test_secrets_readable_by_others_are_refused(
    station: Write, mode: int, code: str | None
) -> None:
    path = station()
    for name in ("zvt-password", "record-key.pem"):
        (path.parent / name).chmod(mode)
    codes = [p.code for p in check(path)]
    assert codes == ([] if code is None else [code, code])


def test_an_empty_secret_is_refused_and_no_secret_is_shown(station: Write) -> None:
    path = station()
    (path.parent / "zvt-password").write_text("\n")
    assert found(check(path)) == [("CFG-028", "terminals[0].password.file")]


def test_a_credential_is_a_note_for_a_person_and_an_error_for_the_service(
    station: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    path = station(("{file: zvt-password}", "{credential: zvt}"))
    (note,) = check(path)
    assert (note.code, note.severity) == ("CFG-029", Severity.NOTE)
    with pytest.raises(SettingsRefused, match="LoadCredential=zvt"):
        load_station(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "zvt").write_text("123456")
    assert load_station(path).warnings == ()


def test_terminal_and_tariff_need_one_currency(station: Write) -> None:
    path = station(("currency: EUR", "currency: CHF"))
    assert found(check(path)) == [("CFG-022", "terminals[0].currency")]
    assert check(path, files=False) == []


def test_a_short_hold_is_a_warning_and_an_open_uplink_too(station: Write) -> None:
    path = station(
        ('"50.00"', '"2.00"'), ('"mqtts://broker.example", ca: ca.pem', "mqtt://b.example")
    )
    problems = check(path)
    assert found(problems) == [("CFG-031", "payment.hold.amount"), ("CFG-030", "uplink.url")]
    assert {p.severity for p in problems} == {Severity.WARNING}
    assert len(load_station(path).warnings) == 2


def test_empty_and_unrelated_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "station.yaml"
    path.write_text("name: something else\n")
    problems = check(path)
    missing = [p.path for p in problems if p.code == "CFG-011"]
    assert missing == ["station", "evses", "terminals", "payment", "tariff", "keys"]


COMPUTED = (
    '{strategy: maximum, amount: from_tariff, expected_min: 60, least: "20.00", most: "80.00"}'
)
FIXED = '{strategy: maximum, amount: "50.00"}'


@pytest.mark.parametrize(
    ("change", "minor"),
    [
        # 22 kWh x 0.49 and the start fee of 0.35 are 11.13, with a whole euro above: 12.00
        (('"20.00"', '"5.00"'), 1200),
        (("expected_min: 60", "expected_min: 240"), 4400),  # 43.47
        (("expected_min: 60", "expected_kwh: 100"), 5000),  # 49.35
        (("", ""), 2000),  # least
        (("expected_min: 60", "expected_min: 600"), 8000),  # most
        (('"20.00"', '"20.50"'), 2050),  # a bound is what the operator wrote
    ],
)
def test_the_hold_is_computed_from_tariff_and_power(
    station: Write, change: tuple[str, str], minor: int
) -> None:
    loaded = load_station(station((FIXED, COMPUTED.replace(*change) if change[0] else COMPUTED)))
    s = loaded.settings
    assert s.hold(s.terminals[0], loaded.tariff) == Money(minor, "EUR")


def test_the_strongest_connector_of_a_terminal_counts(station: Write) -> None:
    path = station((FIXED, COMPUTED.replace('"20.00"', '"5.00"')))
    settings, tariff = load_settings(path), load_station(path).tariff
    (first,) = settings.evses
    strong = first.but(id="DE*ABC*E2", max_power_w=44_000)
    both = settings.but(evses=[first, strong])
    terminal = settings.terminals[0]
    assert both.hold(terminal, tariff).amount_minor == 1200, "it serves the first alone"
    served = terminal.but(serves=[first.id, strong.id])
    assert both.hold(served, tariff).amount_minor == 2200  # 21.91


@pytest.mark.parametrize(
    ("hold", "paths"),
    [
        (COMPUTED.replace(', least: "20.00"', ""), ["payment.hold"]),
        (COMPUTED.replace(', most: "80.00"', ""), ["payment.hold"]),
        (COMPUTED.replace(", expected_min: 60", ""), ["payment.hold"]),
        (COMPUTED.replace("60,", "60, expected_kwh: 9,"), ["payment.hold"]),
        (COMPUTED.replace('"80.00"', '"10.00"'), ["payment.hold.most"]),
        (COMPUTED.replace('"80.00"', '"80.001"'), ["payment.hold.most"]),
        (COMPUTED.replace('"20.00"', '"0"'), ["payment.hold.least"]),
        (COMPUTED.replace("maximum", 'increment, step: "9.00"'), ["payment.hold.amount"] * 1),
        (FIXED.replace("}", ', least: "20.00"}'), ["payment.hold.least"]),
        (FIXED.replace("}", ", expected_kwh: 20}"), ["payment.hold.expected_kwh"]),
    ],
)
def test_what_a_computed_hold_lacks_is_said(station: Write, hold: str, paths: list[str]) -> None:
    problems = [p for p in check(station((FIXED, hold))) if p.severity is Severity.ERROR]
    assert {p.code for p in problems} == {"CFG-031"}, problems
    assert set(paths) <= {p.path for p in problems}


def test_a_computed_hold_that_is_used_up_at_once_is_warned_of(station: Write) -> None:
    short = COMPUTED.replace("expected_min: 60", "expected_min: 2").replace('"20.00"', '"0.50"')
    (problem,) = check(station((FIXED, short)))
    assert (problem.code, problem.severity) == ("CFG-031", Severity.WARNING)


def test_no_money_setting_has_a_default() -> None:
    from agent.settings.hold import Hold
    from agent.settings.models import TerminalPoint
    from agent.settings.tariff_file import TariffFile

    for model, names in (
        (Hold, ("strategy", "amount")),
        (TerminalPoint, ("password", "currency")),
        (TariffFile, ("id", "currency", "prices", "vat_percent", "rounding")),
    ):
        for name in names:
            assert model.settings_of[name].needed, name


def test_options_keep_numbers_truth_and_text(station: Write) -> None:
    path = station(
        ("unit: 3}", "unit: 3, options: {poll_ms: 500, invert: true, code: 'true', at: 12:30}}")
    )
    options = load_settings(path).evses[0].evse.options
    assert options == {"poll_ms": 500, "invert": True, "code": "true", "at": "12:30"}
    assert type(options["code"]) is str


def test_serial_numbers_keep_their_zeros(station: Write) -> None:
    path = station(("unit: 1}", "unit: 1, serial: 00123456}"))
    assert load_settings(path).evses[0].meter.serial == "00123456"


def test_relative_paths_belong_to_the_file(station: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = station(("port: /dev/payment-terminal", "port: run/terminal"))
    monkeypatch.chdir(path.parent)
    for name in (path, Path("station.yaml")):
        s = load_settings(name)
        assert s.terminals[0].port == str(path.parent / "run/terminal")
        assert s.keys.record.file == path.parent / "record-key.pem"
        assert s.buses["rs485"].port == "/dev/energy-bus"
    url = station(("port: /dev/payment-terminal", "port: rfc2217://rig:4001"))
    assert load_settings(url).terminals[0].port == "rfc2217://rig:4001"


def test_current_limit_without_a_setting_is_the_lowest_that_could_be_meant(station: Write) -> None:
    assert load_settings(station()).evses[0].max_current_ma == 31_884
    path = station(("max_power_w: 22000", "max_power_w: 22000\n    max_current_a: 32"))
    assert load_settings(path).evses[0].max_current_ma == 32_000


def test_settings_do_not_change_and_show_no_secret(station: Write) -> None:
    s = load_settings(station())
    with pytest.raises(AttributeError, match="settings do not change"):
        s.station.id = "other"
    with pytest.raises(AttributeError, match="settings do not change"):
        del s.station.id
    assert "123456" not in repr(s)


@pytest.mark.parametrize(
    ("old", "new", "code", "path", "line"),
    [
        ('"0.4900"', "0.4900", "TAR-014", "energy[0].price_kwh", 6),
        ("rounding: half_up\n", "", "TAR-011", "rounding", 1),
        ("prices: including_vat\n", "", "TAR-011", "prices", 1),
        ("including_vat", "incl_vat", "TAR-013", "prices", 3),
        ('vat_percent: "19"', 'vat_percent: "101"', "TAR-020", "vat_percent", 4),
        ('"0.4900"', '"0.49000001"', "TAR-020", "energy[0].price_kwh", 6),
        ("price_kwh", "price_kw", "TAR-010", "energy[0].price_kw", 6),
        (
            'energy: [{price_kwh: "0.4900"}]\nfixed: [{price: "0.35"}]\n',
            "",
            "TAR-020",
            "energy",
            1,
        ),
        (
            '{price_kwh: "0.4900"}',
            '{price_kwh: "0.4900"}, {price_kwh: "0.1"}',
            "TAR-020",
            "energy[1]",
            6,
        ),
        ("currency: EUR", "currency: *c", "TAR-005", "", 2),
        ("id: adhoc", "id: adhoc\nid: b", "TAR-009", "id", 2),
        ("id: adhoc", "description: {fr: x}\nid: adhoc", "TAR-013", "description.fr", 1),
    ],
)
def test_tariff_mistakes(
    station: Write, good_tariff: str, old: str, new: str, code: str, path: str, line: int
) -> None:
    config = station(tariff=good_tariff.replace(old, new, 1))
    tariff = config.parent / "tariff.yaml"
    (problem,) = check_tariff(tariff)
    assert (problem.code, problem.path, problem.place.line) == (code, path, line), problem.text()
    with pytest.raises(SettingsRefused, match=code):
        load_tariff(tariff)
    assert [p.code for p in check(config)] == [code]


def test_every_id_is_listed_with_cause_and_remedy() -> None:
    text = (REPO / "docs/errors.md").read_text("utf-8")
    for code in {*CFG.values(), *TAR.values()}:
        row = re.search(rf"^\| {code} \|(.+)\|(.+)\|$", text, re.M)
        assert row and all(cell.strip() for cell in row.groups()), code


def test_catching_a_refusal_loads_no_validator() -> None:
    code = (
        "import sys; from agent.settings import SettingsRefused, Problem, report;"
        "sys.exit('agent.settings.shape' in sys.modules or 'yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=REPO).returncode == 0


def test_problem_json_has_every_part(station: Write) -> None:
    (problem,) = check(station(("start: tap", "start: tab")))
    assert problem.json() == {
        "file": str(problem.place.file),
        "line": 21,
        "column": 10,
        "id": "CFG-013",
        "severity": "error",
        "path": "payment.start",
        "seen": '"tab" is not allowed',
        "expected": "expected one of tap, plug",
        "did_you_mean": "tap",
    }


def test_settings_type_is_what_the_station_gets(station: Write) -> None:
    assert type(load_settings(station())) is Settings
