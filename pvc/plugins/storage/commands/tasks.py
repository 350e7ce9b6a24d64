"""`pvc storage task`: what nodes do with the storage. Talks to the tree only."""

from typing import Annotated

import typer

from pvc.core.commands import CommandLine
from pvc.plugins.storage import keys
from pvc.plugins.storage.commands.following import Timeout, follow
from pvc.plugins.storage.commands.shown import TASK_COLUMNS, task_fields
from pvc.plugins.storage.commands.words import client_of
from pvc.plugins.storage.decide.tasktexts import described
from pvc.plugins.storage.records import ENDED, read_tasks
from pvc.plugins.storage.requests import asking


def add_commands(cli: CommandLine) -> None:
    """Add to the group `storage task`."""
    group = cli.group("storage task")

    def complete(incomplete: str) -> list[str]:
        return cli.complete_below(keys.TASKS, incomplete)

    Id = Annotated[str, typer.Argument(metavar="TASK", help="Its id, or how that begins.", autocompletion=complete)]

    @group.command("list", listing=True)
    def list_tasks(
        every: Annotated[bool, typer.Option("--all", help="The last that have ended, too.")] = False,
    ) -> None:
        """Show what nodes are asked to do with the storage, and how far they are."""
        tasks = read_tasks(cli.connect())
        for id in [id for id, task in tasks.items() if task is None]:
            cli.note(f"pvc: the record of task {id} cannot be read; delete it with zkCli.sh")
        known = [task for task in tasks.values() if task is not None and (every or task.phase not in ENDED)]
        cli.show([task_fields(task) for task in sorted(known, key=lambda one: one.requested)], TASK_COLUMNS)

    @group.command("watch")
    def watch_task(task: Id, timeout: Timeout = None) -> None:
        """Follow a task to its end, or show how it ended; the exit code tells, as of the command that asked."""
        follow(cli, asking.find_task(cli.connect(), task), timeout=timeout)

    @group.command("cancel")
    def cancel_task(task: Id) -> None:
        """End a task, and undo what is half done."""
        found = asking.find_task(cli.connect(), task)
        ended = asking.cancel(client_of(cli), found.id).phase in ENDED
        what = described(found)
        cli.say(f"{what} is cancelled" if ended else f"{what} will end; `pvc storage task watch {found.id}` follows it")
