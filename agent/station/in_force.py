"""The last configuration that was good, kept beside the ledger. The outside hand falls back on it: a mistake
made in the file while a car charges must not keep the release from being withdrawn."""

from __future__ import annotations

import json
import os
from pathlib import Path

from agent.settings.load import settings_of_text
from agent.settings.models import Settings
from agent.settings.problems import SettingsRefused

NAME = "in-force.json"


def keep(config: Path, state: Path) -> None:
    """Remember the text of `config`, which was just found good. It names secrets, it holds none.
    Raises OSError."""
    kept = {"base": str(config.parent.absolute()), "text": config.read_text()}
    fresh = state / f"{NAME}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(kept, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(state / NAME)


def last_good(state: Path) -> Settings | None:
    """The settings the service last started with; None when there are none."""
    try:
        kept = json.loads((state / NAME).read_text())
        return settings_of_text(kept["text"], NAME, Path(kept["base"]))
    except (OSError, ValueError, KeyError, TypeError, SettingsRefused):
        return None
