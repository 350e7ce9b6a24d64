"""What a simulated cluster's tree says of pools, volumes and tasks; asks for tasks as a client does, of any node.

Only what no two tasks may do at once is refused, and what is done to half a volume; whether a task makes sense
otherwise is not looked at.

`unaccounted` compares the tree with what the simulated storage has.
"""

from dataclasses import replace
from typing import Any

from pvc.core.coordination import Create, Op, Put
from pvc.core.lookup import NotFound, read_facts
from pvc.core.records import encode
from pvc.core.storage import Pool
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.pools import published_in
from pvc.plugins.storage.decide.tasks import made_by
from pvc.plugins.storage.records import (
    Task,
    TaskKind,
    Volume,
    VolumeState,
    in_hand,
    read_pools,
    read_tasks,
    read_volumes,
)
from pvc.plugins.storage.requests.ledger import Refused, demand_idle, demand_ready
from pvc.testing.cluster import SimCluster

PLACES = (keys.STORAGE, keys.POOLS, keys.TASKS, keys.ASKED, keys.ENDED_TASKS)
REMNANT = "half"
"""The contents of a half image in a FakeStorage."""


def ask_task(cluster: SimCluster, kind: str, node: str, **about: Any) -> Task:
    """Ask a node for a task. Raises NotFound, Refused if a volume is not as it must be."""
    client, now = cluster.client, cluster.client_process.now()
    task = Task(cluster.client_process.new_id(), TaskKind(kind), node, "tester", now, **about)
    if task.kind is TaskKind.ADD_POOL and task.proposed is None:
        task = replace(task, proposed=Pool(task.pool, "fake", {}, now, "tester"))
    places = [Create(path) for path in PLACES if client.get(path) is None]
    record, asked = encode(task), keys.asked(node)
    wakes = Create(asked, record) if client.get(asked) is None else Put(asked, record)
    client.commit([*places, *_volumes(cluster, task), Create(keys.task(task.id), record), wakes])
    return task


def cancel_task(cluster: SimCluster, what: str) -> None:
    """Ask for the end of the last task of a volume or pool. Raises NotFound."""
    task = last_task(cluster, what)
    znode = cluster.client.get(keys.task(task.id))
    if znode is not None:
        cluster.client.commit([Put(keys.task(task.id), encode(replace(task, cancel=True)), znode.version)])


def last_task(cluster: SimCluster, what: str) -> Task:
    """The last task of a volume (POOL/VOLUME), or of a pool. Raises NotFound."""
    pool, _, volume = what.partition("/")
    found = [
        task
        for task in read_tasks(cluster.client).values()
        if task is not None and task.pool == pool and (not volume or volume in (task.volume, task.new))
    ]
    if not found:
        raise NotFound(f"there never was a task of {what}; ask for one")
    return max(found, key=lambda task: task.requested)


def volume_of(cluster: SimCluster, what: str) -> str:
    """How a volume (POOL/VOLUME) is; empty: there is none."""
    pool, _, name = what.partition("/")
    volume = read_volumes(cluster.client, pool).get(name)
    if volume is None:
        return ""
    return volume.state.value + (", at work" if volume.task else "")


def image_of(cluster: SimCluster, what: str) -> bool:
    """Whether the storage has an image for a volume (POOL/VOLUME)."""
    pool, _, name = what.partition("/")
    return (pool, name) in cluster.storage.images


def pools_of(cluster: SimCluster, node: str) -> dict[str, str]:
    """How each pool is on a node: `up`, or why it cannot be used."""
    published = published_in(read_facts(cluster.client, node))
    return {name: state.problem or "up" for name, state in published.items()}


def unaccounted(cluster: SimCluster) -> list[str]:
    """What must not be at rest: a task that has not ended, a volume without its image, a half image with a name."""
    found = [f"{task} has not ended" for task in in_hand(cluster.client)]
    for pool in read_pools(cluster.client):
        for name, volume in read_volumes(cluster.client, pool).items():
            image = cluster.storage.images.get((pool, name))
            if volume is None or volume.task is not None:
                found.append(f"{pool}/{name} still waits for a task: {volume}")
            elif volume.state is VolumeState.READY and (image is None or image.contents.size != volume.size):
                found.append(f"{pool}/{name} is ready in the tree, but its image is {image}: {volume}")
            elif volume.state is VolumeState.READY and image and set(image.snapshots) != _snapshots(volume):
                found.append(f"{pool}/{name} has the snapshots {sorted(image.snapshots)}: {volume}")
    return found + [
        f"a half image is called {pool}/{name}"
        for (pool, name), image in cluster.storage.images.items()
        if image.contents.text == REMNANT
    ]


def _snapshots(volume: Volume) -> set[str]:
    return {snapshot.name for snapshot in volume.snapshots}


def _size_of_source(cluster: SimCluster, task: Task) -> int:
    """Of what is cloned; 0: nothing is, or there is no such thing."""
    source = read_volumes(cluster.client, task.pool).get(task.volume) if task.kind is TaskKind.CLONE else None
    if source is None:
        return 0
    return {one.name: one.size for one in source.snapshots}.get(task.snapshot, source.size)


def _volumes(cluster: SimCluster, task: Task) -> list[Op]:
    """The records of volumes that go with a task."""
    if not task.volume:
        return []
    ops: list[Op] = []
    made = made_by(task)
    if made != task.volume:
        path, known = keys.volume(task.pool, task.volume), read_volumes(cluster.client, task.pool)
        znode, volume = cluster.client.get(path), known.get(task.volume)
        if znode is None or volume is None or volume.task is not None:
            raise NotFound(f"there is no volume {task.pool}/{task.volume} that no task is at; choose another one")
        if task.kind is not TaskKind.REMOVE:
            demand_ready(volume, task.pool)
        ops.append(Put(path, encode(replace(volume, task=task.id)), znode.version))
    for name in {made, task.new} - {""}:
        _demand_free(cluster, task.pool, name)
    if made:
        ops += [Put(keys.volumes(task.pool), b"")]
        size = task.size or _size_of_source(cluster, task)
        ops += [Create(keys.volume(task.pool, made), encode(Volume(made, size, created=task.requested, task=task.id)))]
    return ops


def _demand_free(cluster: SimCluster, pool: str, name: str) -> None:
    """A name that a task takes has no record before its end: the task alone reserves it."""
    if cluster.client.get(keys.volume(pool, name)) is not None:
        raise Refused(f"there is a volume {name} in pool {pool} already; choose another name")
    demand_idle(in_hand(cluster.client), pool, name)
