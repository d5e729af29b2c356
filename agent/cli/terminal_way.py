"""The two ways to a card terminal: through the running service, which has its port, or straight to it
while the service is stopped."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import click

from agent.cli.common import (
    BAD_CONFIG,
    config_option,
    fail,
    json_option,
    not_allowed,
    state_option,
)
from agent.ports import DeviceUnavailable, LineSpec, Terminal, TerminalIdentity, TerminalSpec
from agent.station.control import ControlRefused, ask, control_path

if TYPE_CHECKING:
    from agent.ledger import AsyncLedger
    from agent.settings.models import TerminalPoint
    from agent.settings.secrets import Secret

# Without --port the configuration says them; these are what most terminals leave the factory with.
BAUD, FRAMING, PROTOCOL, PROFILE = 115_200, "8N2", "zvt", "generic"

Answer: TypeAlias = dict[str, Any]
Work: TypeAlias = "Callable[[Bench], Awaitable[Answer]]"
Lost: TypeAlias = "Callable[[Place, DeviceUnavailable], Answer]"


@dataclass(frozen=True, slots=True)
class Given:
    """The options that say which terminal is meant."""

    port: str | None
    baud: int | None
    framing: str | None
    protocol: str | None
    profile: str | None
    password_file: Path | None
    currency: str | None
    terminal: str | None
    config: Path
    state: Path


@dataclass(frozen=True, slots=True)
class Place:
    """Which terminal it is. `name` is ours for it, empty where it is in no configuration."""

    name: str
    protocol: str
    spec: TerminalSpec


@dataclass(frozen=True, slots=True)
class Bench:
    """A terminal that this command has to itself; `ledger` is None where there is none."""

    place: Place
    terminal: Terminal
    identity: TerminalIdentity
    ledger: AsyncLedger | None


_OPTIONS = (
    click.option("--port", help="Straight to the terminal: device path, or socket://HOST:PORT."),
    click.option("--baud", type=click.IntRange(min=1), help=f"With --port. [default: {BAUD}]"),
    click.option("--framing", help=f"With --port. [default: {FRAMING}]"),
    click.option("--protocol", help=f"With --port. [default: {PROTOCOL}]"),
    click.option("--profile", help=f"With --port: the terminal's make. [default: {PROFILE}]"),
    click.option(
        "--password-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with the terminal's password; there is no default.",
    ),
    click.option("--currency", help="With --port: such as EUR; there is no default."),
    click.option("--terminal", metavar="ID", help="Which one, where the station has several."),
    config_option,
    state_option,
    json_option,
)


def which_terminal(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that say which terminal is meant; `command` gets them as one `Given`."""

    @wraps(command)
    def called(**options: Any) -> None:
        own = {name: options.pop(name) for name in Given.__dataclass_fields__}
        command(_checked(Given(**own)), **options)

    for option in reversed(_OPTIONS):
        called = option(called)
    return called


def _checked(given: Given) -> Given:
    if given.port is None:
        of_port = ("baud", "framing", "protocol", "profile", "currency")
        alone = [f"--{name}" for name in of_port if getattr(given, name) is not None]
        if alone:
            raise click.UsageError(
                f"{', '.join(alone)} without --port; without it the configuration says them"
            )
        return given
    if given.terminal is not None:
        raise click.UsageError("--port and --terminal: give one of them")
    if given.password_file is None or given.currency is None:
        raise click.UsageError("--port needs --password-file and --currency; they have no default")
    from agent.values.money import CURRENCIES

    if given.currency not in CURRENCIES:
        raise click.UsageError(f"--currency {given.currency}; expected a code such as EUR")
    return given


# --- through the service --------------------------------------------------------------------------


def at_terminal(
    given: Given,
    do: str,
    work: Work,
    *,
    answer_s: float = 0.0,
    prompt: str = "",
    lost: Lost | None = None,
    **request: Any,
) -> Answer:
    """Ask the running service to `do`, or, when none runs, do `work` here. `answer_s`: how long the
    answer may take on top of a usual one. `prompt`: said when it begins. `lost`: the answer where the
    terminal gives none; without it that is an error."""
    if given.port is None:
        if prompt and control_path(given.state).exists():
            click.echo(prompt, err=True)
        found = _through_service(given, do, answer_s, request)
        if found is not None:
            return found
        return _alone(given.state, work, prompt, lost, _configured(given))
    # The ledger of a service that runs is closed to others, and knows nothing of a port that is none of its.
    state = None if _leaves_to_service(given) else given.state
    return _alone(state, work, prompt, lost, _named(given))


def _through_service(given: Given, do: str, answer_s: float, request: Answer) -> Answer | None:
    """None when no service runs."""
    from agent.station.control import ASK_TIMEOUT_S

    path, limit_s = control_path(given.state), ASK_TIMEOUT_S + answer_s
    try:
        found: Answer = ask(
            path, f"terminal_{do}", answer_s=limit_s, terminal=given.terminal, **request
        )
    except ConnectionError:
        return None
    except ControlRefused as error:
        if str(error).startswith("STA-032"):
            raise click.UsageError(str(error)) from None
        raise fail(str(error)) from None
    except PermissionError:
        raise fail(not_allowed(given.state)) from None
    return found


def _leaves_to_service(given: Given) -> bool:
    """Whether a service runs, to which the port does not belong. One that does is not opened a second
    time: a lock keeps serial lines apart, but a terminal on a network would leave the service for the
    newcomer in the middle of a payment."""
    try:
        terminals = ask(control_path(given.state), "status")["terminals"]
    except ConnectionError:
        return False
    except ControlRefused as error:
        raise fail(str(error)) from None
    except PermissionError:
        raise fail(not_allowed(given.state)) from None
    held = next((t["id"] for t in terminals if _same(t["port"], given.port or "")), None)
    if held is not None:
        raise fail(
            f"STA-033: {given.port} belongs to the running service as terminal {held}; go through it"
            f" with --terminal {held} in place of --port, or stop the service first"
        )
    return True


def _same(one: str, other: str) -> bool:
    """Whether two ways of writing a port may mean one terminal; in doubt they do."""
    there, here = _address(one), _address(other)
    if there is not None and here is not None:
        (host, port), (other_host, other_port) = there, here
        # Without a port number it is that of the terminal's profile, which may be the same.
        alike = None in (port, other_port) or port == other_port
        return alike and bool(_addresses(host) & _addresses(other_host))
    if "://" in one or "://" in other:
        return one == other
    return Path(one).resolve() == Path(other).resolve()


def _address(port: str) -> tuple[str, int | None] | None:
    """Host and port number of TCP, by whichever of its two names."""
    scheme, _, rest = port.partition("://")
    if scheme not in ("tcp", "socket") or not rest:
        return None
    try:
        parts = urlsplit(port)
        return (parts.hostname or "", parts.port)
    except ValueError:
        return None


def _addresses(host: str) -> set[str]:
    """The name, and what it stands for where that can be found out."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        found = set()
    return {host, *found}


# --- straight to it -------------------------------------------------------------------------------


def _named(given: Given) -> Place:
    """From the options alone."""
    assert given.port is not None
    line = LineSpec(given.port, given.baud or BAUD, given.framing or FRAMING)
    spec = TerminalSpec(
        id=given.port,
        line=line,
        password=_password(given, None).reveal(),
        currency=given.currency or "",
        profile=given.profile or PROFILE,
    )
    return Place("", given.protocol or PROTOCOL, spec)


def _configured(given: Given) -> Place:
    """From the configuration."""
    from agent.cli.settings_file import settings_or_exit
    from agent.station.build import terminal_spec

    points = settings_or_exit(given.config).terminals
    if given.terminal is None and len(points) == 1:
        point = points[0]
    else:
        named = {point.id: point for point in points}
        if given.terminal not in named:
            seen = (
                "several terminals" if given.terminal is None else f"no terminal {given.terminal}"
            )
            known = ", ".join(named)
            raise click.UsageError(
                f"STA-032: {seen} in {given.config}; expected --terminal with one of {known}"
            )
        point = named[given.terminal]
    return Place(point.id, point.protocol, terminal_spec(point, _password(given, point)))


@dataclass(frozen=True, slots=True)
class _File:
    file: Path | None
    credential: str | None = None


def _password(given: Given, point: TerminalPoint | None) -> Secret:
    from agent.settings.secrets import SecretUnavailable, read_secret

    try:
        if point is None or given.password_file is not None:
            return read_secret(_File(given.password_file))
        return read_secret(point.password)
    except SecretUnavailable as error:
        other = "" if given.password_file else "; or give --password-file"
        raise fail(f"{error}{other}", BAD_CONFIG) from None


def _alone(state: Path | None, work: Work, prompt: str, lost: Lost | None, place: Place) -> Answer:
    """`state`: the directory with the ledger, where there may be one."""
    from agent.ledger import LedgerError
    from agent.ports import DriverEnv
    from agent.station.clock import SystemClock
    from agent.station.day_end import DayEndRefused
    from agent.station.drivers import load

    env = DriverEnv(SystemClock().boot_ms, lambda *_, **__: None)
    try:
        terminal: Terminal = load("terminal", place.protocol)(place.spec, env)
    except (DeviceUnavailable, ValueError) as error:
        raise fail(str(error)) from None  # no such driver, or settings that it refuses
    try:
        return asyncio.run(_at_bench(state, work, prompt, place, terminal))
    except DeviceUnavailable as error:
        if lost is None:
            raise fail(str(error)) from None
        return lost(place, error)
    except (DayEndRefused, LedgerError) as error:
        raise fail(str(error)) from None


async def _at_bench(
    state: Path | None, work: Work, prompt: str, place: Place, terminal: Terminal
) -> Answer:
    async with _ledger(state) as ledger:
        try:
            identity = await terminal.connect()
            if prompt:
                click.echo(prompt, err=True)
            return await work(Bench(place, terminal, identity, ledger))
        finally:
            await terminal.close()


@asynccontextmanager
async def _ledger(state: Path | None) -> AsyncIterator[AsyncLedger | None]:
    """The stopped station's ledger, which keeps the service from starting meanwhile; None where there
    is none, as on a technician's own machine. Raises LedgerError."""
    from agent.ledger import AsyncLedger, LedgerMissing

    if state is None:
        yield None
        return
    path = state / "ledger.db"
    try:
        there = path.exists()
    except PermissionError:
        raise LedgerMissing(
            "LED-002", f"{path} is closed to this user; run as the service's"
        ) from None
    if not there:
        yield None
        return
    ledger = await AsyncLedger.open(path, None, create=False)
    try:
        yield ledger
    finally:
        await ledger.close()
