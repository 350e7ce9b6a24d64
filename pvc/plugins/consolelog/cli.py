"""`pvc vm log`: the console log of a VM, read from the cluster. Needs nothing of the daemon's side."""

import io
import os
import shlex
import sys
from typing import Annotated

import typer

from pvc.core.commands import CommandLine
from pvc.core.errors import PvcError
from pvc.core.lookup import find_vm
from pvc.core.process import CommandFailed, SystemProcesses
from pvc.plugins.consolelog.printer import Printer, Sink, Style, moment
from pvc.plugins.consolelog.reader import Page, follow, read_page

LINES = 1000
"""Lines shown unless asked for otherwise."""
LINES_FOLLOWING = 10
"""The same for -f."""


def add_commands(cli: CommandLine) -> None:
    """Add the plugin's command to the group `vm`."""

    @cli.group("vm").command("log")
    def log(
        vm: Annotated[str, typer.Argument(help="Name or UUID of the VM.", autocompletion=cli.complete_vms)],
        following: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what the VM prints.")] = False,
        lines: Annotated[
            int | None,
            typer.Option("--lines", "-n", min=0, help=f"Lines to show; {LINES}, or {LINES_FOLLOWING} with -f."),
        ] = None,
        timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin lines with when they came.")] = False,
        raw: Annotated[bool, typer.Option("--raw", help="Pass the VM's bytes on unchanged.")] = False,
    ) -> None:
        """Show what a VM printed on its serial console, whichever nodes it was on."""
        if raw and timestamps:
            cli.fail("--raw leaves the output unchanged, --timestamps adds to it; choose one", 2)
        style = Style(terminal=sys.stdout.isatty(), raw=raw, timestamps=timestamps)
        found = find_vm(cli.connect(), vm)
        if following:
            _follow(cli, found.uuid, LINES_FOLLOWING if lines is None else lines, style)
            return
        page = read_page(cli.connect(), found.uuid, LINES if lines is None else lines)
        if page is None:
            cli.fail(
                f"nothing of {found.name} has been published; does it have a serial console, and does the plugin "
                f"consolelog run on {found.node}?"
            )
        _show(cli, page, style)


def _follow(cli: CommandLine, uuid: str, lines: int, style: Style) -> None:
    printer = Printer(sys.stdout.buffer, cli.note, style)
    try:
        for item in follow(cli.connect(), cli.runtime, uuid, lines):
            printer.print(item)
    finally:
        printer.end()


def _show(cli: CommandLine, page: Page, style: Style) -> None:
    if not page.writer_lives:
        cli.note(f"node {page.header.writer}, which wrote this log, is down; last entry {moment(page.modified)}")
    if not style.terminal or style.raw:
        _print(cli, page, style, sys.stdout.buffer)
        return
    text = io.BytesIO()
    _print(cli, page, style, text)
    try:
        SystemProcesses().pipe_to(pager(), [text.getvalue()])
    except CommandFailed as error:
        cli.note(f"{error}; set PAGER to another one")
        sys.stdout.buffer.write(text.getvalue())


def _print(cli: CommandLine, page: Page, style: Style, out: Sink) -> None:
    printer = Printer(out, cli.note, style)
    for chunk in page.chunks:
        printer.print(chunk)
    printer.end()


def pager() -> list[str]:
    """The command that $PAGER names, else `less -R`. Raises PvcError for a value that is no command line."""
    try:
        return shlex.split(os.environ.get("PAGER", "")) or ["less", "-R"]
    except ValueError as error:
        raise PvcError(f"PAGER cannot be understood: {error}; mend its quotes") from error
