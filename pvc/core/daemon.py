"""One node's daemon: builds its objects, runs its services, and ends cleanly. VMs never depend on it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pvc
from pvc.core.config.settings import Config
from pvc.core.context import Context
from pvc.core.coordination import Coordinator
from pvc.core.facts import FactsPublisher
from pvc.core.lifecycle import Lifecycle
from pvc.core.liveconfig import LiveConfig, Outcome
from pvc.core.liveness import Liveness, NameTaken
from pvc.core.machine import Machine
from pvc.core.model import Finding, Node
from pvc.core.operations import OperationService
from pvc.core.pluginreports import PluginReporter
from pvc.core.plugins import Plugins, ordered
from pvc.core.pluginstatus import PluginReport
from pvc.core.residents import RolesNeeded
from pvc.core.runtime import Runtime
from pvc.core.service import Service

PATIENCE = 3.0
"""Session timeouts to wait for a predecessor's session to end before the name counts as taken."""


class Daemon:
    """Everything that runs on one node."""

    def __init__(
        self,
        config: Config,
        plugins: Plugins,
        coordinator: Coordinator,
        connect: Callable[[str], Coordinator],
        runtime: Runtime,
        machine: Machine,
        log: logging.Logger,
    ) -> None:
        """`coordinator` is the session that the node's liveness hangs on; `connect` opens further ones by name."""
        self._closing = ExitStack()
        self._closing.callback(coordinator.close)
        self._runtime = runtime
        self._connect = connect
        self._plugins = plugins
        self._live = LiveConfig(config, plugins.schemas(), log)
        self.liveness = Liveness(
            _node(config, machine, plugins),
            coordinator,
            machine,
            runtime,
            log,
            patience=PATIENCE * config.zookeeper.session_timeout,
        )
        facts = FactsPublisher(
            config.node, coordinator, runtime, log, self.liveness.registered, plugins.facts, self.findings
        )
        self.context = Context(
            node=config.node,
            config_now=self._live.now,
            runtime=runtime,
            coordinator=coordinator,
            connect=self._open,
            log=log,
            plugins=plugins,
            operations_wake=runtime.signal(),
            registered=self.liveness.registered,
            refresh_facts=facts.refresh,
        )
        plugins.bind(self.context)
        operations = OperationService(
            config.node,
            coordinator,
            runtime,
            log,
            self.liveness.registered,
            plugins.gates(),
            plugins.steps(),
            self.context.operations_wake,
        )
        reports = PluginReporter(config.node, coordinator, runtime, self.liveness.registered, self._reports)
        own: list[Service] = [self.liveness, facts, operations, reports]
        self.lifecycle = Lifecycle(ordered([*own, *plugins.services(own)]), runtime, log)

    def start(self) -> None:
        """Start all services; returns at once."""
        self.lifecycle.start()

    def stop(self) -> None:
        """Stop all services and end the sessions. VMs keep running, migrations in flight go on."""
        self.lifecycle.stop()
        self._closing.close()

    def reload(self, read: Callable[[], Config]) -> Outcome:
        """Take over what `read` says and may change while the daemon runs; every service looks at once. Raises nothing,
        logs all of it; what is left to do becomes a finding. Calls must not overlap."""
        outcome = self._live.reload(read)
        self.lifecycle.rouse()
        return outcome

    def findings(self) -> list[Finding]:
        """What a person should know about this node."""
        return [*self._live.findings(), *self.lifecycle.findings(), *self._plugins.health()]

    def hung(self) -> list[str]:
        """Names of services that make no progress any more; no restart of theirs helps, only one of the daemon."""
        return self.lifecycle.hung()

    @property
    def taken(self) -> NameTaken | RolesNeeded | None:
        """Why this daemon must end: the node's name belongs to somebody else, or VMs need roles that are off."""
        return self.liveness.taken

    def _reports(self) -> list[PluginReport]:
        return self._plugins.reports(self.lifecycle.status())

    def _open(self, name: str) -> Coordinator:
        coordinator = self._connect(name)
        self._closing.callback(coordinator.close)
        return coordinator


def load_plugins(
    config_names: Sequence[str], log: logging.Logger, ready: Mapping[str, object] | None = None
) -> Plugins:
    """The plugins of those names. Raises PluginProblem."""
    plugins = Plugins(log)
    plugins.load(config_names, ready)
    return plugins


def _node(config: Config, machine: Machine, plugins: Plugins) -> Node:
    roles = config.roles_on()
    features: tuple[Any, ...] = tuple(status.name for status in plugins.status() if status.name not in roles)
    return Node(
        name=config.node,
        roles=roles,
        plugins=features,
        address=config.address or "",
        version=pvc.__version__,
        machine=machine.identity(),
    )
