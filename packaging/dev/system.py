"""What the tests use from Debian: installed when this is root, named in one line when it is not."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dev.say import say, warn

APT_TIMEOUT_S = 600
SBIN = ("/usr/sbin", "/sbin")
"""Where Debian puts mosquitto; not on an ordinary user's PATH."""


@dataclass(frozen=True)
class Need:
    """One Debian package, how to see that it is there, and which tests want it."""

    package: str
    probe: str
    use: str

    def present(self) -> bool:
        if self.probe.startswith("/"):
            return Path(self.probe).exists()
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])
        return shutil.which(self.probe, path=path) is not None


NEEDS = (
    Need("mosquitto", "mosquitto", "a real MQTT broker"),
    Need("socat", "socat", "serial lines bridged between ptys and sockets"),
    Need("gcc", "gcc", "the independent Modbus slave, compiled"),
    Need("libc6-dev", "/usr/include/stdio.h", "the independent Modbus slave, compiled"),
    Need("libmodbus-dev", "/usr/include/modbus/modbus.h", "the independent Modbus slave"),
    Need("mbpoll", "mbpoll", "an independent Modbus master against our simulators"),
    Need("softhsm2", "/usr/lib/softhsm/libsofthsm2.so", "a PKCS#11 token"),
    Need("swtpm", "swtpm", "a TPM 2.0"),
    Need("libtss2-dev", "/usr/include/tss2/tss2_esys.h", "the extra [tpm], compiled"),
    Need("pkg-config", "pkg-config", "the extra [tpm], compiled"),
    Need("tpm2-tools", "tpm2", "keys and signatures of a TPM checked by another hand"),
    Need("openssl", "openssl", "signatures and certificates checked by another hand"),
    Need("systemd", "systemd-analyze", "the unit's exposure score"),
)


def missing() -> list[Need]:
    return [need for need in NEEDS if not need.present()]


def install_missing() -> None:
    """Never fails: without a package its tests are skipped, and the table of skips says so."""
    lacking = missing()
    if not lacking:
        return
    names = [need.package for need in lacking]
    line = f"apt-get install -y --no-install-recommends {' '.join(names)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        warn(f"some tests will be skipped; as root, this gives them what they need:\n     {line}")
        return
    say(f"    {line}")
    if not (_apt("update") and _apt("install", "-y", "--no-install-recommends", *names)):
        warn(f"apt-get could not install {' '.join(names)}; their tests will be skipped")


def _apt(*words: str) -> bool:
    # RUNLEVEL=1 keeps the packages' scripts from starting services: the tests start their own broker.
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    try:
        done = subprocess.run(
            ["apt-get", "-q", *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=APT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        warn(f"apt-get {words[0]}: {error}")
        return False
    if done.returncode != 0:
        for line in done.stdout.splitlines()[-5:]:
            warn(f"apt-get {words[0]}: {line}")
    return done.returncode == 0
