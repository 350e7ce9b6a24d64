"""The `CommandLine` that core's and plugins' commands are written against, on Typer."""

import getpass
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import typer

from pvc.cli.groups import Group, both_want
from pvc.cli.output import Format, write
from pvc.core import keys
from pvc.core.commands import DuplicateCommand
from pvc.core.config.document import Document
from pvc.core.config.problems import KeyPath
from pvc.core.config.settings import Config, ZooKeeperSettings
from pvc.core.config.switches import ROLES
from pvc.core.context import Context, Verdict
from pvc.core.coordination import CoordinationError, Coordinator
from pvc.core.errors import PvcError
from pvc.core.model import Vm
from pvc.core.plugins import Plugins
from pvc.core.runtime import Runtime

log = logging.getLogger("pvc")

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
        top = Group(
            "",
            self._choose_format,
            lambda: self.claimant,
            name="pvc",
            help="Manage a cluster of virtual machines. Talks to ZooKeeper only.",
            pretty_exceptions_enable=False,
        )
        self.app = top.app
        self._document = document
        self._plugins = plugins
        self._problem = problem
        self._groups = {"": top}
        self._status_parts: dict[str, Callable[[Coordinator], Any]] = {}
        self._status_owners = dict.fromkeys(STATUS, OURS)
        self._config: Config | None = None
        self._coordinator: Coordinator | None = None

    def whole(self) -> typer.Typer:
        """The Typer application with every command made, for what goes through all of them. Raises PvcError."""
        for group in self._groups.values():
            group.make_all()
        return self.app

    @property
    def config(self) -> Config:
        if self._problem is not None:
            raise self._problem
        if self._config is None:
            from pvc.core.setup import settings  # only now: `--help` needs no cerberus

            self._config, _ = self.overridden(settings(self._document, self._plugins))
        return self._config

    def overridden(self, config: Config) -> tuple[Config, Mapping[KeyPath, str]]:
        """The configuration with what this call of `pvc` was told beside it, and by which key what it was told."""
        if not self.zookeeper:
            return config, {}
        said = self.zookeeper
        teller = "environment PVC_ZOOKEEPER" if os.environ.get("PVC_ZOOKEEPER") == said else "option --zookeeper"
        keys_told = [("zookeeper", "hosts"), *([("zookeeper", "root")] if "/" in said else [])]
        return replace(config, zookeeper=_pointed_at(config.zookeeper, said)), dict.fromkeys(keys_told, teller)

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
        """The configuration files as read; empty if they could not be."""
        return self._document

    def readable_document(self) -> Document:
        """The configuration files as read. Raises what was wrong with them."""
        if self._problem is not None:
            raise self._problem
        return self._document

    @property
    def schemas(self) -> Mapping[str, Mapping[str, Any]]:
        return self._plugins.schemas()

    @property
    def user(self) -> str:
        return f"{getpass.getuser()}@{socket.gethostname()}"

    def group(self, name: str, help: str = "") -> Group:
        if name not in self._groups:
            outer, _, last = name.rpartition(" ")
            around = self.group(outer)
            around.claim(last)
            self._groups[name] = group = Group(name, self._choose_format, lambda: self.claimant)
            around.app.add_typer(group.app, name=last, help=help)
        return self._groups[name]

    def _choose_format(self, chosen: Format) -> None:
        self.format = chosen

    def status_part(self, name: str, look: Callable[[Coordinator], Any]) -> None:
        if name in self._status_owners:
            raise DuplicateCommand(
                both_want(f"the field `{name}` of `pvc status`", self._status_owners[name], self.claimant)
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

    def vm_needs(self, xml: str) -> dict[str, tuple[str, ...]]:
        from pvc.core.needs import needs_of

        self._have_roles()
        return needs_of(self.connect(), self._plugins.vm_needs, xml)

    def verdicts(self, vm: Vm, nodes: tuple[str, ...]) -> Mapping[str, Verdict]:
        if not vm.needs:
            return {}
        self._have_roles()
        surroundings = Context(
            node="",
            config_now=lambda: self.config,
            runtime=self.runtime,
            coordinator=self.connect(),
            connect=lambda _name: self.connect(),
            log=log,
            plugins=self._plugins,
            operations_wake=self.runtime.signal(),
            registered=lambda: False,
            refresh_facts=lambda: None,
        )
        return self._plugins.placement_by_roles(surroundings, vm, nodes)

    def complete_nodes(self, incomplete: str) -> list[str]:
        return self.complete_below(keys.NODES, incomplete)

    def complete_vms(self, incomplete: str) -> list[str]:
        return self.complete_below(keys.NAMES, incomplete)

    def _have_roles(self) -> None:
        """Load the roles that are not loaded: what a VM needs does not depend on which commands this run has."""
        loaded = {status.name for status in self._plugins.status()}
        self._plugins.load([role for role in ROLES if role not in loaded])

    def _reach_zookeeper(self, config: Config) -> Coordinator:
        from pvc.core.zookeeper import connect  # only now: `--help` needs no kazoo

        return connect(config.zookeeper, runtime=self.runtime, name=self.user, log=log)

    def complete_below(self, path: str, incomplete: str) -> list[str]:
        """Names below a path that begin so; none if the cluster does not answer quickly."""
        coordinator = self.reach_quickly()
        try:
            names = coordinator.children(path) or () if coordinator else ()
        except CoordinationError:
            return []
        return [name for name in names if name.startswith(incomplete)]


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


def _pointed_at(settings: ZooKeeperSettings, text: str) -> ZooKeeperSettings:
    """The settings with other servers: `host:port,host:port`, and optionally `/root` at the end."""
    hosts, slash, root = text.partition("/")
    named = tuple(host if ":" in host else f"{host}:2181" for host in hosts.split(",") if host)
    if not named:
        raise PvcError(f"--zookeeper {text!r} names no server; use host:port,host:port or host:port/root")
    return replace(settings, hosts=named, root=f"/{root}" if slash else settings.root)
