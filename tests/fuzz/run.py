"""./dev fuzz: coverage-guided fuzzing of the ZVT driver with atheris (libFuzzer), bounded in time and memory.

Each target is a function of tests/support/zvt_fuzz.py. It starts from tests/fuzz/corpus/<target>.hex, one
input a line, and from what earlier runs found on this machine (build/fuzz/<target>). A crash is made small
and printed as hex, with the command that repeats it; put that line into the corpus, where the tests replay
it for ever."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CORPUS, FOUND = HERE / "corpus", ROOT / "build" / "fuzz"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

NAMES = ("framing", "stream", "codec", "tool", "dialogue")
SECONDS, MEMORY_MB = 60, 1024
INPUT_BYTES_MAX = 1024  # a script; longer ones find nothing that shorter ones do not
HANG_S = 10  # for one input: a thousand times what the slowest takes
GRACE_S = 30  # to start and to end
SMALLER_S = 20  # for making a crash small
WORKER = "--worker"


def main(arguments: list[str]) -> int:
    if arguments[:1] == [WORKER]:
        return work(arguments[1], arguments[2:])
    parser = argparse.ArgumentParser(prog="./dev fuzz", description="Coverage-guided fuzzing.")
    parser.add_argument("target", nargs="*", help=f"of {', '.join(NAMES)}; all without a name")
    parser.add_argument(
        "--seconds", type=int, default=SECONDS, help="for all together (%(default)s)"
    )
    parser.add_argument("--memory-mb", type=int, default=MEMORY_MB, help="of each (%(default)s)")
    parser.add_argument("--hex", help="run this one input of one target, with its traceback")
    given = parser.parse_args(arguments)
    targets = given.target or list(NAMES)
    if unknown := set(targets) - set(NAMES):
        parser.error(f"no target {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    if given.hex is not None:
        if len(targets) != 1:
            parser.error("--hex wants one target")
        return repeat(targets[0], bytes.fromhex(given.hex))
    share = max(1, given.seconds // len(targets))
    return max([fuzz(target, share, given.memory_mb) for target in targets])


# --- One target -----------------------------------------------------------------------------------


def fuzz(name: str, seconds: int, memory_mb: int) -> int:
    """Runs the worker; 1 when it crashed, hung or took too much memory."""
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="voltill-fuzz-") as folder:
        seeds, crashes = Path(folder, "seeds"), Path(folder, "crashes")
        seeds.mkdir()
        crashes.mkdir()
        for number, seed in enumerate(corpus(name)):
            (seeds / f"{number:04d}").write_bytes(seed)
        print(f"==> {name}: {seconds} s", flush=True)
        command = [sys.executable, __file__, WORKER, name, str(found), str(seeds)]
        command += [
            f"-max_total_time={seconds}",
            f"-rss_limit_mb={memory_mb}",
            f"-max_len={INPUT_BYTES_MAX}",
            f"-timeout={HANG_S}",
            f"-artifact_prefix={crashes}/",
            "-print_final_stats=1",
            "-verbosity=0",
        ]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds + HANG_S + GRACE_S,
            check=False,
        )
        for line in done.stdout.splitlines():
            if line.startswith(("stat::number_of_exec", "stat::average", "stat::peak_rss")):
                print(f"    {line.removeprefix('stat::')}")
        left = sorted(crashes.iterdir())
        if done.returncode == 0 and not left:
            return 0
        for crash in left:
            tell(name, crash)
        if not left:
            print(done.stdout[-4000:])
        return 1


def tell(name: str, crash: Path) -> None:
    """A crash, made small, with what repeats it."""
    kind = crash.name.split("-")[0]  # crash, timeout, oom
    data = crash.read_bytes()
    if kind == "crash":
        data = smaller(name, data)
        repeat(name, data)
    print(f"{kind.upper()} in {name}: {data.hex()}")
    print(f"again: ./dev fuzz {name} --hex {data.hex()}")


def corpus(name: str) -> Iterator[bytes]:
    """The inputs of tests/fuzz/corpus; what stands behind # is a remark."""
    for line in (CORPUS / f"{name}.hex").read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text:
            yield bytes.fromhex(text)


def work(name: str, flags: list[str]) -> int:
    """In the worker: never returns to the caller, libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["drivers.terminal.zvt"]):
        from support.zvt_fuzz import TARGETS
    atheris.Setup([sys.argv[0], *flags], TARGETS[name])
    atheris.Fuzz()
    return 0


# --- A crash --------------------------------------------------------------------------------------


def repeat(name: str, data: bytes) -> int:
    """1, with a traceback, when the input still breaks its promise."""
    from support.zvt_fuzz import TARGETS

    try:
        TARGETS[name](data)
    except Exception:  # noqa: BLE001  # whatever it is, it is what was looked for
        traceback.print_exc(limit=-6)
        return 1
    print(f"{name}: nothing happens")
    return 0


def smaller(name: str, data: bytes) -> bytes:
    """Pieces taken out, then bytes made 0, as long as the same kind of failure remains."""
    from support.zvt_fuzz import TARGETS

    wanted = failure(TARGETS[name], data)
    until = time.monotonic() + SMALLER_S
    size = len(data)
    while size and wanted is not None:
        at = 0
        while at < len(data) and time.monotonic() < until:
            shorter = data[:at] + data[at + size :]
            if failure(TARGETS[name], shorter) == wanted:
                data = shorter
            else:
                at += size
        size //= 2
    for at in range(len(data)):
        zeroed = data[:at] + b"\0" + data[at + 1 :]
        if time.monotonic() < until and failure(TARGETS[name], zeroed) == wanted:
            data = zeroed
    return data


def failure(target: Callable[[bytes], None], data: bytes) -> tuple[str, str, int] | None:
    """What kind: the exception and the line of the driver or of the promise that raised it."""
    try:
        target(data)
    except Exception as error:  # noqa: BLE001  # as above
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error) if isinstance(error, AssertionError) else ""
        return f"{type(error).__name__} {text}", last.filename, last.lineno or 0
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
