"""`pvc bridge`: what nodes publish of their bridges. Talks to the tree only."""

from typing import Annotated

import typer

from pvc.core.commands import CommandLine
from pvc.core.lookup import nodes_with_role, read_facts
from pvc.plugins.networking.keys import LACKING, UP
from pvc.plugins.networking.schema import SECTION


def add_commands(cli: CommandLine) -> None:
    """Add to the group `bridge`."""
    group = cli.group("bridge")
    Only = Annotated[
        str | None, typer.Option("--node", help="Only those of this node.", autocompletion=cli.complete_nodes)
    ]

    @group.command("list", listing=True)
    def list_bridges(node: Only = None) -> None:
        """Show which bridges are up on which node, and which should be and are not."""
        coordinator = cli.connect()
        rows = []
        for name in nodes_with_role(coordinator, SECTION, node):
            published = read_facts(coordinator, name).extra
            rows.append(
                {"node": name, "up": published.get(UP, "").split(), "lacking": published.get(LACKING, "").split()}
            )
        cli.show(rows, ("node", "up", "lacking"))
