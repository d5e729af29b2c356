"""The sub-commands of ./dev. Heavy parts are imported by the command that needs them."""

import os
import sys
from collections.abc import Callable, Sequence

from dev import environment
from dev.say import DevError, say, warn

USAGE_EXIT = 64
FAILED_EXIT = 2
INTERRUPTED_EXIT = 130


def setup(arguments: Sequence[str]) -> int:
    """build the environment (`setup amqtt`: the pure-Python broker's; `setup keys`: those of the extras)"""
    if arguments not in ([], ["amqtt"], ["keys"]):
        warn(f"setup takes nothing, amqtt or keys; not {' '.join(arguments)}")
        return USAGE_EXIT
    if arguments == ["keys"]:
        from dev import extras

        extras.ensure()
        return 0
    spec = environment.amqtt_spec() if arguments else environment.main_spec()
    environment.ensure(spec)
    say(f"environment {spec.name} is complete: {spec.path}")
    return 0


def demo(arguments: Sequence[str]) -> int:
    """play one charging session from tap to acknowledged record (--stay keeps everything up)"""
    spec = environment.main_spec()
    environment.ensure(spec)
    os.chdir(environment.ROOT)
    sys.stdout.flush()
    command = [str(spec.python), "-m", "hil.demo", *arguments]
    os.execve(
        command[0], command, run_environ(spec)
    )  # never returns: signals reach the demo itself


def test(arguments: Sequence[str]) -> int:
    """the gate: format, lint, types, tests, coverage, skips (with pytest's arguments: those tests only)"""
    from dev import gate

    spec = environment.main_spec()
    environment.ensure(spec)
    return gate.run(spec, arguments, run_environ(spec))


def bench(arguments: Sequence[str]) -> int:
    """measure against yardsticks of the same run (without a name: the list of benches)"""
    spec = environment.main_spec()
    environment.ensure(spec)
    os.chdir(environment.ROOT)
    sys.stdout.flush()
    command = [str(spec.python), "-m", "bench", *arguments]
    os.execve(command[0], command, run_environ(spec))


def fuzz(arguments: Sequence[str]) -> int:
    """coverage-guided fuzzing of the terminal driver (--seconds N, names of targets; --help)"""
    spec = environment.fuzz_spec()
    environment.ensure(spec)
    os.chdir(environment.ROOT)
    sys.stdout.flush()
    command = [str(spec.python), "tests/fuzz/run.py", *arguments]
    os.execve(command[0], command, run_environ(spec))


def simulate(arguments: Sequence[str]) -> int:
    """the whole agent in a simulated world (--sessions N --jobs J; --seed N --trace; --planted; --help)"""
    spec = environment.main_spec()
    environment.ensure(spec)
    os.chdir(environment.ROOT)
    sys.stdout.flush()
    command = [str(spec.python), "-m", "simulate", *arguments]
    # A seed is the same run everywhere: nothing may depend on the order of a set of this process.
    environ = {**environment.BIG_PAGES, **run_environ(spec), "PYTHONHASHSEED": "0"}
    os.execve(command[0], command, environ)


def run_environ(spec: environment.Spec) -> dict[str, str]:
    """The environment in which the project's own programs run: that of `spec` first on PATH."""
    # Without byte-code each of the many processes would compile all of voltill again; git ignores it.
    unwanted = ("PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    environ = {name: value for name, value in os.environ.items() if name not in unwanted}
    environ["VIRTUAL_ENV"] = str(spec.path)
    environ["PATH"] = f"{spec.path / 'bin'}{os.pathsep}{environ.get('PATH', os.defpath)}"
    return environ


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "setup": setup,
    "demo": demo,
    "test": test,
    "bench": bench,
    "fuzz": fuzz,
    "simulate": simulate,
}


def usage() -> str:
    lines = ["usage: ./dev COMMAND [ARGUMENT...]", ""]
    lines += [f"  {name:8} {command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        say(usage())
        return 0 if arguments else USAGE_EXIT
    command = COMMANDS.get(arguments[0])
    if command is None:
        warn(f"no command {arguments[0]!r}\n{usage()}")
        return USAGE_EXIT
    try:
        return command(list(arguments[1:]))
    except DevError as error:
        warn(str(error))
        return FAILED_EXIT
    except KeyboardInterrupt:
        warn("interrupted")
        return INTERRUPTED_EXIT
