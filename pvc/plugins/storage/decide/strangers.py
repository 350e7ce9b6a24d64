"""What was done to an image past pvc, and what of the tasks about it must not go on because of that."""

from pvc.core.storage import Image
from pvc.plugins.storage.decide.sizes import exactly
from pvc.plugins.storage.decide.tasks import CLOCKS
from pvc.plugins.storage.records import Task, TaskKind, Volume, VolumeState


def why_left(task: Task, volume: Volume | None, image: Image | None) -> str:
    """Why an image is left as it is, and what to do; empty: the task may go on with it. `volume`: the record, by which
    was agreed to the task."""
    if volume is None or image is None:
        return ""
    match task.kind:
        case TaskKind.REMOVE:
            return _why_not_removed(task, volume, image)
        case TaskKind.RESIZE:
            return _why_not_resized(task, volume, image)
        case _:
            return ""


def _why_not_removed(task: Task, volume: Volume, image: Image) -> str:
    """Snapshots that an earlier attempt has removed are still in the record, and missing from the image.

    Of a volume whose making has ended, nobody knows how, the image may have been there before.
    """
    if volume.state is VolumeState.MAKING and image.made is not None and image.made < volume.created - CLOCKS:
        return (
            f"pool {task.pool} has an image {task.volume} that is older than the volume: pvc has not made it; rename or"
            " remove that image with the storage's own tools, and ask again"
        )
    known = {snapshot.name for snapshot in volume.snapshots}
    if not (strangers := [name for name in image.snapshots if name not in known]):
        return ""
    return (
        f"the image of {task.pool}/{task.volume} has snapshots that pvc has not made: {', '.join(strangers)}; remove"
        " them with the storage's own tools (`rbd snap rm`, `qemu-img snapshot -d`) if nobody needs them, and ask again"
    )


def _why_not_resized(task: Task, volume: Volume, image: Image) -> str:
    """What would be cut off nobody has seen who asked for this."""
    if task.size is None or image.size <= max(task.size, volume.size):
        return ""
    return (
        f"the image of {task.pool}/{task.volume} has {exactly(image.size)}, more than pvc knew of: what lies beyond"
        f" {exactly(task.size)} would be lost; the volume has that size now, look at what is in it, and ask again"
    )
