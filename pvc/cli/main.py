"""The program `pvc`: builds the application, hands it to core's commands and the plugins', runs it."""

import errno
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Annotated

import typer

import pvc
from pvc.cli.application import Application
from pvc.cli.output import Format
from pvc.core.config.document import Document
from pvc.core.config.layers import collect
from pvc.core.config.switches import FEATURES, ROLES, denied_plugins
from pvc.core.errors import PvcError
from pvc.core.plugins import Plugins, installed
from pvc.core.threads import ThreadRuntime

GROUPS = {
    "node": "The hosts of the cluster.",
    "cluster": "The cluster as a whole: rolling maintenance.",
    "config": "The configuration: pvc.yaml, and conf.d/*.yaml beside it.",
    "plugin": "Roles, features and third-party plugins.",
}
"""The groups of core's commands."""
PARTS: Sequence[tuple[str, str, Sequence[str] | Mapping[str, str]]] = (
    ("", "cluster", {"init": "Create the tree of a new cluster; refuses one that exists."}),
    ("", "status", {"status": "Show the cluster at a glance: nodes, VMs, and what needs attention."}),
    ("node", "node", ("list", "info")),
    ("node", "forgetting", ("forget",)),
    ("node", "operation", ("flush", "unflush", "watch", "cancel")),
    ("node", "history", ("history",)),
    ("cluster", "roll", ("roll",)),
    ("config", "config", ("check", "show", "reference")),
    ("plugin", "plugin", ("list", "info", "new")),
)
"""Where core's commands are: group, module of this package with `add_commands`, names. Imported when asked for."""
TOOLS = ("lab",)
"""Plugins that only bring commands of their own; the client always has them, whatever the node's file switches on."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What only writing fails with, to standard output mostly."""

log = logging.getLogger("pvc")


def main() -> None:
    """Entry point of `pvc`."""
    logging.basicConfig(stream=sys.stderr, format="pvc: %(message)s", level=logging.WARNING)
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    if os.environ.get("PVC_TRACE_HOOKS") == "1":
        log.setLevel(logging.INFO)
    application = build(_option("--config"))
    try:
        _run(application)
    except PvcError as error:  # the CLI's edge: a message for the person, and nothing else
        print(f"pvc: {error}", file=sys.stderr)
        sys.exit(1)
    except UnicodeEncodeError as error:
        if error.encoding == "utf-8":  # bytes of the command line that can be no name of anything
            print(f"pvc: {error.object!r} is not UTF-8; write it in that", file=sys.stderr)
        else:  # the terminal's encoding lacks a character
            which = f"{error.object[error.start : error.end]!a} in {error.encoding}"
            print(f"pvc: cannot write {which}; set LC_ALL to a UTF-8 locale, such as C.UTF-8", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader, `head` for example, has had enough
        _drop_output()
        sys.exit(1)
    except OSError as error:
        if error.errno not in FULL:
            raise
        _drop_output()
        print(f"pvc: cannot write: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    finally:
        application.close()


def _run(application: Application) -> None:
    """Run the command, and write out what it said: where that fails, it fails here and not at the interpreter's end."""
    try:
        application.app(standalone_mode=True)
    except SystemExit:
        if sys.stdout is not None:
            sys.stdout.flush()
        raise


def _drop_output() -> None:
    """What could not be written is not tried once more at the interpreter's end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build(config_path: str | None) -> Application:
    """The application with all commands; a bad configuration is kept for the first command that needs it."""
    problem: PvcError | None = None
    document = Document()
    try:
        document = collect(config_path, os.environ)
    except PvcError as error:
        problem = error
    plugins = Plugins(log, attended=True)
    for name in _client_plugins(document.values.get("plugins"), denied_plugins(document)):
        try:
            plugins.load([name])
        except PvcError as error:  # one broken plugin must not take the other commands away
            log.warning("%s", error)
    return furnish(Application(ThreadRuntime(), document, plugins, problem))


def furnish(application: Application) -> Application:
    """Add core's and the plugins' commands."""
    _add_global_options(application)
    for name, text in GROUPS.items():
        application.group(name, help=text)
    for name, module, commands in PARTS:
        application.group(name).later(commands, partial(_add, module, application))
    application.plugins.commands(application)
    return application


def _add(module: str, application: Application) -> None:
    import_module(f"pvc.cli.{module}").add_commands(application)


def _client_plugins(switches: object, denied: Sequence[str] = ()) -> list[str]:
    """Which plugins' commands the client has: roles and features unless switched off, and what the file names.

    Roles do not count here: a laptop has none and manages VMs all the same.
    """
    named = {name: on for name, on in switches.items() if isinstance(on, bool)} if isinstance(switches, dict) else {}
    wanted = {**dict.fromkeys((*ROLES, *FEATURES), True), **named}
    points = installed()
    return [name for name, on in wanted.items() if on and name in points and name not in denied] + [
        tool for tool in TOOLS if tool in points and tool not in denied
    ]


def _option(name: str) -> str | None:
    """The value of an option that must be known before commands exist."""
    arguments = sys.argv[1:]
    for index, argument in enumerate(arguments):
        if argument == "--":
            return None
        if argument == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return None


def _add_global_options(application: Application) -> None:
    @application.app.callback()
    def options(
        zookeeper: Annotated[
            str | None,
            typer.Option(
                envvar="PVC_ZOOKEEPER", metavar="SERVERS", help="Servers, host:port,host:port[/root]; else the file's."
            ),
        ] = None,
        config_file: Annotated[
            str | None,
            typer.Option(
                "--config", metavar="FILE", help="Configuration file (default: $PVC_CONFIG, /etc/pvc/pvc.yaml)."
            ),
        ] = None,
        output_format: Annotated[
            Format, typer.Option("--format", help="How listings are printed.", show_choices=True)
        ] = Format.TABLE,
        version: Annotated[
            bool,
            typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True),
        ] = False,
    ) -> None:
        application.zookeeper = zookeeper
        application.format = output_format


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pvc {pvc.__version__}")
        raise typer.Exit
