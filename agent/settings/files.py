"""Are the files there that the configuration names, and who else can read them?"""

from __future__ import annotations

import os
from pathlib import Path

from agent.settings.codes import Kind
from agent.settings.document import Document, Steps, dotted
from agent.settings.models import SecretSource, Settings
from agent.settings.problems import Problem, Severity
from agent.settings.secrets import SecretUnavailable, open_to, read_secret

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
    record = settings.keys.record.file
    make = f"make it once: voltill keys new {record}"
    c.private(("keys", "record", "file"), record, make)
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
