"""Readers of files that do not change, asked again at every start of the agent: what other people's libraries
make of the same text is kept. Nothing of ours is touched, and nothing that is kept is ever changed."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
from collections.abc import Iterator
from typing import Any

import yaml

# Profiles, the catalogue and the settings of some variants.
KEPT = 256


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    compose, scan, entry_points = yaml.compose, yaml.scan, importlib.metadata.entry_points

    @functools.lru_cache(KEPT)
    def node(text: Any, loader: Any) -> Any:
        return compose(text, loader)

    @functools.lru_cache(KEPT)
    def tokens(text: Any, loader: Any) -> tuple[Any, ...]:
        return tuple(scan(text, loader))

    @functools.lru_cache(KEPT)
    def points(**wanted: Any) -> Any:
        return entry_points(**wanted)

    changed: dict[Any, dict[str, Any]] = {
        yaml: {
            "compose": lambda text, Loader=yaml.Loader: node(text, Loader),  # noqa: N803
            "scan": lambda text, Loader=yaml.Loader: iter(tokens(text, Loader)),  # noqa: N803
        },
        importlib.metadata: {"entry_points": points},
    }
    before = {
        module: {name: vars(module)[name] for name in names} for module, names in changed.items()
    }
    for module, names in changed.items():
        vars(module).update(names)
    try:
        yield
    finally:
        for module, names in before.items():
            vars(module).update(names)
