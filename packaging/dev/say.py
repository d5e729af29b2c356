"""What ./dev prints: one line when a step begins, one when it ends, plain text for logs and people."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class DevError(Exception):
    """Something ./dev cannot go on without; the text says what was seen and what to do."""


def say(text: str) -> None:
    """Print one line at once, so that a log shows what a hanging step was."""
    print(text, flush=True)


def warn(text: str) -> None:
    print(f"dev: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Name a step before it runs and give its time after it; a failed one says so."""
    say(f"==> {name}")
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"    {name}: failed after {time.monotonic() - begin:.1f} s")
        raise
    say(f"    {name}: {time.monotonic() - begin:.1f} s")
