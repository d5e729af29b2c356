"""The virtual loop of the simulator, for tests of single parts."""

from __future__ import annotations

from simulate.loop import GRAVEYARD, Killed, Stuck, VirtualLoop

__all__ = ["GRAVEYARD", "Killed", "Stuck", "VirtualLoop"]
