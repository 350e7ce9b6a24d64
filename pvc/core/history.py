"""Reads finished operations from the tree, the newest first. Never writes: `core/operations.py` does."""

from collections.abc import Callable

from pvc.core import keys
from pvc.core.coordination import Coordinator
from pvc.core.model import Operation
from pvc.core.records import Garbage, decode

MOST = 100
"""Operations that are read unless more are asked for."""
TOGETHER = 50
"""Operations that are asked for at a time."""


def read_history(
    coordinator: Coordinator, most: int | None = MOST, wanted: Callable[[Operation], bool] = lambda _operation: True
) -> tuple[list[Operation], list[Garbage]]:
    """Up to `most` (None: all) finished operations that are `wanted`, and the records on the way that are none.

    Raises Disconnected.
    """
    names = (coordinator.children(keys.HISTORY) or ())[::-1]
    found: list[Operation] = []
    garbage: list[Garbage] = []
    for first in range(0, len(names), TOGETHER):
        paths = [f"{keys.HISTORY}/{name}" for name in names[first : first + TOGETHER]]
        for path, znode in zip(paths, coordinator.get_many(paths), strict=True):
            if znode is None:  # made room for a newer one meanwhile
                continue
            try:
                operation = decode(Operation, znode.data, path)
            except Garbage as error:
                garbage.append(error)
                continue
            if wanted(operation):
                found.append(operation)
                if len(found) == most:
                    return found, garbage
    return found, garbage
