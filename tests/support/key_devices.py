"""Tokens and TPMs for tests: real softhsm2 and swtpm, and a module that makes a token misbehave."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.tree import ROOT

sys.path.insert(0, str(ROOT / "packaging"))
from dev import environment

from hil.common.ports import free_port

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
TOKEN, PIN, SO_PIN = "voltill", "471100", "08154711"
START_S, STOP_S = 10.0, 5.0
# Somebody else may take one of the two ports between the look and the start.
PORT_TRIES = 5


def site_packages(extra: str) -> list[Path]:
    """Where ./dev keeps the library of an extra; nowhere when it could not be built."""
    spec = environment.pkcs11_spec() if extra == "pkcs11" else environment.tpm_spec()
    complete = environment.is_complete(spec)
    return list(spec.path.glob("lib/python3*/site-packages")) if complete else []


def library(extra: str) -> None:
    """Make the library of an extra importable. Skips."""
    name = {"pkcs11": "pkcs11", "tpm": "tpm2_pytss"}[extra]
    if importlib.util.find_spec(name) is None:
        # Last: what both environments have comes from the tests' own.
        sys.path += map(str, site_packages(extra))
        importlib.invalidate_caches()
    if importlib.util.find_spec(name) is None:
        if extra == "tpm":
            pytest.skip("needs tpm2-pytss: apt-get install libtss2-dev gcc, then ./dev setup keys")
        pytest.skip("needs the package index once, for python-pkcs11: ./dev setup keys")


def program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: apt-get install {package}")
    return found


class SoftToken:
    """A softhsm2 token `TOKEN` in `folder`, reached through the module that can misbehave."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        library("pkcs11")
        if not SOFTHSM.exists():
            pytest.skip("needs softhsm2: apt-get install softhsm2")
        self.tokens, self.module = folder / "tokens", folder / "faults.so"
        self.tokens.mkdir()
        config = folder / "softhsm2.conf"
        config.write_text(f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\n")
        self._fault, self._logins = folder / "fault", folder / "logins"
        for name, value in {
            "SOFTHSM2_CONF": config,
            "FAULTS_MODULE": SOFTHSM,
            "FAULTS_FILE": self._fault,
            "FAULTS_LOGINS": self._logins,
        }.items():
            monkeypatch.setenv(name, str(value))
        source = Path(__file__).with_name("pkcs11_faults.c")
        gcc = program("gcc", "gcc libc6-dev")
        subprocess.run(
            [gcc, "-shared", "-fPIC", "-w", "-o", self.module, source, "-ldl"], check=True
        )
        self.init(TOKEN)

    def init(self, label: str) -> None:
        util = program("softhsm2-util", "softhsm2")
        words = ["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN]
        subprocess.run([util, *words], check=True, capture_output=True)

    def begin(self) -> Any:
        """python-pkcs11's view of the module, begun anew."""
        import pkcs11

        lib = pkcs11.lib(str(self.module))
        lib.reinitialize()
        return lib

    def end(self) -> None:
        """softhsm2 behind the module is one for the whole process."""
        self.misbehave("")
        self.begin().finalize()

    def misbehave(self, word: str) -> None:
        """removed, hang, garbage, final-try, locked, pin-locked; empty: as it should."""
        fresh = self._fault.with_suffix(".new")
        fresh.write_text(word)
        fresh.replace(self._fault)

    @property
    def logins(self) -> list[str]:
        """Every PIN that was given to the token."""
        return self._logins.read_text().split() if self._logins.exists() else []

    def pull(self) -> None:
        self.tokens.rename(self.tokens.with_name("pulled"))

    def plug(self) -> None:
        self.tokens.with_name("pulled").rename(self.tokens)


class SoftTpm:
    """A swtpm with its state in `folder`, on a free pair of loopback ports."""

    def __init__(self, folder: Path) -> None:
        library("tpm")
        self._program = program("swtpm", "swtpm")
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(PORT_TRIES):
            self.port = free_port(2)
            if self._started():
                return
        raise AssertionError("swtpm did not start")

    @property
    def tcti(self) -> str:
        return f"swtpm:host=127.0.0.1,port={self.port}"

    def start(self) -> None:
        assert self._started()

    def _started(self) -> bool:
        # The library expects the control channel one port above the other.
        where = ["bindaddr=127.0.0.1", "disconnect"]
        server = ",".join(["type=tcp", f"port={self.port}", *where])
        control = f"type=tcp,port={self.port + 1},bindaddr=127.0.0.1"
        # Written after both ports were bound: whoever answers there is this one and no other worker's.
        pid = self._folder / "pid"
        pid.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [self._program, "socket", "--tpm2", "--tpmstate", f"dir={self._folder}",
             "--server", server, "--ctrl", control, "--flags", "not-need-init,startup-clear",
             "--pid", f"file={pid}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if pid.exists() and pid.read_text().strip() == str(self.process.pid):
                return True
            time.sleep(0.01)
        self.stop()
        return False

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """By its own process alone."""
        if self.process.poll() is None:
            self.thaw()
            self.process.kill()
        self.process.wait(STOP_S)

    def tool(self, *words: object) -> str:
        """One of tpm2-tools: another hand at the same TPM."""
        tool = program("tpm2", "tpm2-tools")
        command = [tool, *map(str, words)]
        environ = {"TPM2TOOLS_TCTI": self.tcti, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
