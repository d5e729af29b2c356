"""Profiles are YAML files, which take their time to read; tests make a driver a few thousand times."""

import functools

import pytest

from drivers.terminal.zvt import terminal as zvt
from drivers.terminal.zvt.profile import Profile, load_profile


@functools.cache
def _loaded(name: str, options: tuple[tuple[str, object], ...]) -> Profile:
    return load_profile(name, dict(options))


def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each profile is read from its file once in this process."""

    def cached(name: str, options: dict[str, object]) -> Profile:
        return _loaded(name, tuple(sorted(options.items())))

    monkeypatch.setattr(zvt, "load_profile", cached)
