"""`pvc plugin list`, `pvc plugin info` and `pvc plugin new`: what is installed here, and what nodes tell of theirs."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any

import typer

from pvc.cli.application import Application
from pvc.cli.skeleton import write_skeleton
from pvc.core import keys
from pvc.core.commands import Moment, Seconds
from pvc.core.config.switches import ROLES, enabled_plugins
from pvc.core.coordination import CoordinationError, Coordinator
from pvc.core.lookup import find_node, nearest
from pvc.core.pluginreports import PluginReports, read_reports
from pvc.core.plugins import installed
from pvc.core.pluginstatus import PluginReport, PluginState, PluginStatus
from pvc.core.records import Garbage

COLUMNS = ("name", "kind", "enabled", "version", "distribution", "state", "nodes", "trouble_on")
FOR_COMMANDS = "commands only"
"""State of what is not switched on here and loaded all the same: this program has the commands of every role."""
COLUMNS_OF_A_NODE = ("name", "state", "version", "distribution", "failures", "last_error")


def add_commands(cli: Application) -> None:
    """Add to the group `plugin`."""
    group = cli.group("plugin")
    Node = Annotated[
        str | None, typer.Option(metavar="NODE", help="As this node runs them.", autocompletion=cli.complete_nodes)
    ]

    @group.command("list", listing=True)
    def list_plugins(node: Node = None) -> None:
        """Show every plugin that is installed here or runs on a node; without a cluster, what is installed here."""
        if node is not None:
            reports = _of_node(cli.connect(), node)
            cli.show([_row(report, reports) for report in reports.plugins], COLUMNS_OF_A_NODE)
            return
        told = _of_all_nodes(cli)
        here = _installed_here(cli)
        names = sorted({*here, *(report.name for reports in told.values() for report in reports.plugins)})
        cli.show([{**here.get(name, _absent(name)), **_across(name, told)} for name in names], COLUMNS)

    @group.command("info", listing=True)
    def info(
        name: Annotated[str, typer.Argument(metavar="NAME", help="The plugin.", autocompletion=_complete)],
        node: Node = None,
    ) -> None:
        """Show one plugin: where it comes from, what it implements, and how it behaves on the nodes or on one of them.
        Times are in seconds, since the node's daemon started."""
        if node is not None:
            reports = _of_node(cli.connect(), node)
            report = _named(reports, name)
            if report is None:
                cli.fail(f"plugin {name} is not switched on at {node}; `pvc plugin list --node {node}` shows what is")
            row = _row(report, reports)
        else:
            told = _of_all_nodes(cli)
            row = {**_installed_here(cli).get(name, _absent(name)), **_across(name, told)}
            row["on_nodes"] = [
                {"node": where, **{key: _row(report, reports)[key] for key in ("state", "version", *_TROUBLE)}}
                for where, reports in told.items()
                if (report := _named(reports, name)) is not None
            ]
            if name not in installed() and not row["on_nodes"]:
                close = nearest(name, installed())
                hint = f"did you mean {' or '.join(close)}?" if close else "`pvc plugin list` shows what is installed"
                cli.fail(f"there is no plugin {name!r} here or on a node; {hint}")
        cli.show([row], list(row), one=True)

    @group.command("new")
    def new(
        name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and underscores.")],
        directory: Annotated[Path | None, typer.Option(help="Where to make it (default: ./pvc-NAME).")] = None,
    ) -> None:
        """Make the skeleton of a third-party plugin: a distribution with settings, a service, a gate, a command and
        tests. Nothing that exists is overwritten."""
        made = write_skeleton(name, directory, cli.group("").names)
        cli.say(
            f"{made} is ready: try `pip install -e '{made}[dev]'` and `pytest {made}`, then set plugins.{name}: true"
        )


_TROUBLE = ("failures", "last_error", "last_error_at")


def _complete(incomplete: str) -> list[str]:
    return [name for name in sorted(installed()) if name.startswith(incomplete)]


def _of_node(coordinator: Coordinator, node: str) -> PluginReports:
    """Raises NotFound."""
    find_node(coordinator, node)
    return read_reports(coordinator, node) or PluginReports(0.0)


def _of_all_nodes(cli: Application) -> dict[str, PluginReports]:
    """What the nodes tell, by node; nothing, and a note, if the cluster does not answer quickly."""
    coordinator = cli.reach_quickly()
    try:
        nodes = coordinator.children(keys.NODES) or () if coordinator else ()
        found = {node: _readable(cli, coordinator, node) for node in nodes} if coordinator else {}
    except CoordinationError:
        coordinator, found = None, {}
    if coordinator is None:
        cli.note("pvc: no cluster is reached; this is what is installed here")
    return {node: reports for node, reports in found.items() if reports is not None}


def _readable(cli: Application, coordinator: Coordinator, node: str) -> PluginReports | None:
    try:
        return read_reports(coordinator, node)
    except Garbage as error:
        cli.note(f"pvc: {error}")
        return None


def _installed_here(cli: Application) -> dict[str, dict[str, Any]]:
    """A row for each plugin of this machine, by name."""
    points = installed()
    enabled = enabled_plugins(cli.document, sorted(points))
    known = {status.name: status for status in (*cli.plugins.status(), *cli.plugins.left_out())}
    return {
        name: {
            "name": name,
            "kind": "role" if name in ROLES else "plugin",
            "enabled": name in enabled,
            **_origin(point),
            **_as_loaded(known.get(name)),
            **({"state": FOR_COMMANDS} if name in known and name not in enabled else {}),
        }
        for name, point in points.items()
    }


def _origin(point: EntryPoint) -> dict[str, Any]:
    dist = point.dist
    return {
        "version": dist.version if dist else None,
        "distribution": dist.name if dist else None,
        "origin": point.value,
    }


def _as_loaded(status: PluginStatus | None) -> dict[str, Any]:
    """What this program itself knows of a plugin; it loads those that are switched on."""
    if status is None:
        return {
            "state": "not loaded",
            "summary": None,
            "api": None,
            "hooks": [],
            "needs": [],
            "conflicts": [],
            "error": None,
        }
    declared = status.declaration
    return {
        "state": status.state,
        "summary": declared.summary or None,
        "api": declared.api,
        "hooks": list(status.hooks),
        "needs": list(declared.needs),
        "conflicts": list(declared.conflicts),
        "error": status.last_error or None,
    }


def _absent(name: str) -> dict[str, Any]:
    """The row of a plugin that only other machines have."""
    nothing = {"version": None, "distribution": None, "origin": "not installed here"}
    return {"name": name, "kind": "plugin", "enabled": False, **nothing, **_as_loaded(None)}


def _across(name: str, told: Mapping[str, PluginReports]) -> dict[str, Any]:
    """The nodes that have the plugin switched on, and those of them where it is not well."""
    reports = {node: report for node, all_of in told.items() if (report := _named(all_of, name)) is not None}
    return {"nodes": list(reports), "trouble_on": [node for node, report in reports.items() if not _is_well(report)]}


def _is_well(report: PluginReport) -> bool:
    return report.state is PluginState.LOADED and all(service.state != "failing" for service in report.services)


def _named(reports: PluginReports, name: str) -> PluginReport | None:
    return next((report for report in reports.plugins if report.name == name), None)


def _row(report: PluginReport, reports: PluginReports) -> dict[str, Any]:
    """All that a node tells of a plugin."""
    return {
        "name": report.name,
        "state": report.state,
        "version": report.version or None,
        "distribution": report.distribution or None,
        "origin": report.entry_point,
        "summary": report.summary or None,
        "api": report.api,
        "needs": list(report.needs),
        "conflicts": list(report.conflicts),
        "failures": report.failures,
        "last_error": report.last_error or None,
        "last_error_at": None if report.last_error_at is None else Moment(report.last_error_at),
        "services": [
            {"service": s.name, "state": s.state, "failures": s.failures, "last_error": s.last_error or None}
            for s in report.services
        ],
        "hooks": [
            {"hook": hook, "calls": t.calls, "total": Seconds(t.total), "longest": Seconds(t.longest)}
            for hook, t in report.hooks.items()
        ],
        "told_at": Moment(reports.at),
    }
