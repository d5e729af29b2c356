"""The simulator's disk that forgets, for tests of the ledger alone."""

from __future__ import annotations

from simulate.disk import Disk, ForgetfulVFS, PowerCut, mounted

__all__ = ["Disk", "ForgetfulVFS", "PowerCut", "mounted"]
