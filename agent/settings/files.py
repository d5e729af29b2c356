"""Are the files there that the configuration names, and who else can read them?"""

from __future__ import annotations

import os
from pathlib import Path

from agent.settings.codes import Kind
from agent.settings.document import Document, Steps, dotted
from agent.settings.key_places import KeyRef
from agent.settings.models import Settings
from agent.settings.problems import Problem, Severity
from agent.settings.secrets import SecretUnavailable, open_to, read_secret
from agent.settings.section import SecretSource

_PEM = b"-----BEGIN "


class FileChecker:
    """Collects problems of referenced files. With `starting`, a secret must be there now; otherwise
    one that only systemd can provide is a note."""

    def __init__(self, doc: Document, starting: bool) -> None:
        self.found: list[Problem] = []
        self._doc, self._starting = doc, starting

    def add(
        self,
        kind: Kind,
        steps: Steps,
        seen: str,
        expected: str = "",
        severity: Severity = Severity.ERROR,
    ) -> None:
        self.found.append(
            Problem(
                self._doc.codes[kind],
                self._doc.value_at(steps),
                dotted(steps),
                seen,
                expected,
                severity=severity,
            )
        )

    def pem(self, steps: Steps, path: Path, what: str) -> None:
        """A public PEM file: there, readable, and PEM."""
        try:
            with path.open("rb") as f:
                head = f.read(64 * 1024)
        except OSError as e:
            self.add(Kind.FILE_MISSING, steps, f"{path}: {e.strerror}", f"expected {what}")
            return
        if _PEM not in head:
            self.add(Kind.FILE_CONTENT, steps, f"{path} is not PEM", f"expected {what}")

    def private(self, steps: Steps, path: Path, remedy: str) -> None:
        """A private file: there, readable by us and by nobody else."""
        try:
            mode = path.stat().st_mode
        except OSError as e:
            self.add(Kind.FILE_MISSING, steps, f"{path}: {e.strerror}", remedy)
            return
        if others := open_to(mode):
            self.add(
                Kind.FILE_OPEN_TO_OTHERS,
                steps,
                f"{path} has mode {mode & 0o7777:04o}: {others} can read it",
                f"chmod 600 {path}",
            )
        elif not os.access(path, os.R_OK):
            self.add(
                Kind.FILE_MISSING,
                steps,
                f"{path} may not be read by this user",
                "run as the service's user, or as root",
                Severity.ERROR if self._starting else Severity.NOTE,
            )

    def secret(self, steps: Steps, source: SecretSource) -> None:
        name = "credential" if source.file is None else "file"
        if source.file is not None:
            before = len(self.found)
            self.private((*steps, name), source.file, "expected a file of mode 0600")
            if len(self.found) > before:
                return
        try:
            read_secret(source)
        except SecretUnavailable as e:
            kind = next(k for k, code in self._doc.codes.items() if code == e.code)
            elsewhere = kind is Kind.CREDENTIAL and not self._starting
            severity = Severity.NOTE if elsewhere else Severity.ERROR
            self.add(kind, (*steps, name), e.seen, e.remedy, severity)


def check_files(doc: Document, settings: Settings, starting: bool) -> list[Problem]:
    """Problems of every referenced file but the tariff, which is parsed by its own rules."""
    c = FileChecker(doc, starting)
    for i, terminal in enumerate(settings.terminals):
        c.secret(("terminals", i, "password"), terminal.password)
    _record_key(c, settings.keys.record)
    uplink = settings.uplink
    if uplink is None:
        return c.found
    if uplink.ca is not None:
        c.pem(("uplink", "ca"), uplink.ca, "a certificate in PEM")
    if uplink.certificate is not None:
        c.pem(("uplink", "certificate"), uplink.certificate, "a certificate in PEM")
    if uplink.key is not None:
        c.secret(("uplink", "key"), uplink.key)
    for i, path in enumerate(uplink.trust):
        c.pem(("uplink", "trust", i), path, "a public key in PEM")
    return c.found


def _record_key(c: FileChecker, record: KeyRef) -> None:
    """What can be told without the device: a token may be unplugged while the file is checked."""
    at = ("keys", "record")
    if record.file is not None:
        make = f"make it once: voltill keys new {record.file}"
        c.private((*at, "file"), record.file, make)
    elif record.pkcs11 is not None:
        module = record.pkcs11.module
        if not module.is_file():
            expected = (
                "expected the token's PKCS#11 library, such as /usr/lib/softhsm/libsofthsm2.so"
            )
            c.add(Kind.FILE_MISSING, (*at, "pkcs11", "module"), f"{module}: no such file", expected)
        if record.pkcs11.pin is not None:
            c.secret((*at, "pkcs11", "pin"), record.pkcs11.pin)
    elif record.tpm is not None:
        if record.tpm.file is not None:
            make = "make it once: voltill keys create --config FILE"
            c.private((*at, "tpm", "file"), record.tpm.file, make)
        if record.tpm.pin is not None:
            c.secret((*at, "tpm", "pin"), record.tpm.pin)
