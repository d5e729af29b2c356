"""Which machine and file system the figures are from."""

from __future__ import annotations

import os
import platform
from pathlib import Path

IN_MEMORY = ("tmpfs", "ramfs")


def describe(folder: Path) -> list[tuple[str, str]]:
    kind, device = file_system(folder)
    warning = "; IN MEMORY: durable writes cost nothing here" if kind in IN_MEMORY else ""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        ("machine", f"{_processor()}, {len(os.sched_getaffinity(0))} cores, load {load}"),
        ("system", f"Linux {platform.release()}, Python {platform.python_version()}"),
        ("file system", f"{kind} on {device}{warning}"),
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def file_system(folder: Path) -> tuple[str, str]:
    """Type and device of the mount that holds `folder`."""
    found = ("unknown", "unknown")
    longest = -1
    path = str(folder.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, mount, kind = line.split()[:3]
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= longest:
            found, longest = (kind, Path(device).name), len(mount)
    return found
