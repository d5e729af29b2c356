"""The `voltill` command. Each sub-command is one file, imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys

import click

FAILED_EXIT = 2
USAGE_EXIT = 64  # sysexits.h EX_USAGE: systemd and scripts tell a wrong call from a failure

# name -> (module, help shown in the list). The modules are imported late: start-up time on a board.
COMMANDS = {
    "run": ("agent.cli.run", "Run the station"),
    "check": ("agent.cli.check", "Check a configuration, all errors at once"),
    "schema": ("agent.cli.schema", "Print the JSON Schema of the configuration"),
    "status": ("agent.cli.status", "What the station does, and what is not settled"),
    "price": ("agent.cli.price", "What a charge costs under a tariff"),
    "sessions": ("agent.cli.sessions", "List, show and receipt of sessions"),
    "verify": ("agent.cli.verify", "Verify signed records and their chain"),
    "ocmf": ("agent.cli.ocmf", "Verify signed meter readings (OCMF)"),
    "outbox": ("agent.cli.outbox", "Records the back end has not acknowledged"),
    "keys": ("agent.cli.keys", "Make and show keys"),
    "meter": ("agent.cli.meter", "Read energy meters, find them on a bus"),
    "terminal": ("agent.cli.terminal", "Look after one card terminal"),
    "zvt": ("agent.cli.zvt", "Decode ZVT messages"),
    "withdraw": ("agent.cli.withdraw", "Take every release back (when the agent died)"),
}


class Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name][0]}.command is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="voltill", prog_name="voltill")
def voltill() -> None:
    """voltill: the payment agent on an EV charger.

    Exit codes: 0 ok, 1 warning, 2 failed, 64 wrong call, 78 bad configuration."""


def main() -> None:
    try:
        code = voltill.main(standalone_mode=False)
        if sys.stdout is not None:  # a caller may have closed it
            sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        sys.exit(USAGE_EXIT)
    except click.ClickException as error:
        error.show()
        sys.exit(FAILED_EXIT)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # `| head` has read enough; what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
