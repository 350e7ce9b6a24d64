"""Arguments and options that several of the storage role's commands have, and what they are asked with."""

from collections.abc import Callable
from typing import Annotated

import typer

from pvc.core.commands import CommandLine
from pvc.plugins.storage import keys
from pvc.plugins.storage.records import Volume
from pvc.plugins.storage.requests.asking import Client
from pvc.plugins.storage.requests.changing import Consent

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def client_of(cli: CommandLine) -> Client:
    """Who asks: the person at this command line."""
    return Client(cli.connect(), cli.runtime, cli.user, cli.config.node)


def pool_names(cli: CommandLine) -> Callable[[str], list[str]]:
    """Shell completion of the names of pools."""

    def complete(incomplete: str) -> list[str]:
        return cli.complete_below(keys.POOLS, incomplete)

    return complete


def volume_names(cli: CommandLine) -> Callable[[typer.Context, str], list[str]]:
    """Shell completion of the names of volumes, of the pool that is named before."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        pool = ctx.params.get("pool")
        return cli.complete_below(keys.volumes(pool), incomplete) if pool else []

    return complete


def consent(cli: CommandLine, question: Callable[[Volume], str], *, yes: bool) -> Consent:
    """Asks at the keyboard, and not twice the same."""
    asked: set[str] = set()

    def ask(volume: Volume) -> None:
        text = question(volume)
        if text not in asked:
            cli.confirm(text, yes=yes)
            asked.add(text)

    return ask
