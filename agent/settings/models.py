"""The configuration tree of `station.yaml` (design §3). The descriptions are what an editor shows on a
setting and what the error for a missing one says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from agent.ports import MODBUS_TCP, LineSpec, is_modbus_tcp
from agent.settings.fields import (
    AsText,
    AsWhole,
    BrokerUrl,
    Currency,
    FilePath,
    Id,
    Name,
    NameKey,
    Option,
    Port,
    SerialNumber,
    Text,
    TimeOfDay,
    TimeZone,
    Whole,
    matching,
)
from agent.settings.hold import Hold
from agent.settings.key_places import Keys
from agent.settings.section import SecretSource
from agent.settings.shape import Limits, Section, setting
from agent.tariff import Tariff
from agent.values import Money

Baud = Annotated[
    Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600], AsWhole
]
Framing = Annotated[
    Literal["8N1", "8N2", "8E1", "8E2", "8O1", "8O2", "7E1", "7O1", "7N2"],
    AsText,
]
Language = Annotated[Literal["en", "de"], AsText]
UnitAddress = Annotated[Whole, Limits(ge=1, le=247)]  # Modbus over serial line 1.02, 2.2
# Three-phase mains: what a connection of this power carries in each conductor at least.
VOLTS_THREE_PHASE = 690


class Operator(Section):
    """Who sells the energy; printed on receipts."""

    name: Text = setting(description="seller's name as on the invoice")
    address: list[Text] = setting(description="lines of the address", min_length=1, max_length=4)
    vat_id: Text = setting(description="VAT identification number")
    helpline: Text = setting(description="telephone number that answers at all hours")
    receipt_url: Annotated[Text, matching(r"[Hh][Tt][Tt][Pp][Ss]://\S+", "https://...")] | None = (
        setting(
            default=None,
            description="address of digital receipts; the session's id is appended",
        )
    )


class Station(Section):
    """Which station this is, and where."""

    id: Id = setting(description="the station's name in records and topics")
    tenant: Id = setting(description="the operator's name in topics")
    place: Annotated[
        Text, matching(r"[A-Z]{2}(-[A-Z0-9]{1,3})?", "an ISO 3166 code such as DE or US-CA")
    ] = setting(description="country whose law applies, ISO 3166, such as DE")
    time_zone: TimeZone = setting(description="IANA time zone of receipts, such as Europe/Berlin")
    languages: list[Language] = setting(
        description="languages of the display, the first is used when none is chosen",
        min_length=1,
    )
    operator: Operator | None = setting(default=None, description="seller on receipts")


class EvseDriver(Section):
    """The charge controller of a connector."""

    driver: Name = setting(description="name of an installed driver, such as phoenix_rtu")
    bus: Text | None = setting(default=None, description="name of a bus below buses:")
    unit: UnitAddress = setting(default=1, description="address on the bus, 1 to 247")
    options: dict[str, Option] = setting(
        default_factory=dict, description="settings of the driver, see its page in docs/"
    )


class MeterDriver(Section):
    """The energy meter of a connector."""

    model: Name = setting(description="name of a model of the catalogue, such as eastron_sdm630")
    bus: Text = setting(description="name of a bus below buses:")
    unit: UnitAddress = setting(default=1, description="address on the bus, 1 to 247")
    serial: SerialNumber | None = setting(
        default=None, description="serial number; another meter is then refused"
    )
    options: dict[str, Option] = setting(
        default_factory=dict, description="settings of the model, see its page in docs/"
    )


class EvsePoint(Section):
    """One connector: controller and meter."""

    id: Id = setting(description="EVSE id, such as DE*ABC*E1")
    max_power_w: Whole = setting(
        description="most the connector can deliver, in W; the stop before the hold is used up"
        " relies on it",
        ge=1,
        le=2_000_000,
    )
    max_current_a: Annotated[Whole, Limits(ge=6, le=3000)] | None = setting(
        default=None, description="current limit given to the controller, in A"
    )
    evse: EvseDriver = setting(description="the charge controller")
    meter: MeterDriver = setting(description="the energy meter")

    @property
    def max_current_ma(self) -> int:
        """The current limit in mA. Without one in the file it is what three phases need for the
        power: the lowest current that could be meant, so never more than the cable stands."""
        if self.max_current_a is not None:
            return self.max_current_a * 1000
        return max(6000, self.max_power_w * 1000 // VOLTS_THREE_PHASE)


class Bus(Section):
    """A line several devices share: serial (RS-485), or a Modbus TCP device or gateway."""

    SERIAL: ClassVar[tuple[str, ...]] = ("baud", "framing")
    schema_also: ClassVar[dict[str, Any]] = {
        "if": {"properties": {"port": {"pattern": f"^{MODBUS_TCP}"}}, "required": ["port"]},
        "then": {"properties": dict.fromkeys((*SERIAL, "transmitter", "echo"), False)},
        "else": {
            "properties": {"baud": {"type": "integer"}, "framing": {"type": "string"}},
            "required": list(SERIAL),
        },
    }
    port: Port = setting(
        description="device path or pyserial URL, such as /dev/energy-bus; tcp://HOST:PORT for a serial"
        " server; modbus-tcp://HOST for Modbus TCP"
    )
    baud: Baud | None = setting(
        default=None, description="bits a second, as set in the devices; not for modbus-tcp://"
    )
    framing: Framing | None = setting(
        default=None,
        description="data bits, parity, stop bits, such as 8N1; not for modbus-tcp://",
    )
    transmitter: Annotated[Literal["adapter", "kernel"], AsText] = setting(
        default="adapter",
        description="what switches the transmitter on and off: the adapter by itself, or the kernel"
        " (TIOCSRS485) where the board's UART has none that does",
    )
    echo: Annotated[Literal["none", "remove"], AsText] = setting(
        default="none",
        description="remove: the adapter returns what is sent; it is compared with that and taken off",
    )

    @classmethod
    def needed_beside(cls, data: Mapping[str, object]) -> Collection[str]:
        return () if _on_network(data) else cls.SERIAL

    @classmethod
    def idle_beside(cls, data: Mapping[str, object]) -> Mapping[str, tuple[str, str]]:
        if not _on_network(data):
            return {}
        seen = "says nothing on a port modbus-tcp://, which is no serial line"
        expected = "take it out; a serial server that passes RTU frames on is tcp://HOST:PORT"
        return dict.fromkeys((*cls.SERIAL, "transmitter", "echo"), (seen, expected))

    @property
    def line(self) -> LineSpec:
        if self.baud is None or self.framing is None:
            return LineSpec(self.port)
        by_kernel, echo = self.transmitter == "kernel", self.echo == "remove"
        return LineSpec(self.port, self.baud, self.framing, by_kernel, echo)


def _on_network(data: Mapping[str, object]) -> bool:
    port = data.get("port")
    return isinstance(port, str) and is_modbus_tcp(port)


class EndOfDay(Section):
    """When a terminal's batch is closed. It is also closed whenever the terminal itself asks for it."""

    at: TimeOfDay | None = setting(
        default=None,
        description="time of day in the station's zone, such as 03:30; none unless given",
    )
    drain_min: Whole = setting(
        default=60,
        description="minutes that running sessions get to end before they are stopped; no new ones begin"
        " meanwhile. Not for terminals that keep their holds",
        ge=0,
        le=1440,
    )


class Reboot(Section):
    """When a terminal restarts by itself."""

    at: TimeOfDay = setting(description="time of day in the station's zone, such as 04:15")
    lasts_min: Whole = setting(
        default=10,
        description="minutes after which it should be back; until then its loss is no fault",
        ge=1,
        le=60,
    )


class TerminalPoint(Section):
    """One card terminal on a line of its own."""

    id: Id = setting(description="our name for the terminal, such as t1")
    protocol: Name = setting(description="name of an installed protocol, such as zvt")
    profile: Name = setting(
        default="generic", description="the terminal's make, such as feig_cvend"
    )
    port: Port = setting(description="device path or pyserial URL, such as /dev/payment-terminal")
    baud: Baud = setting(description="bits a second, as set in the terminal")
    framing: Framing = setting(description="data bits, parity, stop bits, such as 8N2")
    password: SecretSource = setting(
        description="where the terminal's password is, {credential: name} or {file: path};"
        " there is no default"
    )
    currency: Currency = setting(description="ISO 4217 code, such as EUR; there is no default")
    serves: list[Id] = setting(
        description="ids of the connectors it takes payment for", min_length=1
    )
    end_of_day: EndOfDay = setting(
        default_factory=EndOfDay, description="when the terminal's batch is closed"
    )
    reboot: Reboot | None = setting(
        default=None, description="when the terminal restarts by itself"
    )
    foreign_holds: Annotated[Literal["report", "release"], AsText] = setting(
        default="report",
        description="open holds that no session of this station made: report them, or release them where"
        " nobody else uses this terminal",
    )
    holds_most: Annotated[Whole, Limits(ge=1, le=1000)] | None = setting(
        default=None,
        description="open holds the terminal keeps at once; a further driver is told before the terminal is"
        " asked. None unless given: the terminal's own refusal is the limit",
    )
    options: dict[str, Option] = setting(
        default_factory=dict, description="settings of the protocol, see its page in docs/"
    )

    @property
    def line(self) -> LineSpec:
        return LineSpec(self.port, self.baud, self.framing)


class Payment(Section):
    """How a session starts, stops and is paid."""

    hold: Hold = setting(description="what is reserved on the card")
    start: Annotated[Literal["tap", "plug"], AsText] = setting(
        default="tap", description="what a driver does first; the other order is understood as well"
    )
    stop: list[Annotated[Literal["tap", "unplug"], AsText]] = setting(
        default=["tap", "unplug"], description="what ends a session", min_length=1
    )
    connection_timeout_s: Whole = setting(
        default=120, description="after a tap the cable must be in within this time", ge=10, le=3600
    )
    on_sigterm: Annotated[Literal["end", "hand_over"], AsText] = setting(
        default="end",
        description="when the service stops: end sessions, or let the next start continue",
    )
    resumption_timeout_s: Whole = setting(
        default=300,
        description="after an interruption longer than this a session is ended, not resumed",
        ge=0,
        le=86_400,
    )
    card_poll_s: Whole = setting(
        default=5, description="longest single wait for a card", ge=1, le=15
    )
    meter_lost_s: Whole = setting(
        default=60, description="energy stops when the meter was silent for this long", ge=5, le=600
    )


class TariffRef(Section):
    """Where the prices are."""

    file: FilePath = setting(description="tariff file; relative to this file")


class Records(Section):
    """What the station keeps."""

    keep_days: Whole = setting(
        default=400,
        description="sessions are kept this long after the back end has acknowledged their records",
        ge=1,
        le=36_500,
    )


class Uplink(Section):
    """Where records go. Without this section they are kept on the station."""

    url: BrokerUrl = setting(description="broker: mqtts://host:port, or mqtt:// without encryption")
    root: Annotated[
        Text, matching(r"[^\s/#+$][^\s#+]*(?<!/)", "topic levels without wildcards or blanks")
    ] = setting(default="voltill", description="first level of all topics")
    ca: FilePath | None = setting(
        default=None,
        description="certificate of the broker's authority; without it the system's are used",
    )
    certificate: FilePath | None = setting(
        default=None, description="the station's client certificate"
    )
    key: SecretSource | None = setting(
        default=None, description="the client certificate's private key"
    )
    trust: list[FilePath] = setting(
        description="public keys whose acknowledgements count", min_length=1
    )
    protocol: Annotated[Literal["5", "3.1.1"], AsText] = setting(
        default="5", description="MQTT version"
    )
    keep_alive_s: Whole = setting(default=30, description="MQTT keep alive", ge=5, le=600)
    ack_timeout_s: Whole = setting(
        default=60,
        description="records without acknowledgement go out again after this",
        ge=5,
        le=3600,
    )

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port of the URL, else the one registered for MQTT (8883 with TLS)."""
        return urlsplit(self.url).port or (8883 if self.tls else 1883)

    @property
    def tls(self) -> bool:
        return self.url.startswith("mqtts://")


class Settings(Section):
    """voltill station configuration."""

    station: Station = setting(description="which station this is, and where")
    evses: list[EvsePoint] = setting(description="connectors", min_length=1, max_length=32)
    buses: dict[NameKey, Bus] = setting(default_factory=dict, description="shared serial lines")
    terminals: list[TerminalPoint] = setting(
        description="card terminals", min_length=1, max_length=8
    )
    payment: Payment = setting(description="how a session is paid")
    tariff: TariffRef = setting(description="where the prices are")
    keys: Keys = setting(description="the station's own keys")
    records: Records = setting(default_factory=Records, description="what the station keeps")
    uplink: Uplink | None = setting(default=None, description="where records go")

    def hold(self, terminal: TerminalPoint, tariff: Tariff) -> Money:
        """The amount to reserve at a terminal, in its currency. Computed, it is what the strongest of its
        connectors is expected to cost: which one is meant may not be known when the card is tapped. Raises
        ValueError where cross_check has something to say about it."""
        fixed = self.payment.hold.fixed
        if fixed is not None:
            return Money.parse(f"{fixed:f}", terminal.currency)
        power_w = max((p.max_power_w for p in self.evses if p.id in terminal.serves), default=0)
        return self.payment.hold.computed(tariff, power_w, terminal.currency)

    def raising(self, terminal: TerminalPoint) -> tuple[Money, Money] | None:
        """(what is added each time, the most that is held) at a terminal; None when holds stay as
        they are."""
        hold = self.payment.hold
        if hold.strategy != "increment" or hold.step is None or hold.most is None:
            return None
        step, most = (Money.parse(f"{x:f}", terminal.currency) for x in (hold.step, hold.most))
        return step, most

    def evse(self, evse_id: str) -> EvsePoint:
        return next(point for point in self.evses if point.id == evse_id)
