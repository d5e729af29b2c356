"""Where a demo lives: the fixed place that config/demo.yaml names, or another one beside it."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hil.rig import Ports, RigError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config" / "demo.yaml"
TARIFF = ROOT / "config" / "tariffs" / "adhoc.yaml"
DIRECTORY = ROOT / "run" / "demo"
# What config/demo.yaml says; the agent reads it unchanged.
PROXY_PORT, BROKER_PORT = 18830, 18831
DIRECTORY_TEXT, TARIFF_TEXT = "../run/demo/", "tariffs/adhoc.yaml"


@dataclass(frozen=True, slots=True)
class Place:
    """`proxy_port` is where the agent finds its broker, the next one up is the broker's own."""

    directory: Path = DIRECTORY
    proxy_port: int = PROXY_PORT

    @property
    def fixed(self) -> bool:
        return self == Place()

    @property
    def ports(self) -> Ports:
        return Ports(broker=self.proxy_port + 1, proxy=self.proxy_port)

    @property
    def config(self) -> Path:
        return CONFIG if self.fixed else self.directory / "demo.yaml"

    def write_config(self) -> None:
        """Elsewhere than in the fixed place the agent needs a copy with other paths and ports."""
        if self.fixed:
            return
        text = CONFIG.read_text()
        for old, new in (
            (DIRECTORY_TEXT, f"{self.directory}/"),
            (TARIFF_TEXT, str(TARIFF)),
            (f":{PROXY_PORT}", f":{self.proxy_port}"),
        ):
            if old not in text:
                raise RigError(
                    f"{CONFIG} does not say {old} any more; hil/demo/place.py expects it"
                )
            text = text.replace(old, new)
        self.config.write_text(text)

    def check_ports(self) -> None:
        """Raises RigError when something else listens there."""
        for port in (self.ports.proxy, self.ports.broker):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise RigError(
                        f"port {port} of this machine is taken ({error.strerror}). End what listens"
                        f" there (ss -ltnp 'sport = :{port}' names it), or choose others:"
                        f" ./dev demo --ports 28830"
                    ) from None


@contextmanager
def workplace(place: Place, keep: bool) -> Iterator[None]:
    """The directory, empty, for one demo at a time; removed at the end."""
    directory = place.directory
    made = [path for path in (directory.parent, directory) if not path.exists()]
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise RigError(f"another demo runs in {directory}; end it first") from None
    try:
        place.check_ports()
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        yield
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
            if directory.parent in made and not any(directory.parent.iterdir()):
                directory.parent.rmdir()
        os.close(lock)
