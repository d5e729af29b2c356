"""From settings to parts: drivers, connectors, desks, keys and the uplink, each made once."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from agent.ledger import AsyncLedger
from agent.ports import DeviceUnavailable, DriverEnv, Evse, EvseSpec, MeterSpec, TerminalSpec
from agent.session.deadlines import HOUR_MS, MINUTE_MS, Policy, scheme_key
from agent.settings.models import EvsePoint, Settings, TerminalPoint
from agent.settings.secrets import Secret, read_secret, secret_path
from agent.station.charge_point import ChargePoint, PointRules
from agent.station.clock import SystemClock
from agent.station.closing import DayRules
from agent.station.context import Context
from agent.station.desk import Desk
from agent.station.drivers import load
from agent.station.keeper import Log
from agent.station.recorder import Recorder
from agent.station.screen import Screen
from agent.station.signed_readings import TRIAL_SERIAL, SignedReadings
from agent.station.signing import Signing
from agent.station.taps import DeskRules
from agent.station.top_up import TopUpRules
from agent.uplink import Uplink, UplinkConfig, UplinkTiming
from agent.uplink.drain import DrainTiming

CARD_KEY_BYTES = 32
# A car that was released and draws nothing for this long is not going to; the hold is then freed.
START_TIMEOUT_MS = 15 * 60_000


class DriverRefused(Exception):
    """A driver does not accept its settings; the text is the driver's own, with its id."""


def made(kind: str, name: str, *given: Any) -> Any:
    """What the factory of a driver makes of its settings. Raises DriverRefused."""
    try:
        return load(kind, name)(*given)
    except ValueError as error:
        raise DriverRefused(str(error)) from error


@dataclass(frozen=True, slots=True)
class Parts:
    buses: Mapping[str, Any]
    points: Mapping[str, ChargePoint]
    desks: Mapping[str, Desk]
    uplink: Uplink | None


def zone_of(settings: Settings) -> ZoneInfo:
    return ZoneInfo(settings.station.time_zone)


def recorder(
    settings: Settings, context: Context, ledger: AsyncLedger, signing: Signing
) -> Recorder:
    return Recorder(ledger, context.keeper, signing, _signed_readings(settings, context))


def _signed_readings(settings: Settings, context: Context) -> SignedReadings:
    """Tried once: whoever reads the log knows at the start what records will lack."""
    from importlib.metadata import version

    at = settings.station
    made = SignedReadings(at.id, context.zone, version("voltill"), context.tariffs, context.log)
    serials = {point.id: point.meter.serial or TRIAL_SERIAL for point in settings.evses}
    made.look(serials, context.tariff, context.clock.stamp())
    return made


def policy(settings: Settings) -> Policy:
    return Policy(
        connection_timeout_ms=settings.payment.connection_timeout_s * 1000,
        start_timeout_ms=START_TIMEOUT_MS,
        hold_valid_ms=settings.payment.hold.valid_h * HOUR_MS,
        hold_valid_by_scheme=_valid_by_scheme(settings.payment.hold.valid_h_by_scheme),
    )


def _valid_by_scheme(hours: Mapping[str, int]) -> dict[str, int]:
    """In ms. Of two spellings of one scheme the shorter time counts."""
    found: dict[str, int] = {}
    for name, each in hours.items():
        key = scheme_key(name)
        found[key] = min(each * HOUR_MS, found.get(key, each * HOUR_MS))
    return found


def parts(
    settings: Settings, card_key: Path, context: Context, ledger: AsyncLedger, idle_poll_s: float
) -> Parts:
    """Opens no port: drivers do that when they are first used. Raises SecretUnavailable,
    DeviceUnavailable (a driver that is not installed or refuses its options)."""
    env = DriverEnv(context.clock.boot_ms, context.log)
    buses = open_buses(settings, env)
    points = {p.id: _point(p, settings, buses, env, context, idle_poll_s) for p in settings.evses}
    desks = {
        t.id: _desk(t, settings, points, env, card_key, ledger, context) for t in settings.terminals
    }
    return Parts(buses, points, desks, make_uplink(settings, ledger, context))


def open_buses(settings: Settings, env: DriverEnv) -> dict[str, Any]:
    if not settings.buses:
        return {}
    open_bus = load("bus", "rtu")
    return {name: open_bus(bus.line, env) for name, bus in settings.buses.items()}


def open_evse(point: EvsePoint, buses: Mapping[str, Any], env: DriverEnv) -> Evse:
    spec = EvseSpec(point.id, point.evse.unit, point.evse.options)
    bus = None if point.evse.bus is None else buses[point.evse.bus]
    evse: Evse = made("evse", point.evse.driver, spec, bus, env)
    return evse


def _point(
    point: EvsePoint,
    settings: Settings,
    buses: Mapping[str, Any],
    env: DriverEnv,
    context: Context,
    idle_poll_s: float,
) -> ChargePoint:
    options = {"rated_power_w": point.max_power_w} | dict(point.meter.options)
    spec = MeterSpec(point.meter.model, point.meter.unit, point.meter.serial, options)
    meter = made("meter", "modbus_rtu", spec, buses[point.meter.bus], env)
    rules = PointRules(
        max_power_w=point.max_power_w,
        max_current_ma=point.max_current_ma,
        meter_lost_ms=settings.payment.meter_lost_s * 1000,
        resumption_timeout_ms=settings.payment.resumption_timeout_s * 1000,
        top_up=_top_ups(settings),
        idle_poll_s=idle_poll_s,
    )
    return ChargePoint(point.id, open_evse(point, buses, env), meter, rules, context)


def _top_ups(settings: Settings) -> dict[str, TopUpRules]:
    found = {}
    for terminal in settings.terminals:
        raising = settings.raising(terminal)
        if raising is not None:
            step, most = (money.amount_minor for money in raising)
            found[terminal.id] = TopUpRules(step, most, settings.payment.hold.raises)
    return found


def _desk(
    terminal: TerminalPoint,
    settings: Settings,
    points: Mapping[str, ChargePoint],
    env: DriverEnv,
    card_key: Path,
    ledger: AsyncLedger,
    context: Context,
) -> Desk:
    spec = terminal_spec(terminal, read_secret(terminal.password))
    hold = settings.hold(terminal, context.tariff)
    language = settings.station.languages[0]
    operator = settings.station.operator
    screen = Screen(
        context,
        hold,
        language,
        stop_by_tap="tap" in settings.payment.stop,
        plug_first=settings.payment.start == "plug",
        helpline="" if operator is None else operator.helpline,
    )
    rules = DeskRules(
        hold=hold,
        stop_by_tap="tap" in settings.payment.stop,
        card_poll_s=settings.payment.card_poll_s,
        language=language,
        accept_partial=settings.payment.hold.partial == "accept",
        release_foreign=terminal.foreign_holds == "release",
        holds_most=terminal.holds_most,
    )
    desk = Desk(
        terminal.id,
        made("terminal", terminal.protocol, spec, env),
        {name: points[name] for name in terminal.serves},
        rules,
        screen,
        station_card_key(card_key),
        ledger,
        _day_rules(terminal, settings),
        context,
    )
    for point in desk.points.values():
        point.serve(desk.id, desk.refresh)
    return desk


def _day_rules(terminal: TerminalPoint, settings: Settings) -> DayRules:
    day, reboot = terminal.end_of_day, terminal.reboot
    return DayRules(
        zone=zone_of(settings),
        drain_ms=day.drain_min * MINUTE_MS,
        end_at=day.at,
        reboot_at=None if reboot is None else reboot.at,
        reboot_ms=0 if reboot is None else reboot.lasts_min * MINUTE_MS,
    )


def terminal_spec(terminal: TerminalPoint, password: Secret) -> TerminalSpec:
    return TerminalSpec(
        id=terminal.id,
        line=terminal.line,
        password=password.reveal(),
        currency=terminal.currency,
        profile=terminal.profile,
        options=terminal.options,
    )


def make_uplink(settings: Settings, ledger: AsyncLedger, context: Context) -> Uplink | None:
    """None when the station keeps its records for itself."""
    from importlib.metadata import version

    at = settings.uplink
    if at is None:
        return None
    config = UplinkConfig(
        url=at.url,
        root=at.root,
        tenant=settings.station.tenant,
        station=settings.station.id,
        trust=tuple(at.trust),
        ca=at.ca,
        certificate=at.certificate,
        key=None if at.key is None else secret_path(at.key),
        protocol=at.protocol,
        keep_alive_s=at.keep_alive_s,
        version=version("voltill"),
        timing=UplinkTiming(drain=DrainTiming(ack_timeout=at.ack_timeout_s * 1000)),
    )
    clock = context.clock
    return Uplink(
        config,
        ledger,
        boot_ms=clock.boot_ms,
        now=clock.stamp,
        log=context.log,
        rng=random.Random(),
    )


def station_card_key(path: Path) -> bytes:
    """The key that turns card tokens into codes nobody else can make; made at the first start."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_bytes(CARD_KEY_BYTES)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as f:
            f.write(key)
            f.flush()
            os.fsync(f.fileno())
        return key


async def withdraw_all(
    settings: Settings, log: Log, bound_s: float, hand_over: bool
) -> tuple[dict[str, str], list[str]]:
    """Withdraw every release without any session and without any secret: for the outside hand.
    Returns what failed within `bound_s`, and with `hand_over` the connectors that were left alone
    because their controller withdraws by itself. A dead bus does not keep the others waiting."""
    env = DriverEnv(SystemClock().boot_ms, log)
    buses = open_buses(settings, env)
    failed: dict[str, str] = {}

    async def withdraw(evse_id: str, evse: Evse) -> None:
        try:
            async with asyncio.timeout(bound_s):
                await evse.withdraw()
        except TimeoutError:
            failed[evse_id] = f"STA-024: not withdrawn within {bound_s:.0f} s"
        except DeviceUnavailable as error:
            failed[evse_id] = str(error)

    try:
        evses = {point.id: open_evse(point, buses, env) for point in settings.evses}
        left = [name for name, e in evses.items() if hand_over and e.abilities.failsafe_s]
        taken = [withdraw(name, evse) for name, evse in evses.items() if name not in left]
        await asyncio.gather(*taken)
    finally:
        for bus in buses.values():
            await bus.close()
    return failed, left
