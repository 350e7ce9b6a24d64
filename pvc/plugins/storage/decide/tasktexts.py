"""What a task is, and how far it is, in words."""

import re

from pvc.plugins.storage.decide.sizes import exactly, part
from pvc.plugins.storage.records import Task, TaskKind, TaskPhase

_PERCENT = re.compile(rb"(\d+(?:\.\d+)?)(?:% complete|/100%\))")
_COUNTED_IN_BYTES = frozenset({TaskKind.CLONE, TaskKind.IMPORT, TaskKind.EXPORT, TaskKind.ROLL_BACK})


def described(task: Task) -> str:
    """What a task is to do, as `clone vms/disk1@monday as disk2`."""
    thing = f"{task.pool}/{task.volume}" if task.volume else task.pool
    if task.snapshot:
        thing = f"{thing}@{task.snapshot}"
    match task.kind:
        case TaskKind.RENAME | TaskKind.CLONE:
            return f"{task.kind.value} {thing} as {task.new}"
        case TaskKind.IMPORT:
            return f"{task.kind.value} {thing} from {task.path}"
        case TaskKind.EXPORT:
            return f"{task.kind.value} {thing} to {task.path}"
        case TaskKind.RESIZE if task.size is not None:
            return f"{task.kind.value} {thing} to {exactly(task.size)}"
        case TaskKind.PROTECT:
            return f"{task.kind.value if task.on else 'unprotect'} {thing}"
        case TaskKind.ADD_OSD:
            return f"{task.kind.value} on {task.path} of {task.node}"
        case TaskKind.REMOVE_OSD:
            return f"{task.kind.value} {task.osd}"
        case TaskKind.MARK_OSD:
            return f"mark osd {task.osd} {'in' if task.on else 'out'}"
        case TaskKind.SET_FLAG:
            return f"{'set' if task.on else 'unset'} flag {task.flag}"
        case _:
            return f"{task.kind.value} {thing}"


def standing(task: Task) -> str:
    """How far a task is."""
    if task.phase is TaskPhase.ASKED:
        return f"waits for node {task.node}"
    parts = [task.doing, progress(task), task.message, "will end: it was asked to" if task.cancel else ""]
    return ", ".join(one for one in parts if one) or f"{task.phase.value} on {task.node}"


def progress(task: Task) -> str:
    """How much of a task is done; empty: it does not tell."""
    if task.done is None or not task.total:
        return ""
    if task.kind in _COUNTED_IN_BYTES:
        return part(task.done, task.total)
    return f"{100 * task.done // task.total} %, {task.done} of {task.total}"


def part_done(output: bytes) -> float:
    """Which part is done, 0 to 1, by what `rbd` or `qemu-img -p` has written so far."""
    told = _PERCENT.findall(output)
    return min(1.0, float(told[-1]) / 100) if told else 0.0


def tenths(task: Task) -> int | None:
    """How many tenths of a task are done; None: it does not tell."""
    return None if task.done is None or not task.total else 10 * task.done // task.total
