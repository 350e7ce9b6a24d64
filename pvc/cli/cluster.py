"""`pvc init` and `pvc status`."""

import logging
from typing import Any

from pvc.cli.application import Application
from pvc.cli.node import node_rows
from pvc.core.lookup import all_vms
from pvc.core.model import NodeState
from pvc.core.tree import tree_ops


def add_commands(cli: Application) -> None:
    """Add the commands that concern the cluster as a whole."""
    top = cli.group("")

    @top.command("init")
    def init() -> None:
        """Create the tree of a new cluster; refuses one that exists."""
        from pvc.core.zookeeper import initialise

        settings = cli.config.zookeeper
        initialise(settings, tree_ops(), runtime=cli.runtime, name=cli.user, log=logging.getLogger("pvc"))
        cli.say(f"the tree {settings.root} is ready; start pvcd on each node")

    @top.command("status", listing=True)
    def status() -> None:
        """Show the cluster at a glance: nodes, VMs, and what needs attention."""
        coordinator = cli.connect()
        nodes = node_rows(coordinator)
        vms, garbage = all_vms(coordinator)
        findings = [f for row in nodes for f in row["findings"]]
        row: dict[str, Any] = {
            "nodes": len(nodes),
            "nodes_alive": sum(row["alive"] for row in nodes),
            "nodes_out_of_service": [row["name"] for row in nodes if row["state"] is not NodeState.READY],
            "operations": [f"{row['name']} {row['operation']}" for row in nodes if row["active"]],
            "vms": len(vms),
            **cli.status_parts(coordinator),
            "findings": findings,
            "unreadable_records": [str(error) for error in garbage],
        }
        cli.show([row], list(row), one=True)
