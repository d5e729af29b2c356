"""Every module of the agent that a running station may import, imported before the seams are put in: a module
that came later would keep the function that a seam replaces."""

from __future__ import annotations

import importlib
import pkgutil

import agent
import drivers
from agent.station.drivers import installed, load

# Only the command line; its modules import click and are never part of a running service.
NOT_RUNNING = ("agent.cli",)


def import_all() -> None:
    for package in (agent, drivers):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith(NOT_RUNNING):
                importlib.import_module(found.name)
    for name in installed():
        kind, _, driver = name.partition(".")
        load(kind, driver)
