"""A real mosquitto on a free loopback port, for one test.

    with Mosquitto(tmp_path) as broker:
        broker.url                       # mqtt://127.0.0.1:PORT, or mqtts:// with tls=True
        broker.kill(); broker.start()    # the same port again; nothing is persisted

With `tls=True` a private authority is made for the occasion: `broker.ca`, and `broker.client(name)` gives
a client certificate. Skips the test when mosquitto is not installed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from hil.certificates import Authority
from hil.common.ports import free_port

HOST = "127.0.0.1"
START_S = 10.0


def find_mosquitto() -> str | None:
    """Debian puts it in /usr/sbin, which is not on a user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Mosquitto:
    """`config`: further lines for mosquitto.conf. `require_certificate`: clients need one (with tls)."""

    def __init__(
        self,
        folder: Path,
        *,
        tls: bool = False,
        require_certificate: bool = False,
        config: str = "",
    ) -> None:
        binary = find_mosquitto()
        if binary is None:
            pytest.skip("needs mosquitto: apt-get install mosquitto")
        self._binary = binary
        self._folder = folder / "mosquitto"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.tls = tls
        self._authority = Authority(self._folder) if tls else None
        self._config = self._write_config(require_certificate, config)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self._folder / "log"

    @property
    def url(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{HOST}:{self.port}"

    @property
    def ca(self) -> Path:
        assert self._authority is not None, "made with tls=False"
        return self._authority.certificate

    def client(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a client whose common name is `name`."""
        assert self._authority is not None, "made with tls=False"
        return self._authority.issue(name, server=False)

    def server(self) -> tuple[Path, Path]:
        """Certificate and key of a broker on this host."""
        assert self._authority is not None, "made with tls=False"
        return self._authority.issue("broker", server=True)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        assert self._process is None, "already running"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "-c", str(self._config)], stdout=log, stderr=log
            )
        limit = time.monotonic() + START_S
        while time.monotonic() < limit:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex((HOST, self.port)) == 0:
                    return
            time.sleep(0.01)  # a foreign process: its port is the only sign of life
        self.kill()
        raise RuntimeError(f"mosquitto did not start:\n{self.log()}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _write_config(self, require_certificate: bool, extra: str) -> Path:
        lines = [
            f"listener {self.port} {HOST}",
            "allow_anonymous true",
            "set_tcp_nodelay true",
            "persistence false",
            "log_type all",
        ]
        if os.geteuid() == 0:
            # As root it would become the user mosquitto, who cannot read pytest's folders.
            lines.append("user root")
        if self._authority is not None:
            certificate, key = self._authority.issue("broker", server=True)
            lines += [f"cafile {self.ca}", f"certfile {certificate}", f"keyfile {key}"]
            lines.append(f"require_certificate {'true' if require_certificate else 'false'}")
        path = self._folder / "mosquitto.conf"
        path.write_text("\n".join([*lines, extra, ""]))
        return path
