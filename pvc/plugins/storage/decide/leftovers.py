"""What of the storage waits for somebody to do something: tasks of nodes that are away, and volumes left unfinished."""

from collections.abc import Collection, Iterable, Mapping

from pvc.core.model import Finding, Severity
from pvc.plugins.storage.decide.tasktexts import described
from pvc.plugins.storage.records import ENDED, Task, Volume, VolumeState
from pvc.plugins.storage.schema import SECTION

MOST_TOLD = 5
"""Findings of one kind that are told in full: all of a node's share one record."""


def why_not_whole(volume: Volume, pool: str) -> str:
    """Why a volume that no task changes is not whole, and what to do; empty: it is."""
    match volume.state:
        case VolumeState.MAKING:
            return (
                f"volume {pool}/{volume.name} was never finished; remove it: `pvc storage volume remove {pool}"
                f" {volume.name}`"
            )
        case VolumeState.REMOVING:
            return (
                f"volume {pool}/{volume.name} was being removed and may be gone in part;"
                f" ask for that again: `pvc storage volume remove {pool} {volume.name}`"
            )
        case _:
            return ""


def stranded(tasks: Iterable[Task], away: Collection[str]) -> list[Task]:
    """The tasks that nobody carries out until their node is back, the oldest first."""
    waiting = [task for task in tasks if task.phase not in ENDED and task.bound and task.node in away]
    return sorted((task for task in waiting if not task.cancel), key=lambda task: (task.requested, task.id))


def unfinished(volumes: Mapping[tuple[str, str], Volume], tasks: Mapping[str, Task | None]) -> list[tuple[str, Volume]]:
    """The volumes, by pool and name, that are not whole and that no task sees to. `tasks`, by id, were read before the
    volumes, None: there was no such task; what a task does that is not among them is not known."""
    return [
        (pool, volume)
        for (pool, _), volume in sorted(volumes.items())
        if volume.state is not VolumeState.READY and (volume.task is None or _is_over(volume.task, tasks))
    ]


def findings(waiting: Iterable[Task], halves: Iterable[tuple[str, Volume]]) -> list[Finding]:
    """What there is to do about them."""
    of_tasks = [
        f"task {described(task)} waits for node {task.node}, whose daemon does not answer: start pvcd there, or end the"
        f" task with `pvc storage task cancel {task.id}`"
        for task in waiting
    ]
    of_volumes = [why_not_whole(volume, pool) for pool, volume in halves]
    told = [
        *_bounded(of_tasks, "tasks wait for nodes that do not answer; see `pvc storage task list`"),
        *_bounded(of_volumes, "volumes are not whole; see `pvc storage volume list`"),
    ]
    return [Finding(SECTION, Severity.WARNING, text) for text in told]


def _is_over(id: str, tasks: Mapping[str, Task | None]) -> bool:
    task = tasks.get(id)
    return id in tasks and (task is None or task.phase in ENDED)


def _bounded(texts: list[str], more: str) -> list[str]:
    left = len(texts) - MOST_TOLD
    return texts if left <= 0 else [*texts[:MOST_TOLD], f"{left} more {more}"]
