"""Hooks of the flush lock, and nothing else."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pvc.core.commands import CommandLine
from pvc.core.context import Context
from pvc.core.coordination import Coordinator
from pvc.core.declaration import Declaration
from pvc.core.hookspecs import hookimpl
from pvc.core.mirror import Mirror
from pvc.core.turns import Gate


class FlushLockPlugin:
    """Serialises flushes and unflushes across the cluster."""

    @hookimpl
    def pvc_declaration(self) -> Declaration:
        return Declaration(summary="Lets flushes and unflushes of the cluster take turns")

    @hookimpl
    def pvc_config_schema(self) -> Mapping[str, Any]:
        from pvc.plugins.flushlock.schema import SCHEMA

        return SCHEMA

    @hookimpl
    def pvc_flush_gates(self, context: Context) -> Sequence[Gate]:
        from pvc.plugins.flushlock.gate import FlushLock
        from pvc.plugins.flushlock.limit import FlushLimit

        def setting(key: str) -> Any:
            return context.config.section("flushlock")[key]

        mirror = Mirror(context.coordinator, context.runtime, context.operations_wake)
        around = Mirror(context.coordinator, context.runtime, context.operations_wake)
        return [
            FlushLimit(around, lambda: setting("max_flushed")),
            FlushLock(context.coordinator, mirror, context.log, lambda: setting("concurrent")),
        ]

    @hookimpl
    def pvc_node_facts(self, context: Context) -> Mapping[str, Any]:
        from pvc.plugins.flushlock.keys import FACTS

        section = context.config.section("flushlock")
        return {fact: "off" if section[key] is None else section[key] for key, fact in FACTS.items()}

    @hookimpl
    def pvc_commands(self, cli: CommandLine) -> None:
        cli.group("node").later(("queue",), partial(_add_commands, cli))
        cli.status_part("flush_lock", _lock)
        cli.status_part("flush_lock_problems", _problems)


def _add_commands(cli: CommandLine) -> None:
    from pvc.plugins.flushlock.cli import add_commands

    add_commands(cli)


def _lock(coordinator: Coordinator) -> object:
    from pvc.plugins.flushlock.cli import lock_row

    return lock_row(coordinator)


def _problems(coordinator: Coordinator) -> object:
    from pvc.plugins.flushlock.cli import problem_rows

    return problem_rows(coordinator)
