"""`python -m bench NAME`: what `./dev bench` runs."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import core, meter, zvt
from bench.report import Report

# Durable on every Linux by the file system standard, where /tmp may be memory.
FOLDER = Path("/var/tmp")
MISSED_EXIT = 1

BENCHES: dict[str, Callable[..., Report]] = {"core": core.run, "meter": meter.run, "zvt": zvt.run}
# Benches with options of their own take what was given as a third argument.
OPTIONS: dict[str, Callable[[argparse.ArgumentParser], None]] = {"core": core.options}


def main(arguments: Sequence[str]) -> int:
    """0: every goal met. 1: one was missed. Without a name: the benches, one a line."""
    if not arguments:
        for name, bench in BENCHES.items():
            print(f"{name:8} {sys.modules[bench.__module__].__doc__.splitlines()[0]}")  # type: ignore[union-attr]  # they have one
        return 0
    parser = argparse.ArgumentParser(prog="./dev bench")
    parser.add_argument("name", choices=sorted(BENCHES))
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help=f"where durable writes go ({FOLDER})"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds: shows that it works, no figures"
    )
    add_options = OPTIONS.get(next((word for word in arguments if word in BENCHES), ""))
    if add_options is not None:
        add_options(parser)
    given = parser.parse_args(arguments)
    more = (given,) if given.name in OPTIONS else ()
    with tempfile.TemporaryDirectory(prefix="voltill-bench-", dir=given.folder) as folder:
        report = BENCHES[given.name](Path(folder), given.quick, *more)
    print(report.text())
    return 0 if report.met else MISSED_EXIT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
