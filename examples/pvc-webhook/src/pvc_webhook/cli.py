"""`pvc window`: the maintenance windows of each node, from any machine."""

from typing import Annotated

import typer
from pvc.core import keys
from pvc.core.commands import CommandLine, Moment
from pvc.core.coordination import Coordinator
from pvc.core.lookup import find_node
from pvc.core.model import NodeFacts
from pvc.core.records import Garbage, decode

from pvc_webhook.schema import FACT
from pvc_webhook.windows import BadWindow, Windows


def add_commands(cli: CommandLine) -> None:
    """Add the group `window`."""
    group = cli.group("window", help="When flushes may begin.")
    Node = Annotated[
        str | None, typer.Option(metavar="NODE", help="Only this node.", autocompletion=cli.complete_nodes)
    ]

    @group.command("show", listing=True)
    def show(node: Node = None) -> None:
        """Show the maintenance windows of each node, and whether one is open now."""
        coordinator, now = cli.connect(), cli.runtime.now()
        if node is not None:
            find_node(coordinator, node)
        rows = []
        for name in [node] if node is not None else coordinator.children(keys.NODES) or ():
            windows = _windows(coordinator, name)
            opens = windows.opens(now) if windows else None
            rows.append(
                {
                    "node": name,
                    "windows": list(windows.texts) if windows else None,
                    "timezone": windows.timezone if windows else None,
                    "open": windows.are_open(now) if windows else None,
                    "opens": None if opens is None else Moment(opens),
                }
            )
        cli.show(rows, ["node", "windows", "timezone", "open", "opens"])


def _windows(coordinator: Coordinator, node: str) -> Windows | None:
    """The windows that a node has told; None: it has not, because the plugin is off there, say."""
    path = keys.node_facts(node)
    znode = coordinator.get(path)
    try:
        fact = decode(NodeFacts, znode.data, path).extra.get(FACT) if znode is not None else None
        return None if fact is None else Windows.of_fact(fact)
    except (Garbage, BadWindow):
        return None
