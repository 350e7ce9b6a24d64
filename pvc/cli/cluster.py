"""`pvc init`."""

import logging

from pvc.cli.application import Application
from pvc.core.tree import tree_ops


def add_commands(cli: Application) -> None:
    """Add the command to the top."""

    @cli.group("").command("init")
    def init() -> None:
        """Create the tree of a new cluster; refuses one that exists."""
        from pvc.core.zookeeper import initialise

        settings = cli.config.zookeeper
        initialise(settings, tree_ops(), runtime=cli.runtime, name=cli.user, log=logging.getLogger("pvc"))
        cli.say(f"the tree {settings.root} is ready; start pvcd on each node")
