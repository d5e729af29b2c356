"""A good configuration in a directory of its own, to be spoiled one setting at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

GOOD = """\
station: {id: DE*ABC*S1, tenant: abc, place: NO, time_zone: Europe/Berlin, languages: [de, en]}
evses:
  - id: DE*ABC*E1
    max_power_w: 22000
    evse: {driver: phoenix_rtu, bus: rs485, unit: 3}
    meter: {model: eastron_sdm630, bus: rs485, unit: 1}
buses:
  rs485: {port: /dev/energy-bus, baud: 9600, framing: 8N1}
terminals:
  - id: t1
    protocol: zvt
    profile: feig_cvend
    port: /dev/payment-terminal
    baud: 115200
    framing: 8N2
    password: {file: zvt-password}
    currency: EUR
    serves: [DE*ABC*E1]
payment:
  hold: {strategy: maximum, amount: "50.00"}
  start: tap
  stop: [tap, unplug]
tariff: {file: tariff.yaml}
keys: {record: {file: record-key.pem}}
uplink: {url: "mqtts://broker.example", ca: ca.pem, trust: [backend.pem]}
"""

TARIFF = """\
id: adhoc
currency: EUR
prices: including_vat
vat_percent: "19"
rounding: half_up
energy: [{price_kwh: "0.4900"}]
fixed: [{price: "0.35"}]
"""

PEM = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"


@pytest.fixture
def good_tariff() -> str:
    return TARIFF


@pytest.fixture
def station(tmp_path: Path) -> Callable[..., Path]:
    """Writes the good files, with texts replaced in station.yaml, and gives its path."""

    def write(*changes: tuple[str, str], tariff: str = TARIFF) -> Path:
        text = GOOD
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the good file"
            text = text.replace(old, new)
        for name, content, mode in (
            ("zvt-password", "123456\n", 0o600),
            ("record-key.pem", PEM, 0o600),
            ("ca.pem", PEM, 0o644),
            ("backend.pem", PEM, 0o644),
            ("tariff.yaml", tariff, 0o644),
            ("station.yaml", text, 0o644),
        ):
            (tmp_path / name).write_text(content)
            (tmp_path / name).chmod(mode)
        return tmp_path / "station.yaml"

    return write
