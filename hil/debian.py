"""Files out of Debian packages without root: fetched with apt-get, unpacked with dpkg -x, nothing installed.

Standard library only, and nothing of ours: it also serves before any environment exists.
"""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

APT_TIMEOUT_S = 300
"""Fetching the package lists over a slow line; a dead mirror ends here."""

_INSTALL_LINE = re.compile(r"^Inst (\S+)", re.MULTILINE)


class DebianError(Exception):
    """The packages could not be had; the text says which command failed and how."""


def unpack(packages: Sequence[str], cache: Path, wanted: str) -> Path:
    """Unpack `packages` and what they need that this machine does not have; returns the root of the tree.

    `cache` keeps everything (package lists, downloads, tree). The machine's own lists are tried first;
    where there are none, or they are too old, lists are fetched into `cache`. `wanted` is a file of the tree,
    relative to its root: where it is there already, nothing is done. Safe to call from several processes at
    once; an interrupted call leaves no half tree. Raises DebianError.
    """
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise DebianError(f"no {tool} here: Debian's packages cannot be unpacked")
    cache = cache.absolute()
    (cache / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    lock = os.open(cache, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tree = cache / "root"
        if not (tree / wanted).exists():
            _fetch(packages, cache, tree)
            if not (tree / wanted).exists():
                raise DebianError(f"the packages {', '.join(packages)} hold no {wanted}")
        return tree
    finally:
        os.close(lock)


def _fetch(packages: Sequence[str], cache: Path, tree: Path) -> None:
    # Empty cache names: apt's binary caches of the lists are ten times the packages, and of no use here.
    base = [
        f"Dir::Cache={cache}",
        "Dir::Cache::pkgcache=",
        "Dir::Cache::srcpkgcache=",
        "APT::Sandbox::User=",
    ]
    try:
        _unpack_with(base, packages, cache, tree)
    except DebianError:
        lists = cache / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        own = [*base, f"Dir::State::Lists={lists}"]
        _apt(own, ["update"], cache)
        _unpack_with(own, packages, cache, tree)
        shutil.rmtree(lists)


def _unpack_with(options: Sequence[str], packages: Sequence[str], cache: Path, tree: Path) -> None:
    # A simulated installation needs no root and names exactly what is missing here, on any release.
    plan = _apt(
        options,
        ["--simulate", "--no-install-recommends", "--reinstall", "install", *packages],
        cache,
    )
    names = _INSTALL_LINE.findall(plan)
    missing = [name for name in packages if name not in names]
    if missing:
        raise DebianError(f"apt does not offer {', '.join(missing)}")
    downloads = cache / "downloads"
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir()
    _apt(options, ["download", *names], downloads)
    fresh = cache / "root.new"
    shutil.rmtree(fresh, ignore_errors=True)
    for package in sorted(downloads.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(fresh)], cache)
    shutil.rmtree(tree, ignore_errors=True)
    fresh.rename(tree)
    shutil.rmtree(downloads, ignore_errors=True)


def _apt(options: Sequence[str], words: Sequence[str], folder: Path) -> str:
    flags = [word for option in options for word in ("-o", option)]
    return _run(["apt-get", "-q", *flags, *words], folder)


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DebianError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise DebianError(f"{' '.join(command[:1])} {command[-1]}: {last}")
    return done.stdout
