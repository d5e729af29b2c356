"""`./dev simulate`: the command line of the simulator."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from agent.station.charge_point import POLL_S
from simulate.episode import Result
from simulate.make import FAULTS, MORE_FAULTS, Menu, make_plan
from simulate.run import Progress, Runner, cores, report, run_many
from simulate.shrink import shrink

OK, FOUND, USAGE = 0, 1, 64
DEFAULT_SESSIONS = 1_000


def main(argv: list[str]) -> int:
    parser = _parser()
    given = parser.parse_args(argv)
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The same seed has to be the same run: no order may depend on this process.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "simulate", *argv])
    if given.planted:
        from simulate.planted import run_planted

        return run_planted(given.only, given.sessions or 5_000, given.jobs)
    if given.sweep:
        return _sweep(given, parser)
    menu = _menu(given, parser)
    if given.trace or (given.seed is not None and given.sessions is None):
        return _one(given.seed or 0, menu, given.trace, given.whole)
    first, sessions = given.seed or 0, given.sessions or DEFAULT_SESSIONS
    progress = Progress(sessions)
    totals = run_many(first, sessions, given.jobs, menu, progress.tell, given.stop_at)
    progress.end()
    lines = report(totals, first, progress.seconds)
    if given.json is not None:
        given.json.write_text(json.dumps(totals.to_json(), indent=1))
    if totals.found and given.shrink:
        _print_minimal(totals.found[0].seed, menu)
    print("\n".join(lines))
    return FOUND if totals.codes else OK


def _sweep(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from simulate.sweep import NoSuchPoint, Point
    from simulate.sweep_run import Order, run_one, run_sweep

    try:
        order = Order.of(given.scenario, given.steps, given.modes, given.twice, given.stop_at)
        if given.at is None:
            return run_sweep(order, given.jobs, given.write)
        if len(order.scenarios) != 1:
            parser.error("--at wants one --scenario")
        return run_one(order.scenarios[0], Point.parse(given.at))
    except NoSuchPoint as error:
        parser.error(str(error))


def _menu(given: argparse.Namespace, parser: argparse.ArgumentParser) -> Menu:
    menu = Menu(kills=not given.no_kills)
    if given.full_polling:
        menu.idle_poll_s = POLL_S
    if given.faults is not None:
        names = [name for name in given.faults.split(",") if name]
        menu.faults = tuple(name for name in names if name in FAULTS)
        menu.more_faults = tuple(name for name in names if name in MORE_FAULTS)
        known = (*FAULTS, *MORE_FAULTS)
        if unknown := set(names) - set(known):
            parser.error(f"no faults {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return menu


def _one(seed: int, menu: Menu, trace: bool, whole: bool) -> int:
    runner = Runner(menu)
    try:
        plan = make_plan(seed, menu)
        result = runner.run(plan, trace)
        if result.verdict.violations and trace and not whole:
            codes = {code for code, _ in result.verdict.violations}
            plan = shrink(plan, codes, runner.run)
            result = runner.run(plan, trace)
    finally:
        runner.close()
    if trace:
        _print(result, str(plan))
    for code, text in result.verdict.violations:
        print(f"seed {seed}: {code}: {text}")
    verdict = result.verdict
    word = "no violation" if not verdict.violations else f"{len(verdict.violations)} VIOLATIONS"
    print(f"{word} in {verdict.sessions} sessions (seed {seed}): {dict(verdict.classes)}")
    return FOUND if verdict.violations else OK


def _print_minimal(seed: int, menu: Menu) -> None:
    print(f"The minimal trace of seed {seed}:")
    _one(seed, menu, True, False)
    print()


def _print(result: Result, plan: str) -> None:
    print(plan)
    for at_ms, who, what in result.lines:
        print(f"{at_ms / 1000:10.3f}  {who:8} {what}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev simulate",
        description="Run the shipped agent in a simulated world, from seeds; exit status 1 on a violation.",
    )
    add = parser.add_argument
    add("--sessions", type=_positive, help=f"how many (default {DEFAULT_SESSIONS})")
    add("--jobs", type=_positive, default=cores(), help="processes (default: the cores)")
    add("--seed", type=int, help="the first seed; without --sessions this one alone")
    add(
        "--trace",
        action="store_true",
        help="print what happens; a violation's plan is made minimal",
    )
    add("--whole", action="store_true", help="with --trace: the plan as it is")
    add("--faults", metavar="NAME,...", help="only these kinds of trouble ('' for none)")
    add("--no-kills", action="store_true", help="processes live on")
    add("--full-polling", action="store_true", help="poll every second, also where nobody is")
    add("--stop-at", type=int, default=0, metavar="N", help="stop after N violations")
    add("--no-shrink", dest="shrink", action="store_false", help="no minimal trace at the end")
    add("--json", type=Path, help="write the counts here, too")
    add("--planted", action="store_true", help="test the judge: find each bug of tests/planted")
    add("--only", metavar="NAME", default="", help="with --planted: patches whose name holds this")
    add("--sweep", action="store_true", help="die at every step of every named scenario")
    add("--scenario", metavar="NAME,...", default="", help="with --sweep: only these")
    add("--steps", metavar="NAME,...", default="", help="with --sweep: only these kinds, or `all`")
    add("--modes", metavar="NAME,...", default="", help="with --sweep: of kill, power, torn")
    add("--twice", type=_positive, default=0, metavar="K", help="... and again in the recovery")
    add("--at", metavar="POINT", help="with --sweep: one point and its trace, e.g. write:17:power")
    add("--write", action="store_true", help="with --sweep: the table into docs/kill-sweep.md")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
