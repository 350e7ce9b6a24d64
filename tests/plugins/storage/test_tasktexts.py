"""What tasks are called, and how far they are, in words."""

from typing import Any

import pytest

from pvc.plugins.storage.decide.tasktexts import described, part_done, standing, tenths
from pvc.plugins.storage.records import Task, TaskKind, TaskPhase

GIB = 1024**3


def task(kind: TaskKind, **fields: Any) -> Task:
    """A task that is under way."""
    return Task("id", kind, "stor1", "me", 0.0, **{"phase": TaskPhase.RUNNING, **fields})


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        (TaskKind.ADD_POOL, {"pool": "vms"}, "add pool vms"),
        (TaskKind.CREATE, {"pool": "vms", "volume": "a", "size": GIB}, "create vms/a"),
        (TaskKind.RESIZE, {"pool": "vms", "volume": "a", "size": GIB}, "resize vms/a to 1 GiB"),
        (TaskKind.RENAME, {"pool": "vms", "volume": "a", "new": "b"}, "rename vms/a as b"),
        (TaskKind.CLONE, {"pool": "vms", "volume": "a", "snapshot": "s", "new": "b"}, "clone vms/a@s as b"),
        (TaskKind.IMPORT, {"pool": "vms", "volume": "a", "path": "/f"}, "import vms/a from /f"),
        (TaskKind.EXPORT, {"pool": "vms", "volume": "a", "path": "/f"}, "export vms/a to /f"),
        (TaskKind.PROTECT, {"pool": "vms", "volume": "a", "snapshot": "s"}, "protect vms/a@s"),
        (TaskKind.PROTECT, {"pool": "vms", "volume": "a", "snapshot": "s", "on": False}, "unprotect vms/a@s"),
        (TaskKind.ADD_OSD, {"path": "/dev/sdb"}, "add osd on /dev/sdb of stor1"),
        (TaskKind.REMOVE_OSD, {"osd": 3}, "remove osd 3"),
        (TaskKind.MARK_OSD, {"osd": 3, "on": False}, "mark osd 3 out"),
        (TaskKind.SET_FLAG, {"flag": "noout"}, "set flag noout"),
    ],
)
def test_a_task_is_called_by_what_it_does(kind: TaskKind, fields: dict[str, Any], text: str) -> None:
    assert described(task(kind, **fields)) == text


@pytest.mark.parametrize(
    ("kind", "fields", "text", "tenth"),
    [
        (TaskKind.CREATE, {"phase": TaskPhase.ASKED}, "waits for node stor1", None),
        (TaskKind.CREATE, {}, "running on stor1", None),
        (TaskKind.IMPORT, {"done": GIB, "total": 4 * GIB}, "25 %, 1 GiB of 4 GiB", 2),
        (TaskKind.IMPORT, {"done": 0, "total": 0}, "running on stor1", None),
        (TaskKind.REMOVE_OSD, {"doing": "drains", "done": 5, "total": 50}, "drains, 10 %, 5 of 50", 1),
        (TaskKind.IMPORT, {"doing": "reads", "cancel": True}, "reads, will end: it was asked to", None),
    ],
)
def test_a_task_tells_how_far_it_is(kind: TaskKind, fields: dict[str, Any], text: str, tenth: int | None) -> None:
    assert (standing(task(kind, **fields)), tenths(task(kind, **fields))) == (text, tenth)


@pytest.mark.parametrize(
    ("output", "part"),
    [
        (b"", 0.0),
        (b"\rImage copy: 6% complete...\rImage copy: 12% complete...", 0.12),
        (b"\rImage copy: 100% complete...done.\n", 1.0),
        (b"    (0.00/100%)\r    (57.03/100%)\r", 0.5703),
        (b"    (100.00/100%)\r\n", 1.0),
        (b"    (10.00/100%)\r    (1", 0.1),
    ],
)
def test_progress_is_what_was_told_last(output: bytes, part: float) -> None:
    assert part_done(output) == pytest.approx(part)
