"""pip's index settings, said in uv's words: uv does not read pip's files, and a factory has only those."""

import ast
import subprocess
from collections.abc import Mapping
from pathlib import Path

SECTIONS = ("global", "install", ":env:")
"""pip's own order: what stands later wins."""

CONFIG_TIMEOUT_S = 60


def uv_settings(python: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv that reach the same indexes as the pip of `python`; the user's own UV_* win."""
    done = subprocess.run(
        [python, "-m", "pip", "config", "list"],
        env=dict(environ),
        capture_output=True,
        text=True,
        timeout=CONFIG_TIMEOUT_S,
        check=False,
    )
    wanted = translate(parse(done.stdout if done.returncode == 0 else ""))
    return {name: value for name, value in wanted.items() if name not in environ}


def parse(listing: str) -> dict[str, str]:
    """Read `pip config list` (a line: section.name='value') into name -> value; the last section wins."""
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listing.splitlines():
        head, separator, quoted = line.partition("=")
        section, dot, name = head.partition(".")
        if not separator or not dot or section not in found:
            continue
        try:
            value = ast.literal_eval(quoted)
        except (ValueError, SyntaxError):
            continue
        found[section][name] = str(value)
    merged: dict[str, str] = {}
    for section in SECTIONS:
        merged.update(found[section])
    return merged


def translate(pip: Mapping[str, str]) -> dict[str, str]:
    """uv's variables for pip's settings."""
    uv: dict[str, str] = {}
    if "index-url" in pip:
        uv["UV_DEFAULT_INDEX"] = pip["index-url"].strip()
    if "extra-index-url" in pip:
        uv["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
        # pip takes the best match of all indexes. That is safe here since every file's hash is locked.
        uv["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "find-links" in pip:
        uv["UV_FIND_LINKS"] = ",".join(pip["find-links"].split())
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        uv["UV_NO_INDEX"] = "1"
    if "trusted-host" in pip:
        uv["UV_INSECURE_HOST"] = " ".join(pip["trusted-host"].split())
    if "cert" in pip:
        uv["SSL_CERT_FILE"] = pip["cert"]
    if "proxy" in pip:
        uv["ALL_PROXY"] = pip["proxy"]
    if "timeout" in pip or "default-timeout" in pip:
        uv["UV_HTTP_TIMEOUT"] = pip.get("timeout", pip.get("default-timeout", ""))
    return uv
