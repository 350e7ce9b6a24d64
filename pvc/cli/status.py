"""`pvc status`."""

from typing import Any

from pvc.cli.application import Application
from pvc.cli.node import node_rows
from pvc.core.decide.roll import standing
from pvc.core.lookup import all_vms
from pvc.core.model import NodeState
from pvc.core.records import Garbage
from pvc.core.rolls import read_roll


def add_commands(cli: Application) -> None:
    """Add the command to the top."""

    @cli.group("").command("status", listing=True)
    def status() -> None:
        """Show the cluster at a glance: nodes, VMs, and what needs attention."""
        coordinator = cli.connect()
        nodes = node_rows(coordinator)
        vms, garbage = all_vms(coordinator)
        findings = [f for row in nodes for f in row["findings"]]
        unreadable = [str(error) for error in garbage]
        try:
            roll = read_roll(coordinator)
        except Garbage as error:
            roll = None
            unreadable.append(str(error))
        row: dict[str, Any] = {
            "nodes": len(nodes),
            "nodes_alive": sum(row["alive"] for row in nodes),
            "nodes_out_of_service": [row["name"] for row in nodes if row["state"] is not NodeState.READY],
            "operations": [f"{row['name']} {row['operation']}" for row in nodes if row["active"]],
            "roll": f"{standing(roll[0])}; begun by {roll[0].by}" if roll else None,
            "vms": len(vms),
            **cli.status_parts(coordinator),
            "findings": findings,
            "unreadable_records": unreadable,
        }
        cli.show([row], list(row), one=True)
