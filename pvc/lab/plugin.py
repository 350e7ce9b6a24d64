"""The lab's hooks: its commands."""

from pvc.core.commands import CommandLine
from pvc.core.hookspecs import hookimpl


@hookimpl
def pvc_commands(cli: CommandLine) -> None:
    """Add `pvc lab`."""
    from pvc.lab.cli import add_commands  # only now: nobody else needs Typer for this plugin

    add_commands(cli)
