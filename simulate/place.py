"""The ordinary files of a simulated station, made once for many worlds: settings, keys, password, tariff, and
the state folder. They are not on the simulated disk: no power cut touches them."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from agent.settings.load import Loaded, load_station
from agent.station.station import Paths
from agent.trust.keys import RecordKey
from hil.backend.jose import public_pem
from hil.verify.price import TariffRules, load_tariff
from simulate.backend import Names
from simulate.till import PASSWORD

# Names for the seam; nobody opens them.
BUS_PORT, TERMINAL_PORTS = "/dev/null", ("/dev/zero", "/dev/full")
TERMINALS = ("t1", "t2")
EVSES = tuple(f"DE*SIM*E{n}" for n in range(1, 5))
NAMES = Names("voltill", "sim", "DE*SIM*S1")
# 11 or 22 kW: cars of the simulation charge for minutes, so a kWh has to be dear for holds to run out.
MAX_POWER_W = 22_000

CONFIG = """
station:
  id: {station}
  tenant: {tenant}
  place: DE
  time_zone: Europe/Berlin
  languages: [en]
evses:
{evses}
buses:
  rs485: {{port: {bus}, baud: 9600, framing: 8N1}}
terminals:
{terminals}
payment:
  hold: {{{strategy}, amount: "{hold}", partial: {partial}}}
  start: {start}
  stop: [tap, unplug]
  connection_timeout_s: 30
  on_sigterm: {on_sigterm}
  resumption_timeout_s: {resume_s}
  card_poll_s: 15
  meter_lost_s: 20
tariff: {{file: tariff.yaml}}
keys: {{record: {{file: record-key.pem}}}}
uplink:
  url: mqtt://broker.invalid
  root: {root}
  trust: [backend.pem]
  ack_timeout_s: 20
"""
TERMINAL = """  - id: {id}
    protocol: zvt
    profile: generic
    port: {terminal}
    baud: 115200
    framing: 8N2
    password: {{file: zvt-password}}
    currency: EUR
    serves: [{serves}]
    foreign_holds: {foreign}
    end_of_day: {{{end_of_day}}}
    options: {{{options}}}
{reboot}"""
EVSE = """  - id: {id}
    max_power_w: {power}
    evse:
      driver: phoenix_rtu
      bus: rs485
      unit: {evse_unit}
      options: {{estop_input: "IN", estop_level: 1}}
    meter: {{model: eastron_sdm630, bus: rs485, unit: {meter_unit}}}"""
REBOOT = '    reboot: {{at: "{at}", lasts_min: 2}}'
INCREMENT = 'strategy: increment, step: "10.00", most: "35.00", raises: 3'
TARIFF = """
id: adhoc
currency: EUR
prices: including_vat
vat_percent: "19"
rounding: half_up
energy:
  - price_kwh: "39.0000"
idle_time:
  - price_minute: "0.60"
fixed:
  - price: "0.35"
"""
# The same name, other prices: what lies in the file after somebody has written to it.
LATER_TARIFF = """
id: adhoc
currency: EUR
prices: including_vat
vat_percent: "19"
rounding: half_up
energy:
  - price_kwh: "35.0000"
idle_time:
  - price_minute: "0.90"
fixed:
  - price: "1.10"
"""
CHARGING_TIME = """charging_time:
  - price_minute: "2.40"
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """What differs between stations. `raises`: the hold is a small one that is raised while energy flows.
    `end_at`, `reboot_at`: times of day in Berlin, where a world begins at 13:16:40; `eod_holds`: what the
    terminal does with open holds at an end of day, which its profile says, too; where it says nothing the
    terminal refuses, and the profile fears the worst."""

    connectors: int = 1
    terminals: int = 1
    hold: str = "20.00"
    start: str = "tap"
    partial: str = "accept"
    on_sigterm: str = "end"
    resume_s: int = 300
    raises: bool = False
    end_at: str = ""
    drain_min: int = 60
    eod_holds: str = ""
    reboot_at: str = ""
    foreign: str = "report"
    timed: bool = False  # its tariff charges for the time in which energy flows, too
    peace_h: int = 0  # hours without anybody and without trouble, before all is judged

    def terminal_of(self, connector: int) -> int:
        """Connectors are shared out in their order, the first terminal's are not the fewer."""
        return connector // -(-self.connectors // self.terminals)

    @property
    def ends_days(self) -> bool:
        return bool(self.eod_holds)

    @property
    def terminal_settings(self) -> tuple[str, ...]:
        """The switches of the simulated terminal."""
        own = [f"eod_open_holds={self.eod_holds}"] if self.eod_holds else []
        if self.reboot_at:
            own.append(f"reboot_daily={self.reboot_at}")
        return tuple(own)


@dataclass(frozen=True, slots=True)
class Priced:
    """The settings with one tariff, and the judge's own reading of that."""

    loaded: Loaded
    rules: TariffRules


@dataclass(frozen=True, slots=True)
class Place:
    """`tariffs`: what lies in the tariff file at first, and after it was changed."""

    folder: Path
    variant: Variant
    tariffs: tuple[Priced, ...]
    backend_key: ec.EllipticCurvePrivateKey

    @property
    def loaded(self) -> Loaded:
        return self.tariffs[0].loaded

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def paths(self) -> Paths:
        return Paths(self.state)

    @property
    def station_pem(self) -> Path:
        return self.folder / "record-key.pem"

    @property
    def evses(self) -> list[str]:
        return list(EVSES[: self.variant.connectors])

    def empty(self) -> None:
        """As before the first start. The ballast stays: it is the disk's, not the station's."""
        for name in ("card.key", "control.sock", "ledger.db-suspect"):
            (self.state / name).unlink(missing_ok=True)


class Places:
    """One place for each variant, in a folder in memory where there is one."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")
        self._folder = Path(
            tempfile.mkdtemp(prefix="voltill-sim-", dir=shared if shared.is_dir() else None)
        )
        self._made: dict[Variant, Place] = {}
        self._backend_key = ec.generate_private_key(ec.SECP256R1())

    def of(self, variant: Variant) -> Place:
        if variant not in self._made:
            self._made[variant] = self._make(variant, self._folder / str(len(self._made)))
        place = self._made[variant]
        place.empty()
        return place

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make(self, variant: Variant, folder: Path) -> Place:
        (folder / "state").mkdir(parents=True)
        evses = EVSES[: variant.connectors]
        text = CONFIG.format(
            station=NAMES.station,
            tenant=NAMES.tenant,
            root=NAMES.root,
            bus=BUS_PORT,
            evses="\n".join(
                EVSE.format(id=e, power=MAX_POWER_W, meter_unit=1 + 2 * n, evse_unit=2 + 2 * n)
                for n, e in enumerate(evses)
            ),
            terminals="\n".join(_terminal(variant, n) for n in range(variant.terminals)),
            strategy=INCREMENT if variant.raises else "strategy: maximum",
            hold=variant.hold,
            partial=variant.partial,
            start=variant.start,
            on_sigterm=variant.on_sigterm,
            resume_s=variant.resume_s,
        )
        (folder / "station.yaml").write_text(text)
        password = folder / "zvt-password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        RecordKey.generate().save(folder / "record-key.pem")
        (folder / "backend.pem").write_bytes(public_pem(self._backend_key.public_key()))
        more = CHARGING_TIME if variant.timed else ""
        tariffs = tuple(_priced(folder, text + more) for text in (TARIFF, LATER_TARIFF))
        return Place(folder, variant, tariffs, self._backend_key)


def _priced(folder: Path, tariff: str) -> Priced:
    (folder / "tariff.yaml").write_text(tariff)
    return Priced(load_station(folder / "station.yaml"), load_tariff(folder / "tariff.yaml"))


def _terminal(variant: Variant, n: int) -> str:
    serves = [e for c, e in enumerate(EVSES[: variant.connectors]) if variant.terminal_of(c) == n]
    return TERMINAL.format(
        id=TERMINALS[n],
        terminal=TERMINAL_PORTS[n],
        serves=", ".join(serves),
        options=", ".join(_options(variant)),
        foreign=variant.foreign,
        end_of_day=", ".join(_end_of_day(variant)),
        reboot=REBOOT.format(at=variant.reboot_at) if variant.reboot_at else "",
    )


def _options(variant: Variant) -> list[str]:
    options = ["extension: added"] if variant.raises else []
    return [*options, f"eod_open_holds: {variant.eod_holds}"] if variant.eod_holds else options


def _end_of_day(variant: Variant) -> list[str]:
    at = [f'at: "{variant.end_at}"'] if variant.end_at else []
    return [*at, f"drain_min: {variant.drain_min}"]


def minor(amount: str) -> int:
    return int(Fraction(amount) * 100)
