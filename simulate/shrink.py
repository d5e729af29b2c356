"""A smaller plan with the same violation: the trace that a person reads."""

from __future__ import annotations

from collections.abc import Callable

from simulate.episode import Result
from simulate.plan import Plan

# Each try is a whole world; a plan has some ten items, looked at twice.
TRIES_MAX = 60


def shrink(plan: Plan, codes: set[str], run: Callable[[Plan], Result]) -> Plan:
    """Leaves out visits, faults and kills as long as one of `codes` is still found."""
    tries = 0
    smaller = True
    while smaller and tries < TRIES_MAX:
        smaller = False
        for name in ("visits", "faults", "kills"):
            at = 0
            while at < len(getattr(plan, name)) and tries < TRIES_MAX:
                tries += 1
                candidate = plan.without(name, at)
                if candidate.visits and _shows(run(candidate), codes):
                    plan, smaller = candidate, True
                else:
                    at += 1
    return plan


def _shows(result: Result, codes: set[str]) -> bool:
    return any(code in codes for code, _ in result.verdict.violations)
