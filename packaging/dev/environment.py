"""Virtual environments keyed by what they are made of, complete or not there at all.

An environment counts only with its marker, which is written last: one that was interrupted has none and is
built anew. It is built at its final path, since scripts inside name that path.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "packaging" / "requirements"
MARKER = "voltill-environment.json"
FUZZER_MACHINE = "x86_64"
BIG_PAGES = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""For tests and simulations, not for what is measured: memory in big pages, where the kernel has them. Some
virtual machines need microseconds to find a small one: collecting the tests took 150 s there, not 11."""
BUILD_VERSION = 2
"""Raise it when the way of building changes, so that every existing environment is rebuilt."""


@dataclass(frozen=True)
class Spec:
    """One environment: where it stands, its hash-locked list, whether voltill goes in too (editable)."""

    name: str
    path: Path
    lock: Path
    project: bool
    sources: bool = False
    """Some of it has no wheel for any machine and is compiled here."""

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def marker(self) -> Path:
        return self.path / MARKER


def main_spec() -> Spec:
    """The environment that everything runs in. VOLTILL_VENV puts it elsewhere (a read-only tree)."""
    return Spec("voltill", _base(), LOCKS / "test.lock", project=True)


def amqtt_spec() -> Spec:
    """The pure-Python broker, apart: it brings rich, which structlog would import where it finds it."""
    base = _base()
    return Spec("amqtt", base.with_name(base.name + "-amqtt"), LOCKS / "amqtt.lock", project=False)


def pkcs11_spec() -> Spec:
    """The library of the extra [pkcs11], apart: it has no wheels for armv7, and no setup may fail for it."""
    base = _base()
    return Spec(
        "pkcs11", base.with_name(base.name + "-pkcs11"), LOCKS / "pkcs11.lock", project=False
    )


def tpm_spec() -> Spec:
    """The library of the extra [tpm], apart: it is compiled against the system's TPM2 Software Stack."""
    base = _base()
    path = base.with_name(base.name + "-tpm")
    return Spec("tpm", path, LOCKS / "tpm.lock", project=False, sources=True)


def fuzz_spec() -> Spec:
    """The fuzzer, apart: it has wheels for few machines, and none of the tests needs it. Raises DevError
    where it has none."""
    from dev.say import DevError

    machine = os.uname().machine
    if machine != FUZZER_MACHINE:
        raise DevError(
            f"the fuzzer (atheris) has wheels for {FUZZER_MACHINE}, this is {machine}; without it "
            "`./dev test tests/drivers/terminal/test_zvt_fuzz.py` tries the same targets with hypothesis"
        )
    base = _base()
    return Spec("fuzz", base.with_name(base.name + "-fuzz"), LOCKS / "fuzz.lock", project=True)


def _base() -> Path:
    return Path(os.environ.get("VOLTILL_VENV") or ROOT / ".venv").absolute()


def key(spec: Spec) -> str:
    """Hash of everything that, when it changes, makes the installed packages wrong."""
    digest = hashlib.sha256()
    parts = (
        str(BUILD_VERSION),
        platform.python_implementation(),
        ".".join(map(str, sys.version_info[:3])),
        sys.base_prefix,
        os.uname().machine,
        str(spec.path),
    )
    digest.update("\n".join(parts).encode())
    digest.update(spec.lock.read_bytes())
    return digest.hexdigest()


def project_key(spec: Spec) -> str:
    """Hash of what the editable install copied: name, scripts and entry points."""
    if not spec.project:
        return ""
    return hashlib.sha256(str(ROOT).encode() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()


def read_marker(spec: Spec) -> dict[str, str]:
    try:
        marker = json.loads(spec.marker.read_text())
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def write_marker(spec: Spec, installer: str) -> None:
    """Declare the environment complete. Renamed into place: it is whole or absent."""
    marker = {"key": key(spec), "project": project_key(spec), "installer": installer}
    fresh = spec.marker.with_suffix(".new")
    fresh.write_text(json.dumps(marker, indent=1) + "\n")
    fresh.replace(spec.marker)


def is_complete(spec: Spec) -> bool:
    """The fast path of every start: two small files hashed, nothing run."""
    marker = read_marker(spec)
    return (
        marker.get("key") == key(spec)
        and marker.get("project") == project_key(spec)
        and os.access(spec.python, os.X_OK)
    )


def ensure(spec: Spec) -> None:
    """Leave with a complete environment at spec.path. Raises DevError when that cannot be done."""
    if is_complete(spec):
        return
    from dev import (
        build,
    )  # imported only when there is something to build: keeps the fast path fast

    with _exclusive(spec) as lock_fd:
        if is_complete(spec):  # another ./dev built it while this one waited
            return
        build.build(spec, lock_fd)


def discard_old(spec: Spec) -> None:
    """Take whatever stands at spec.path out of the way first (rename is atomic), then delete it.

    Leftovers of a deletion that was interrupted go as well.
    """
    if spec.path.is_symlink() or spec.path.is_file():
        spec.path.unlink()
    elif spec.path.exists():
        spec.path.rename(_old(spec, os.getpid()))
    for old in spec.path.parent.glob(f"{spec.path.name}-old-*"):
        shutil.rmtree(old, ignore_errors=True)


def _old(spec: Spec, pid: int) -> Path:
    return spec.path.with_name(f"{spec.path.name}-old-{pid}")


@contextmanager
def _exclusive(spec: Spec) -> Iterator[int]:
    """Hold a lock on the folder the environment stands in; yields its descriptor.

    The descriptor is handed down to the installers: if this process is killed, the lock lasts until the last
    of them is gone, so nobody rebuilds under a writer that is still running.
    """
    from dev.say import DevError, say

    folder = spec.path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DevError(f"cannot use {folder}: {error.strerror}") from error
    try:
        if not os.access(folder, os.W_OK):
            raise DevError(
                f"cannot write to {folder}: clone the repository as this user, "
                "or name another place with VOLTILL_VENV=/path/to/environment"
            )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another ./dev is building an environment here; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
