"""`python -m hil terminal|meter|evse|charger|backend ...`: one simulator as a process of its own."""

from __future__ import annotations

import importlib
import sys

# Loaded by name only when asked for: a meter needs neither MQTT nor cryptography.
COMMANDS = {
    "terminal": ("hil.terminal.cli:main", "ZVT payment terminal on a serial line"),
    "meter": ("hil.meter.cli:main", "Modbus RTU energy meter, any of the catalogue"),
    "evse": ("hil.charger.cli:main_evse", "Modbus RTU charge controller"),
    "charger": ("hil.charger.cli:main_charger", "charge controller and meter with a car, one bus"),
    "backend": ("hil.backend.cli:main", "back end that receives records over MQTT"),
    "netproxy": ("hil.netproxy:main", "TCP proxy between agent and broker that can be cut"),
    "verify": ("hil.verify.cli:main", "four-way check of acquirer, back end, agent and receipts"),
}
EXIT_USAGE = 64


def usage() -> str:
    rows = [f"  {name:<9} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m hil COMMAND [--help]", "", "simulators:", *rows],
    )


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else EXIT_USAGE
    if argv[0] not in COMMANDS:
        print(f"no such simulator: {argv[0]}\n{usage()}", file=sys.stderr)
        return EXIT_USAGE
    module_name, function = COMMANDS[argv[0]][0].split(":")
    return int(getattr(importlib.import_module(module_name), function)(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
