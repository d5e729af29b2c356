"""Building one environment: interpreter, installer (uv, else pip), locked packages, voltill."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dev import environment, index
from dev.environment import LOCKS, ROOT, Spec
from dev.say import DevError, say, step, warn

WHEEL_ONLY_MACHINES = ("x86_64", "aarch64")
"""Every locked package has wheels for these; elsewhere (armv7l: cffi, PyYAML) a source build is allowed."""

DEBIAN_WHEELS = "usr/share/python-wheels"
APT_LINE = "apt-get install -y python3-venv"
INSTALL_TIMEOUT_S = 1200
"""A slow line or a board that compiles ends within this; a dead mirror does not hold a build for ever."""
LOG_TAIL_LINES = 15


@dataclass
class Runner:
    """Runs the installers' commands into one log file, and hands them the build's lock."""

    log: Path
    lock_fd: int
    extra: dict[str, str] = field(default_factory=dict)

    def run(self, command: Sequence[str | Path], **more: str) -> bool:
        """True when the command ended with 0."""
        environ = {**clean_environ(), **self.extra, **more}
        words = [str(word) for word in command]
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(words)}\n")
            log.flush()
            try:
                done = subprocess.run(
                    words,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(self.lock_fd,),
                    timeout=INSTALL_TIMEOUT_S,
                    cwd=ROOT,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                log.write(f"{error}\n")
                return False
        return done.returncode == 0

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"    | {line}" for line in lines)


def clean_environ() -> dict[str, str]:
    """The caller's environment without what would point an installer at another interpreter."""
    unwanted = (
        "PYTHONHOME",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "PIP_TARGET",
        "PIP_USER",
        "PIP_PREFIX",
        "UV_PYTHON",
    )
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def build(spec: Spec, lock_fd: int) -> None:
    """Build or refresh `spec`; the caller holds the lock. Raises DevError with the end of the log."""
    marker = environment.read_marker(spec)
    log = spec.path.with_name(f"{spec.path.name}-build.log")
    log.write_text("")
    runner = Runner(log, lock_fd)
    if marker.get("key") == environment.key(spec) and os.access(spec.python, os.X_OK):
        installer = marker.get("installer", "pip")
        with step("environment: pyproject.toml changed, voltill itself is installed again"):
            _install_project(spec, runner, installer)
    else:
        say(f"environment {spec.name}: building {spec.path} (log: {log})")
        environment.discard_old(spec)
        with step("environment: interpreter"):
            _create(spec, runner)
        with step("environment: installer"):
            installer = _choose_installer(spec, runner)
        with step(f"environment: packages of {spec.lock.name} with {installer}"):
            installer = _install_locked(spec, runner, installer)
        if spec.project:
            with step("environment: voltill, editable"):
                _install_project(spec, runner, installer)
    environment.write_marker(spec, installer)
    log.replace(spec.path / "build.log")


def _create(spec: Spec, runner: Runner) -> None:
    if importlib.util.find_spec("venv") is None:
        raise DevError(f"this Python has no venv module. Debian: {APT_LINE}")
    if importlib.util.find_spec("ensurepip") is not None:
        if not runner.run([sys.executable, "-m", "venv", spec.path]):
            raise DevError(f"python -m venv failed; the end of its output:\n{runner.tail()}")
        return
    say("    python3-venv is not installed: taking pip from Debian's package instead, without root")
    if not runner.run([sys.executable, "-m", "venv", "--without-pip", spec.path]):
        raise DevError(f"python -m venv failed; the end of its output:\n{runner.tail()}")
    wheel = _debian_pip(spec)
    if wheel is None or not runner.run(
        [spec.python, wheel / "pip", "install", "--no-index", wheel]
    ):
        raise DevError(
            f"this Python cannot make a virtual environment with pip. Debian: {APT_LINE}"
        )


def _debian_pip(spec: Spec) -> Path | None:
    """pip's wheel as Debian ships it: already on this machine, or unpacked from its package."""
    from hil.debian import DebianError, unpack

    present = sorted(Path("/", DEBIAN_WHEELS).glob("pip-*.whl"))
    if present:
        return present[-1]
    try:
        tree = unpack(["python3-pip-whl"], spec.path / "bootstrap", DEBIAN_WHEELS)
    except DebianError as error:
        warn(str(error))
        return None
    found = sorted((tree / DEBIAN_WHEELS).glob("pip-*.whl"))
    return found[-1] if found else None


def _pip(spec: Spec, *words: str | Path) -> list[str | Path]:
    return [spec.python, "-m", "pip", "--disable-pip-version-check", "--no-input", *words]


def _choose_installer(spec: Spec, runner: Runner) -> str:
    """ "uv" when pip could fetch the pinned one, else "pip"."""
    wanted = _pip(
        spec,
        "install",
        "--require-hashes",
        "--no-deps",
        "--only-binary",
        ":all:",
        "-r",
        LOCKS / "uv.lock",
    )
    if runner.run(wanted) and runner.run([spec.path / "bin" / "uv", "--version"]):
        return "uv"
    say("    uv could not be had here; pip does the work (slower, the same packages)")
    return "pip"


def _install_locked(spec: Spec, runner: Runner, installer: str) -> str:
    """Install the locked list; returns the installer that managed it."""
    wheels_only = os.uname().machine in WHEEL_ONLY_MACHINES and not spec.sources
    wheels: list[str | Path] = ["--only-binary", ":all:"] if wheels_only else []
    locked: list[str | Path] = ["--require-hashes", *wheels, "-r", spec.lock]
    if installer == "uv":
        runner.extra.update(index.uv_settings(spec.python, clean_environ()))
        if not os.access(_uv_cache(), os.W_OK):
            runner.extra["UV_NO_CACHE"] = "1"
        uv: list[str | Path] = [spec.path / "bin" / "uv", "pip", "install", "--python", spec.python]
        # Compiled once here (pip does it unasked): the demo and the tests start hundreds of processes.
        if runner.run([*uv, "--compile-bytecode", *locked]):
            return "uv"
        say("    uv could not install the list; trying pip, whose settings may reach another index")
    if runner.run(_pip(spec, "install", *locked)):
        return "pip"
    kept = spec.path.with_name(f"{spec.path.name}-build.log")
    raise DevError(
        f"the packages of {spec.lock} could not be installed; "
        f"see {kept}, which ends with:\n{runner.tail()}"
    )


def _uv_cache() -> Path:
    """The nearest existing folder of uv's cache: uv stops when it cannot write there (no home)."""
    named = os.environ.get("UV_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/")) / ".cache")
    folder = Path(named) if named else home / "uv"
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _install_project(spec: Spec, runner: Runner, installer: str) -> None:
    """Editable by a plain .pth file (compat mode): no import hook in front of the agent's start-up time.

    The build back end is the locked setuptools of the environment itself, so nothing is fetched here.
    """
    common: list[str | Path] = ["--no-deps", "--no-build-isolation", "--editable", ROOT]
    if installer == "uv":
        base: list[str | Path] = [
            spec.path / "bin" / "uv",
            "pip",
            "install",
            "--python",
            spec.python,
            "--offline",
        ]
        option = ["--config-setting", "editable_mode=compat"]
        if shutil.which("uv", path=str(spec.path / "bin")) and runner.run(
            [*base, *option, *common]
        ):
            return
    option = ["--config-settings", "editable_mode=compat"]
    if not runner.run(_pip(spec, "install", "--no-index", *option, *common)):
        raise DevError(
            f"voltill itself could not be installed; the end of the log:\n{runner.tail()}"
        )
