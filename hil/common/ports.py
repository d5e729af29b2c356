"""A TCP port of the loopback for a server that will be stopped and started again."""

import contextlib
import random
import socket

LOOPBACK = "127.0.0.1"

OURS = range(20_000, 32_000)
"""Below what Linux hands out to clients by itself (from 32768): else some other connection may take a port
while its server is down, and the server cannot come back."""

TRIES = 100
"""Almost every port of OURS is free on any machine; where a hundred are not, something else is wrong."""


def free_port(neighbours: int = 1) -> int:
    """The first of so many ports side by side that were free a moment ago. Raises OSError."""
    # Not from a seed: processes that began with the same one would all choose the same port.
    for port in random.SystemRandom().sample(OURS[:-neighbours], TRIES):
        if all(_free(port + n) for n in range(neighbours)):
            return port
    raise OSError(f"none of {TRIES} ports from {OURS[0]} to {OURS[-1]} is free")


def _free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((LOOPBACK, port))
        return True
    return False
