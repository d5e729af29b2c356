"""The last configuration that was good, kept beside the ledger. The outside hand falls back on it: a mistake
made in the file while a car charges must not keep the release from being withdrawn."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from agent.settings.load import settings_of_text
from agent.settings.models import Settings
from agent.settings.problems import SettingsRefused

NAME = "in-force.json"


def keep(config: Path, state: Path) -> None:
    """Remember the text of `config`, which was just found good. It names secrets, it holds none. On a full
    disk what was good before stays: the sessions that run must be able to end. Raises OSError for anything
    else."""
    kept = json.dumps({"base": str(config.parent.absolute()), "text": config.read_text()})
    known = state / NAME
    if known.exists() and known.read_text() == kept:
        return
    fresh = state / f"{NAME}.new"
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(kept)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(known)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        fresh.unlink(missing_ok=True)


def last_good(state: Path) -> Settings | None:
    """The settings the service last started with; None when there are none."""
    try:
        kept = json.loads((state / NAME).read_text())
        return settings_of_text(kept["text"], NAME, Path(kept["base"]))
    except (OSError, ValueError, KeyError, TypeError, SettingsRefused):
        return None
