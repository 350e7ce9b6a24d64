"""The lab's hooks: its commands."""

from functools import partial

from pvc.core.commands import CommandLine
from pvc.core.declaration import Declaration
from pvc.core.hookspecs import hookimpl

COMMANDS = ("up", "demo", "down", "status", "exec", "shell", "logs", "start", "kill", "partition", "heal")


@hookimpl
def pvc_declaration() -> Declaration:
    return Declaration(summary="Runs a whole real cluster on this machine, for trials and tests")


@hookimpl
def pvc_commands(cli: CommandLine) -> None:
    """Add `pvc lab`."""
    text = "A whole real cluster on this machine, to try things out and to break. Needs root."
    cli.group("lab", help=text).later(COMMANDS, partial(_add_commands, cli))


def _add_commands(cli: CommandLine) -> None:
    from pvc.lab.cli import add_commands

    add_commands(cli)
