"""The `CommandLine` that core's and plugins' commands are written against, on Typer."""

import getpass
import inspect
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, NoReturn

import typer

from pvc.cli.output import Format, write
from pvc.core import keys
from pvc.core.commands import DuplicateCommand
from pvc.core.config.document import Document
from pvc.core.config.settings import Config, ZooKeeperSettings
from pvc.core.coordination import CoordinationError, Coordinator
from pvc.core.errors import PvcError
from pvc.core.plugins import Plugins
from pvc.core.runtime import Runtime
from pvc.core.setup import settings

log = logging.getLogger("pvc")

FormatOption = Annotated[Format | None, typer.Option("--format", help="How to print.", show_choices=True)]
STATUS = (
    "nodes",
    "nodes_alive",
    "nodes_out_of_service",
    "operations",
    "vms",
    "findings",
    "roll",
    "unreadable_records",
)
"""Core's own fields of `pvc status`."""
QUICK = 1.5
"""Seconds that what can do without the cluster, as shell completion, may spend on reaching it."""
OURS = "pvc itself"
"""Who owns core's own commands."""


class Group:
    """A group of commands; see `CommandGroup`."""

    def __init__(self, owner: "Application", app: typer.Typer, name: str) -> None:
        self._owner = owner
        self._app = app
        self._name = name
        self._taken: dict[str, str] = {}

    def claim(self, name: str) -> None:
        """Take a name in this group. Raises DuplicateCommand."""
        if name in self._taken:
            command = " ".join(word for word in ("pvc", self._name, name) if word)
            raise DuplicateCommand(_both_want(f"the command `{command}`", self._taken[name], self._owner.claimant))
        self._taken[name] = self._owner.claimant

    def command(
        self, name: str, *, listing: bool = False, **options: Any
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        self.claim(name)

        def add(function: Callable[..., None]) -> Callable[..., None]:
            chosen = _with_format(function, self._owner) if listing else function
            self._app.command(name, **options)(chosen)
            return function

        return add


class Application:
    """The running `pvc`."""

    def __init__(
        self,
        runtime: Runtime,
        document: Document,
        plugins: Plugins,
        problem: PvcError | None = None,
        connect: Callable[[Config], Coordinator] | None = None,
    ) -> None:
        """`document` and `plugins` are what `main` has read and loaded; `problem` is what was wrong with the file.

        `connect` reaches the cluster; None: ZooKeeper, as the configuration says.
        """
        self.runtime = runtime
        self._connect = connect or self._reach_zookeeper
        self.format = Format.TABLE
        self.zookeeper = os.environ.get("PVC_ZOOKEEPER")
        """Servers to use instead of the file's. From the environment at once: completion never gets to the options."""
        self.app = typer.Typer(
            name="pvc",
            help="Manage a cluster of virtual machines. Talks to ZooKeeper only.",
            no_args_is_help=True,
            context_settings={"help_option_names": ["-h", "--help"]},
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
        )
        self._document = document
        self._plugins = plugins
        self._problem = problem
        self._groups = {"": Group(self, self.app, "")}
        self._status_parts: dict[str, Callable[[Coordinator], Any]] = {}
        self._status_owners = dict.fromkeys(STATUS, OURS)
        self._config: Config | None = None
        self._coordinator: Coordinator | None = None

    @property
    def config(self) -> Config:
        if self._problem is not None:
            raise self._problem
        if self._config is None:
            config = settings(self._document, self._plugins)
            if self.zookeeper:
                config = replace(config, zookeeper=_pointed_at(config.zookeeper, self.zookeeper))
            self._config = config
        return self._config

    @property
    def plugins(self) -> Plugins:
        """The loaded plugins, for `pvc plugin list`."""
        return self._plugins

    @property
    def claimant(self) -> str:
        """Who adds commands at this moment."""
        return f"plugin {self._plugins.calling}" if self._plugins.calling else OURS

    @property
    def document(self) -> Document:
        """The configuration file as read."""
        return self._document

    @property
    def schemas(self) -> Mapping[str, Mapping[str, Any]]:
        return self._plugins.schemas()

    @property
    def user(self) -> str:
        return f"{getpass.getuser()}@{socket.gethostname()}"

    def group(self, name: str, help: str = "") -> Group:
        if name not in self._groups:
            self._groups[""].claim(name)
            app = typer.Typer(
                no_args_is_help=True, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
            )
            self.app.add_typer(app, name=name, help=help)
            self._groups[name] = Group(self, app, name)
        return self._groups[name]

    def status_part(self, name: str, look: Callable[[Coordinator], Any]) -> None:
        if name in self._status_owners:
            raise DuplicateCommand(
                _both_want(f"the field `{name}` of `pvc status`", self._status_owners[name], self.claimant)
            )
        self._status_parts[name], self._status_owners[name] = look, self.claimant

    def status_parts(self, coordinator: Coordinator) -> dict[str, Any]:
        """What plugins add to `pvc status`. Raises CoordinationError: then nothing can be shown."""
        return {name: _looked_up(look, coordinator) for name, look in self._status_parts.items()}

    def connect(self) -> Coordinator:
        if self._coordinator is None:
            self._coordinator = self._connect(self.config)
        return self._coordinator

    def reach_quickly(self) -> Coordinator | None:
        """The connection, where it is a convenience only; None if the cluster does not answer quickly."""
        try:
            config = self.config
            self._config = replace(config, zookeeper=replace(config.zookeeper, connect_timeout=QUICK))
            return self.connect()
        except PvcError:
            return None

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._coordinator is not None:
            self._coordinator.close()

    def show(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, one: bool = False) -> None:
        write(rows, columns, self.format, one=one)

    def say(self, text: str) -> None:
        typer.echo(text)

    def note(self, text: str) -> None:
        typer.echo(text, err=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        if yes:
            return
        if not sys.stdin.isatty():
            self.fail(f"{question} Nobody is there to answer; say --yes if it is meant.")
        typer.confirm(question, abort=True)

    def fail(self, message: str, code: int = 1) -> NoReturn:
        typer.echo(f"pvc: {message}", err=True)
        raise typer.Exit(code)

    def complete_nodes(self, incomplete: str) -> list[str]:
        return self._names(keys.NODES, incomplete)

    def complete_vms(self, incomplete: str) -> list[str]:
        return self._names(keys.NAMES, incomplete)

    def _reach_zookeeper(self, config: Config) -> Coordinator:
        from pvc.core.zookeeper import connect  # only now: `--help` needs no kazoo

        return connect(config.zookeeper, runtime=self.runtime, name=self.user, log=log)

    def _names(self, path: str, incomplete: str) -> list[str]:
        """Names below a path that begin so; none if the cluster does not answer quickly."""
        coordinator = self.reach_quickly()
        try:
            names = coordinator.children(path) or () if coordinator else ()
        except CoordinationError:
            return []
        return [name for name in names if name.startswith(incomplete)]


def _both_want(what: str, first: str, second: str) -> str:
    return f"{first} and {second} want {what}; the first one has it. Switch one of the two off"


def _looked_up(look: Callable[[Coordinator], Any], coordinator: Coordinator) -> Any:
    try:
        return look(coordinator)
    except CoordinationError:
        raise
    except (
        Exception,
        SystemExit,
    ) as error:  # contained: one plugin's failure must not hide what the others have to say
        return f"cannot be shown: {error}"


def _with_format(function: Callable[..., None], owner: Application) -> Callable[..., None]:
    """The same command with the option `--format`."""

    def command(*args: Any, output_format: Format | None = None, **kwargs: Any) -> None:
        if output_format is not None:
            owner.format = output_format
        function(*args, **kwargs)

    signature = inspect.signature(function)
    extra = inspect.Parameter("output_format", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=FormatOption)
    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), extra])  # type: ignore[attr-defined]  # typing has no word for it
    command.__annotations__ = {**function.__annotations__, "output_format": FormatOption}
    return command


def _pointed_at(settings: ZooKeeperSettings, text: str) -> ZooKeeperSettings:
    """The settings with other servers: `host:port,host:port`, and optionally `/root` at the end."""
    hosts, slash, root = text.partition("/")
    named = tuple(host if ":" in host else f"{host}:2181" for host in hosts.split(",") if host)
    if not named:
        raise PvcError(f"--zookeeper {text!r} names no server; use host:port,host:port or host:port/root")
    return replace(settings, hosts=named, root=f"/{root}" if slash else settings.root)
