"""Children that do not outlive the one who started them, however that one dies."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

# prctl(2): the kernel sends the signal when the thread that forked us is gone; it survives execve. The
# parent may have died before the call, so it is looked at once more.
_SHIM = """
import ctypes, os, sys
number, parent = int(sys.argv[1]), int(sys.argv[2])
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(number))
if os.getppid() != parent:
    sys.exit(1)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def tied(command: Sequence[str], number: int = signal.SIGTERM) -> list[str]:
    """`command`, to be started by this process' main thread: it gets `number` when we die, even of
    SIGKILL. The process id stays that of the command (exec)."""
    return [sys.executable, "-I", "-S", "-c", _SHIM, str(int(number)), str(os.getpid()), *command]
