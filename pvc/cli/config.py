"""`pvc config check` and `pvc config show`."""

import logging
from typing import Annotated

import typer
import yaml

from pvc.cli.application import Application
from pvc.core.config.explain import as_mapping
from pvc.core.setup import load

log = logging.getLogger("pvc")


def add_commands(cli: Application) -> None:
    """Add to the group `config`."""
    group = cli.group("config")

    @group.command("check")
    def check(file: Annotated[str | None, typer.Argument(help="The file; default: the one in use.")] = None) -> None:
        """Check a configuration file and show every problem with its line."""
        setup = load(file or cli.document.path, log)
        where = setup.config.path or "no file: defaults only"
        cli.say(f"{where}: in order; node {setup.config.node}, plugins {', '.join(setup.config.enabled())}")

    @group.command("show")
    def show(file: Annotated[str | None, typer.Argument(help="The file; default: the one in use.")] = None) -> None:
        """Show the configuration in force, complete with defaults. Secrets stay in their files."""
        setup = load(file or cli.document.path, log)
        cli.say(yaml.safe_dump(as_mapping(setup.config), sort_keys=False).rstrip())
