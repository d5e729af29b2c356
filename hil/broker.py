"""An MQTT broker for the demo and the tests: a real one where it can be had, on a loopback port of its own.

Three ways, in this order: mosquitto as installed; mosquitto unpacked from Debian's packages without root;
amqtt, pure Python, in a virtual environment of its own (MQTT 3.1.1 only). Whoever starts one can say which.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from hil.common.tied import tied
from hil.debian import DebianError, unpack

WAYS = ("installed", "debian", "amqtt")
MOSQUITTO = "usr/sbin/mosquitto"
SBIN = "/usr/sbin"
"""Where Debian puts mosquitto; an ordinary user's PATH lacks it."""

READY_TIMEOUT_S = 20.0
"""mosquitto listens within milliseconds; amqtt imports for about a second on a fast machine."""

STOP_TIMEOUT_S = 5.0
"""mosquitto writes its retained messages on SIGTERM; after this it is killed."""

SETUP_TIMEOUT_S = 300.0
PROBE_TIMEOUT_S = 10.0
POLL_S = 0.01
LOG_TAIL_LINES = 8
DEV_SCRIPT = Path(__file__).resolve().parents[1] / "dev"


class BrokerError(Exception):
    """No broker could be had or started; the text names every way that was tried and why it failed."""


@dataclass(frozen=True)
class Tls:
    """Files of a TLS listener (PEM). With `client_certificates`, clients must show one that `ca` signed."""

    ca: Path
    certificate: Path
    key: Path
    client_certificates: bool = True


@dataclass(frozen=True)
class Broker:
    """A broker that can be started: `name` and `origin` are for people, `mqtt5` for programs."""

    name: str
    version: str
    mqtt5: bool
    origin: str
    _command: tuple[str, ...]
    _configure: Callable[[int, Path, Tls | None], str]
    _environment: dict[str, str] = field(default_factory=dict)

    def start(self, port: int, directory: Path, tls: Tls | None = None) -> "BrokerProcess":
        """Start on 127.0.0.1:`port`; configuration, log and stored messages lie in `directory`.

        Returns when connections are accepted. Raises BrokerError with the end of the log when it does not.
        """
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "broker.conf"
        config.write_text(self._configure(port, directory.absolute(), tls))
        return BrokerProcess(self, [*self._command, str(config)], port, directory)

    def __str__(self) -> str:
        protocols = "MQTT 5 and 3.1.1" if self.mqtt5 else "MQTT 3.1.1"
        return f"{self.name} {self.version} ({self.origin}; {protocols})"


class BrokerProcess:
    """A running broker. Also a context manager, which stops it."""

    def __init__(self, broker: Broker, command: Sequence[str], port: int, directory: Path) -> None:
        self.broker = broker
        self.port = port
        self.log = directory / "broker.log"
        self._command = list(command)
        self._process = self._launch()

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End it in order (SIGTERM): retained and queued messages are kept where the broker can."""
        if self.running():
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        if self.running():
            self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Stop it if it still runs and start it again on the same port with the same files."""
        self.stop()
        self._process = self._launch()

    def _launch(self) -> subprocess.Popen[bytes]:
        if _accepts(self.port):
            raise BrokerError(
                f"port {self.port} is taken: something already listens on 127.0.0.1:{self.port}"
            )
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                tied(self._command),
                env={**os.environ, **self.broker._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # a Ctrl-C at the terminal is for who started it, not for the broker
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _accepts(self.port):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                tail = "\n".join(
                    self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
                )
                raise BrokerError(f"{self.broker.name} did not start on port {self.port}:\n{tail}")
            time.sleep(POLL_S)
        return process

    def __enter__(self) -> "BrokerProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def find_broker(cache: Path, ways: Sequence[str] = WAYS) -> Broker:
    """The first broker of `ways` that works here. `cache` keeps what had to be unpacked.

    Raises BrokerError with one line for each way that failed.
    """
    finders: dict[str, Callable[[Path], Broker]] = {
        "installed": _installed,
        "debian": _from_debian,
        "amqtt": _amqtt,
    }
    failures = []
    for way in ways:
        try:
            return finders[way](cache)
        except (BrokerError, DebianError) as error:
            failures.append(f"  {way}: {error}")
    reasons = "\n".join(failures)
    raise BrokerError(
        f"no MQTT broker could be had. As root: apt-get install -y mosquitto. Tried:\n{reasons}"
    )


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


# --- mosquitto ---


def _installed(_cache: Path) -> Broker:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), SBIN])
    program = shutil.which("mosquitto", path=path)
    if program is None:
        raise BrokerError(f"mosquitto is neither on PATH nor in {SBIN}")
    return _mosquitto(program, "installed here", {})


def _from_debian(cache: Path) -> Broker:
    tree = unpack(["mosquitto"], cache, MOSQUITTO)
    program = tree / MOSQUITTO
    libraries = [str(folder) for folder in tree.glob("**/lib/*-linux-gnu*")]
    environment = {"LD_LIBRARY_PATH": os.pathsep.join(sorted(libraries))}
    return _mosquitto(str(program), "unpacked from Debian's package", environment)


def _mosquitto(program: str, origin: str, environment: dict[str, str]) -> Broker:
    try:
        help_text = subprocess.run(
            [program, "-h"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokerError(f"{program} does not run: {error}") from error
    found = re.search(r"mosquitto version (\S+)", help_text.stdout)
    if found is None:
        seen = (help_text.stderr or help_text.stdout).strip() or "nothing"
        raise BrokerError(f"{program} -h did not name its version, it printed: {seen}")
    return Broker(
        "mosquitto", found[1], True, origin, (program, "-c"), _mosquitto_config, environment
    )


def _mosquitto_config(port: int, directory: Path, tls: Tls | None) -> str:
    lines = [
        "per_listener_settings false",
        "allow_anonymous true",
        # With Nagle's algorithm every acknowledgement waits for the peer's delayed ACK.
        "set_tcp_nodelay true",
        "persistence true",
        f"persistence_location {directory}/",
        "log_dest stderr",
        "log_timestamp_format %H:%M:%S",
        f"listener {port} 127.0.0.1",
    ]
    if os.geteuid() == 0:
        # Otherwise it changes to its own user, who cannot write into a private folder.
        lines.insert(0, "user root")
    if tls is not None:
        lines += [
            f"cafile {tls.ca.absolute()}",
            f"certfile {tls.certificate.absolute()}",
            f"keyfile {tls.key.absolute()}",
            f"require_certificate {'true' if tls.client_certificates else 'false'}",
        ]
    return "\n".join(lines) + "\n"


# --- amqtt ---


def _amqtt(_cache: Path) -> Broker:
    if not DEV_SCRIPT.is_file():
        raise BrokerError("amqtt's environment is built by ./dev, which is only there in a clone")
    done = subprocess.run(
        [sys.executable, str(DEV_SCRIPT), "setup", "amqtt"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SETUP_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BrokerError(f"./dev setup amqtt failed: {done.stderr.strip() or done.stdout.strip()}")
    # Its last line is its interface: "environment amqtt is complete: PATH".
    folder = Path(done.stdout.strip().splitlines()[-1].partition(": ")[2])
    python = folder / "bin" / "python"
    probe = "from importlib.metadata import version; print(version('amqtt'))"
    version = subprocess.run(
        [python, "-c", probe], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not version:
        raise BrokerError(
            f"amqtt is not in {folder}: remove that folder, it is rebuilt at the next start"
        )
    command = (str(folder / "bin" / "amqtt"), "-c")
    return Broker(
        "amqtt", version, False, "from PyPI, in an environment of its own", command, _amqtt_config
    )


def _amqtt_config(port: int, _directory: Path, tls: Tls | None) -> str:
    lines = ["listeners:", "  default:", "    type: tcp", f"    bind: 127.0.0.1:{port}"]
    if tls is not None:
        lines += [
            "    ssl: true",
            f"    cafile: {tls.ca.absolute()}",
            f"    certfile: {tls.certificate.absolute()}",
            f"    keyfile: {tls.key.absolute()}",
        ]
    lines += [
        "plugins:",
        "  amqtt.plugins.authentication.AnonymousAuthPlugin:",
        "    allow_anonymous: true",
    ]
    return "\n".join(lines) + "\n"
