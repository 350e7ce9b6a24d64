"""`pvc vm log` and `pvc console`. Needs nothing of the daemon's side."""

import io
import os
import re
import shlex
import sys
import warnings
from dataclasses import dataclass
from enum import StrEnum
from heapq import merge
from typing import Annotated

import typer

from pvc.core.commands import CommandLine
from pvc.core.decide.roles import HYPERVISOR
from pvc.core.errors import PvcError
from pvc.core.lookup import demand_role, find_node, find_vm
from pvc.core.model import Vm
from pvc.core.process import CommandFailed, SystemProcesses
from pvc.plugins.consolelog.absence import why_no_log
from pvc.plugins.consolelog.console import attach_command, find_console, uri_of
from pvc.plugins.consolelog.decide.follow import Start
from pvc.plugins.consolelog.decide.moments import moment_of
from pvc.plugins.consolelog.decide.terminal import Colours
from pvc.plugins.consolelog.following import Following, members, state_of
from pvc.plugins.consolelog.pens import JsonPen, Look, RawPrinter, Sink, TextPen
from pvc.plugins.consolelog.printer import Choice, Printer
from pvc.plugins.consolelog.reader import Notice, Page, read_page
from pvc.plugins.consolelog.schema import SECTION, settings

LINES = 1000
"""Lines shown unless asked for otherwise."""
LINES_FOLLOWING = 10
"""The same for -f."""
USAGE = 2
"""Wrong words on the command line."""


class LogFormat(StrEnum):
    """How a log is printed."""

    TEXT = "text"
    JSONL = "jsonl"


class WrongWords(PvcError):
    """Options that mean nothing, or not together."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a person asked to see."""

    vms: tuple[Vm, ...]
    """Those named, each once."""
    node: str | None
    start: Start
    form: LogFormat
    timestamps: bool
    raw: bool

    @property
    def is_text(self) -> bool:
        return self.form is LogFormat.TEXT

    @property
    def is_one(self) -> bool:
        return self.node is None and len(self.vms) == 1


def add_log(cli: CommandLine) -> None:
    """Add `vm log`."""

    @cli.group("vm").command("log")
    def log(
        vms: Annotated[
            list[str] | None,
            typer.Argument(metavar="VM", help="Names or UUIDs.", autocompletion=cli.complete_vms),
        ] = None,
        node: Annotated[
            str | None,
            typer.Option(help="The VMs of this node, as they come and go.", autocompletion=cli.complete_nodes),
        ] = None,
        following: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what they print.")] = False,
        lines: Annotated[
            int | None,
            typer.Option(
                "--lines",
                "-n",
                min=0,
                help=f"Lines to show of each; {LINES}, {LINES_FOLLOWING} with -f, all with --since.",
            ),
        ] = None,
        since: Annotated[
            str | None, typer.Option(help="Only what came since: 10m, 1h30m ago, 14:30, 2026-11-22T14:30.")
        ] = None,
        timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin lines with when they came.")] = False,
        grep: Annotated[
            str | None, typer.Option(help="Only lines in which this regular expression (Python's) is found.")
        ] = None,
        raw: Annotated[bool, typer.Option("--raw", help="Pass on what a VM printed unchanged.")] = False,
        form: Annotated[LogFormat, typer.Option("--format", help="jsonl: one JSON object a line.")] = LogFormat.TEXT,
    ) -> None:
        """Show what VMs printed on their serial consoles, whichever nodes they were on."""
        try:
            _refuse_nonsense(vms or [], node, timestamps, grep, raw, form)
            begin = None if since is None else moment_of(since, cli.runtime.now())
            wanted = None if grep is None else expression(grep)
        except PvcError as error:
            cli.fail(str(error), USAGE)
        if lines is None and since is None:
            lines = LINES_FOLLOWING if following else LINES
        found = {vm.uuid: vm for vm in (find_vm(cli.connect(), name) for name in vms or ())}
        if node is not None:
            found_node = find_node(cli.connect(), node)
            if following:  # for ever, and nothing would come
                demand_role(cli.connect(), found_node, HYPERVISOR)
        asked = _Asked(tuple(found.values()), node, Start(lines, begin, wanted), form, timestamps, raw)
        if following:
            _follow(cli, asked)
        else:
            _show(cli, asked)


def add_console(cli: CommandLine) -> None:
    """Add `console`."""

    @cli.group("").command("console")
    def console(
        name: Annotated[str, typer.Argument(metavar="VM", help="Name or UUID.", autocompletion=cli.complete_vms)],
        force: Annotated[bool, typer.Option("--force", help="Disconnect whoever is on it.")] = False,
    ) -> None:
        """Sit at a VM's serial console; Ctrl-] leaves it. Goes through virsh to the libvirt of the VM's node."""
        place = find_console(cli.connect(), find_vm(cli.connect(), name))
        uri = uri_of(settings(cli.config.section(SECTION)).console_uri, place.node)
        command = attach_command(place, uri, force=force)
        cli.note(f"{place.vm.name} runs on {place.node.name}; leave its console with Ctrl-]")
        if SystemProcesses().attach(command) != 0:
            cli.fail(
                f"`{shlex.join(command)}` failed; if {uri} cannot be reached from here, correct consolelog.console_uri "
                f"in pvc.yaml, or run `virsh console {place.vm.name}` on {place.node.name}"
            )


def expression(text: str) -> re.Pattern[str]:
    """The regular expression that a text is. Raises WrongWords, also for what Python finds ambiguous."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return re.compile(text)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise WrongWords(
            f"--grep {text!r} is no regular expression: {error}; put a backslash before what is meant literally"
        ) from error


def _refuse_nonsense(
    vms: list[str], node: str | None, timestamps: bool, grep: str | None, raw: bool, form: LogFormat
) -> None:
    text = form is LogFormat.TEXT
    if not vms and node is None:
        raise WrongWords("say whose log: name a VM, or --node for all VMs of a node")
    if raw and grep is not None:
        raise WrongWords("--raw passes on everything, --grep chooses lines; choose one")
    if raw and text and timestamps:
        raise WrongWords("--raw leaves the output unchanged, --timestamps adds to it; choose one")
    if raw and text and (node is not None or len(vms) > 1):
        raise WrongWords("--raw leaves the output unchanged, so it is for one VM; for several add --format jsonl")
    if timestamps and not text:
        raise WrongWords("with --format jsonl every object has its time in `at`; leave --timestamps out")


def _follow(cli: CommandLine, asked: _Asked) -> None:
    coordinator = cli.connect()
    following = Following(coordinator, cli.runtime, asked.start, asked.vms, asked.node)
    printer = _printer(cli, asked, sys.stdout.buffer, sys.stdout.isatty(), [vm.name for vm in asked.vms])
    for vm in asked.vms:
        if read_page(coordinator, vm.uuid, Start(lines=0)) is None:
            cli.note(f"{why_no_log(coordinator, vm)}; waiting for it")
    if asked.node is not None and not members(coordinator, asked.node):
        cli.note(f"no VM is on {asked.node}; waiting for one")
    try:
        while True:
            for told in following.poll():
                printer.print(told.vm, told.item)
            printer.print_due()
            if following.ended:
                break
            following.wait(printer.pause)
    finally:
        printer.end()
    if following.garbage:
        raise typer.Exit(1)


def _show(cli: CommandLine, asked: _Asked) -> None:
    coordinator = cli.connect()
    vms = {vm.uuid: vm for vm in (*(members(coordinator, asked.node) if asked.node else ()), *asked.vms)}
    pages: list[tuple[Vm, Page]] = []
    for vm in vms.values():
        page = read_page(coordinator, vm.uuid, asked.start)
        if vm not in asked.vms and (vm.node if page is None else page.header.writer) != asked.node:
            continue  # the node has business with it, but it is elsewhere
        if page is not None:
            pages.append((vm, page))
        elif asked.is_one:
            cli.fail(why_no_log(coordinator, vm))
        else:
            cli.note(f"pvc: {why_no_log(coordinator, vm)}")
    if not pages:
        if asked.node is not None:
            demand_role(coordinator, find_node(coordinator, asked.node), HYPERVISOR)
        cli.fail("there is nothing to show" if asked.vms else f"no VM on {asked.node} has a log; see `pvc vm list`")
    if not sys.stdout.isatty() or asked.raw or not asked.is_text:
        _print(cli, asked, pages, sys.stdout.buffer, sys.stdout.isatty())
        return
    text = io.BytesIO()
    _print(cli, asked, pages, text, True)
    try:
        SystemProcesses().pipe_to(pager(), [text.getvalue()])
    except CommandFailed as error:
        cli.note(f"{error}; set PAGER to another one")
        sys.stdout.buffer.write(text.getvalue())


def _print(cli: CommandLine, asked: _Asked, pages: list[tuple[Vm, Page]], out: Sink, terminal: bool) -> None:
    printer = _printer(cli, asked, out, terminal, [vm.name for vm, _ in pages])
    streams = ([(vm.name, chunk) for chunk in page.chunks] for vm, page in pages)
    for name, chunk in merge(*streams, key=lambda each: each[1].at):
        printer.print(name, chunk)
    for vm, page in pages:
        printer.print(vm.name, Notice(state_of(page.header.writer, page.silent, page.spoke, cli.runtime.now())))
    printer.end()


def _printer(cli: CommandLine, asked: _Asked, out: Sink, terminal: bool, names: list[str]) -> Printer | RawPrinter:
    if asked.raw and asked.is_text:
        return RawPrinter(out, cli.note)
    wanted = asked.start.wanted
    apart = not asked.is_one or wanted is not None
    if not asked.is_text:
        colours = Colours.UNTOUCHED if asked.raw else Colours.REMOVED
        return Printer(JsonPen(out, cli.note), Choice(colours, wanted=wanted), cli.runtime.monotonic)
    look = Look(terminal, asked.timestamps, prefix=not asked.is_one, apart=apart)
    choice = Choice(Colours.KEPT if terminal else Colours.REMOVED, whole=apart, wanted=wanted)
    return Printer(TextPen(out, cli.note, look, names), choice, cli.runtime.monotonic)


def pager() -> list[str]:
    """The command that $PAGER names, else `less -R`. Raises PvcError for a value that is no command line."""
    try:
        return shlex.split(os.environ.get("PAGER", "")) or ["less", "-R"]
    except ValueError as error:
        raise PvcError(f"PAGER cannot be understood: {error}; mend its quotes") from error
