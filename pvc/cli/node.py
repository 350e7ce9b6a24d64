"""`pvc node`: the hosts. Their flushes and unflushes are in `operation.py`."""

from typing import Annotated, Any

import typer

from pvc.cli.application import Application
from pvc.cli.history import outcome_rows
from pvc.core import keys
from pvc.core.commands import Moment
from pvc.core.coordination import Coordinator
from pvc.core.decide.roles import described
from pvc.core.lookup import all_nodes, find_node, read_facts
from pvc.core.model import FINAL, Fence, Node, Operation
from pvc.core.records import Garbage
from pvc.core.requests import read_operation

COLUMNS = ("name", "state", "alive", "operation", "roles", "vms", "memory", "memory_used", "load", "problems")


def add_commands(cli: Application) -> None:
    """Add to the group `node`."""
    group = cli.group("node")
    Name = Annotated[str, typer.Argument(metavar="NODE", help="The node.", autocompletion=cli.complete_nodes)]

    @group.command("list", listing=True)
    def list_nodes() -> None:
        """Show all nodes."""
        cli.show(node_rows(cli.connect(), cli), COLUMNS)

    @group.command("info", listing=True)
    def info(name: Name) -> None:
        """Show everything about one node."""
        coordinator = cli.connect()
        node = find_node(coordinator, name)
        row = _row(coordinator, node)
        operation = _operation(coordinator, name)
        row["outcomes"] = outcome_rows(operation) if operation else []
        cli.show([row], list(row), one=True)


def node_rows(coordinator: Coordinator, cli: Application | None = None) -> list[dict[str, Any]]:
    """A row for every node; records that cannot be read are reported and left out."""
    nodes, garbage = all_nodes(coordinator)
    for error in garbage:
        if cli is not None:
            cli.note(f"pvc: {error}")
    return [_row(coordinator, node) for node in nodes]


def _row(coordinator: Coordinator, node: Node) -> dict[str, Any]:
    facts = read_facts(coordinator, node.name)
    operation = _operation(coordinator, node.name)
    active = operation is not None and operation.phase not in FINAL
    used = sum(facts.vms.values())
    return {
        "name": node.name,
        "state": node.state,
        "alive": coordinator.get(keys.node_session(node.name)) is not None,
        "active": active,
        "operation": f"{operation.kind.value} {operation.phase.value}" if operation else None,
        "operation_by": operation.by if operation else None,
        "operation_reason": operation.reason if operation else None,
        "operation_since": Moment(operation.requested) if operation else None,
        "operation_message": (operation.message or operation.waiting) if operation else None,
        "roles": list(node.roles),
        "roles_changed": described(node.roles_changed) if node.roles_changed else None,
        "roles_changed_at": Moment(node.roles_changed.at) if node.roles_changed else None,
        "fenced": _fenced(node.fence) if node.fence else None,
        "fenced_by": node.fence.by if node.fence else None,
        "fenced_at": Moment(node.fence.at) if node.fence else None,
        "fenced_reason": node.fence.reason if node.fence else None,
        "plugins": list(node.plugins),
        "address": node.address,
        "version": node.version,
        "vms": len(facts.vms),
        "memory": facts.memory,
        "memory_used": used,
        "cpus": facts.cpus,
        "load": facts.load,
        "facts_at": Moment(facts.at) if facts.at else None,
        "problems": sum(finding.severity.value != "ok" for finding in facts.findings),
        "findings": [
            {"node": node.name, "source": f.source, "severity": f.severity, "text": f.text} for f in facts.findings
        ],
    }


def _fenced(fence: Fence) -> str:
    """How far a declaration that a node is dead has been followed by its return."""
    if not fence.returned:
        return "declared dead"
    return f"is back; pools that still keep it out: {', '.join(fence.cut)}"


def _operation(coordinator: Coordinator, name: str) -> Operation | None:
    try:
        found = read_operation(coordinator, name)
    except Garbage:
        return None
    return None if found is None else found[0]
