"""The storage role's paths in the tree, and the names under which nodes publish what they see of the storage."""

STORAGE = "/storage"
"""Made by the first request that needs it."""

POOLS = "/storage/pools"
"""Children: the pools."""

TASKS = "/storage/tasks"
"""Children: the tasks in hand, which have not ended."""

ASKED = "/storage/asked"
"""Children: the nodes that have been asked for tasks."""

ENDED_TASKS = "/storage/ended"
"""Children: the last tasks that have ended."""

COUNT = "storage.directories"
"""How many directories the node has looked at."""

DIRECTORY = "storage.directory."
"""Followed by the name of a directory: a `Room` record as JSON text. A fact for each: one fact has little room."""

POOL_STATE = "storage.pool."
"""Followed by the name of a pool: a `PoolState` record as JSON text, once the node has looked at it."""

CEPH = "storage.ceph"
"""How the Ceph cluster is, as the node sees it: a `CephState` record as JSON text."""

OSD = "storage.ceph.osd."
"""Followed by the number of an OSD that belongs to the node: an `OsdState` record as JSON text."""

NOOUT = "/storage/noout"
"""Whom Ceph's flag noout was set for by pvc, and so is to be unset; not there: pvc has not set it."""


def pool(name: str) -> str:
    """What a pool is."""
    return f"{POOLS}/{name}"


def volumes(name: str) -> str:
    """Children: the volumes of a pool. Data: empty; whoever adds or removes one rewrites it, so that a pool cannot go
    while a volume comes."""
    return f"{POOLS}/{name}/volumes"


def volume(pool_name: str, name: str) -> str:
    """What is known of a volume, its snapshots included."""
    return f"{POOLS}/{pool_name}/volumes/{name}"


def task(id: str) -> str:
    """One piece of work in hand, and how far it is."""
    return f"{TASKS}/{id}"


def asked(node: str) -> str:
    """The last task that a node was asked for, as it was asked for: that wakes the node, and no other."""
    return f"{ASKED}/{node}"


def ended_task(id: str) -> str:
    """One piece of work, and how it has ended."""
    return f"{ENDED_TASKS}/{id}"


def task_ticket(id: str) -> str:
    """Ephemeral, of the session of the node that is at it: nobody else begins with it meanwhile, and what the task
    writes at its end demands it."""
    return f"{TASKS}/{id}/ticket"
