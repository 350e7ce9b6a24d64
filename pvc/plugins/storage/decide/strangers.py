"""What an image has that pvc has not made."""

from pvc.core.storage import Image
from pvc.plugins.storage.records import Task, TaskKind, Volume


def why_kept(task: Task, volume: Volume | None, image: Image | None) -> str:
    """Why an image is not removed, and what to do; empty: it may be. `volume`: the record, by which was agreed to it.

    Snapshots that an earlier attempt has removed are still in the record, and missing from the image.
    """
    if task.kind is not TaskKind.REMOVE or volume is None or image is None:
        return ""
    known = {snapshot.name for snapshot in volume.snapshots}
    if not (strangers := [name for name in image.snapshots if name not in known]):
        return ""
    return (
        f"the image of {task.pool}/{task.volume} has snapshots that pvc has not made: {', '.join(strangers)}; remove"
        " them with the storage's own tools (`rbd snap rm`, `qemu-img snapshot -d`) if nobody needs them, and ask again"
    )
