"""A real mosquitto on a free loopback port, for one test.

    with Mosquitto(tmp_path) as broker:
        broker.url                       # mqtt://127.0.0.1:PORT, or mqtts:// with tls=True
        broker.kill(); broker.start()    # the same port again; nothing is persisted

With `tls=True` a private authority is made for the occasion: `broker.ca`, and `broker.client(name)` gives
a client certificate. Skips the test when mosquitto is not installed.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "127.0.0.1"
START_S = 10.0
_CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def find_mosquitto() -> str | None:
    """Debian puts it in /usr/sbin, which is not on a user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


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
        self._authority = _Authority(self._folder) if tls else None
        self._config = self._write_config(require_certificate, config)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self._folder / "log"

    @property
    def url(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{HOST}:{self.port}"

    @property
    def ca(self) -> Path:
        assert self._authority is not None, "made with tls=False"
        return self._authority.path

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


class _Authority:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.path = folder / "ca.pem"
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_CA_USAGE, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, server: bool) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(subject, key.public_key()).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if server:
            names = [x509.IPAddress(ipaddress.ip_address(HOST)), x509.DNSName("localhost")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        paths = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        authority = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            # Python 3.13 refuses chains without these two (VERIFY_X509_STRICT).
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False
            )
        )
