"""Secrets from systemd credentials and files. Never from environment variables (they are inherited and
shown by tools), never from the configuration, never in a repr."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

# A password or a key file; more is the wrong file.
MAX_SECRET_BYTES = 16 * 1024
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"  # systemd.exec(5), "Credentials"


class Source(Protocol):
    """Where a secret is: exactly one of the two is given (models.SecretSource)."""

    @property
    def credential(self) -> str | None: ...

    @property
    def file(self) -> Path | None: ...


class SecretUnavailable(Exception):
    """A secret cannot be had. `code` is a stable id; no part of the secret is in the text."""

    def __init__(self, code: str, seen: str, remedy: str) -> None:
        super().__init__(f"{code}: {seen}; {remedy}")
        self.code, self.seen, self.remedy = code, seen, remedy


class Secret:
    """A secret in memory. It does not show itself; `reveal` is for the one call that needs it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__


def credentials_directory() -> Path | None:
    """Where systemd put this service's credentials, or None when it did not start this process."""
    name = os.environ.get(CREDENTIALS_VARIABLE)
    return Path(name) if name else None


def secret_path(source: Source, directory: Path | None = None) -> Path:
    """The file that holds a secret, for libraries that want a path. Raises SecretUnavailable."""
    if source.file is not None:
        return source.file
    name = source.credential or ""
    directory = directory or credentials_directory()
    if directory is None:
        raise SecretUnavailable(
            "CFG-029",
            f"credential {name} can only be had from systemd, which did not start this process",
            f"start the service, whose unit needs LoadCredential={name}:..., or use {{file: path}}",
        )
    return directory / name


def read_secret(source: Source, directory: Path | None = None) -> Secret:
    """The secret without a newline at its end. Raises SecretUnavailable."""
    path = secret_path(source, directory)
    try:
        with path.open("rb") as f:
            raw = f.read(MAX_SECRET_BYTES + 1)
    except OSError as e:
        if source.credential is not None:
            raise SecretUnavailable(
                "CFG-029",
                f"credential {source.credential}: {e.strerror}",
                f"the unit needs LoadCredential={source.credential}:/path/of/the/secret",
            ) from None
        raise SecretUnavailable(
            "CFG-026", f"{path}: {e.strerror}", "create the file with mode 0600"
        ) from None
    text = raw.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    if not text or len(raw) > MAX_SECRET_BYTES or "\ufffd" in text:
        raise SecretUnavailable(
            "CFG-028",
            f"{path} is empty, larger than 16 KiB or no text",
            "it should hold the secret and nothing else",
        )
    return Secret(text)


def open_to(mode: int) -> str:
    """Who else may read a file of this mode: "", "its group" or "everybody"."""
    if mode & stat.S_IRWXO:
        return "everybody"
    return "its group" if mode & stat.S_IRWXG else ""
