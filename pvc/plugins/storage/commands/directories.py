"""`pvc directory`: what nodes publish of their shared directories. Talks to the tree only."""

from typing import Annotated

import typer

from pvc.core.commands import CommandLine
from pvc.core.lookup import nodes_with_role, read_facts
from pvc.plugins.storage.decide.directories import Published
from pvc.plugins.storage.neighbours import published_in
from pvc.plugins.storage.schema import SECTION

COLUMNS = ("node", "directory", "path", "total", "free", "problem")


def add_commands(cli: CommandLine) -> None:
    """Add to the group `directory`."""
    group = cli.group("directory")
    Only = Annotated[
        str | None, typer.Option("--node", help="Only those of this node.", autocompletion=cli.complete_nodes)
    ]

    @group.command("list", listing=True)
    def list_directories(node: Only = None) -> None:
        """Show the shared directories of each node, their room in MiB, and what is wrong with them."""
        coordinator = cli.connect()
        rows = []
        for name in nodes_with_role(coordinator, SECTION, node):
            published = published_in(read_facts(coordinator, name)) or Published()
            for directory, room in published.directories.items():
                rows.append(
                    {
                        "node": name,
                        "directory": directory,
                        "path": room.path,
                        "total": room.total,
                        "free": room.free,
                        "problem": room.problem or None,
                    }
                )
        cli.show(rows, COLUMNS)
