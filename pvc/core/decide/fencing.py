"""What becomes of the declaration that a node is dead: kept until it is back and nothing keeps it out any more."""

from collections.abc import Sequence
from dataclasses import replace

from pvc.core.model import Fence


def after_return(fence: Fence | None) -> Fence | None:
    """The node is back, and nothing runs there that went elsewhere."""
    return replace(fence, returned=True) if fence is not None and fence.cut else None


def after_cut(fence: Fence, pool: str, addresses: Sequence[str]) -> Fence:
    """The storage of a pool is about to keep the machine of these addresses out."""
    known = fence.cut.get(pool, ())
    return replace(fence, cut={**fence.cut, pool: tuple(dict.fromkeys([*known, *addresses]))})


def after_readmission(fence: Fence, pool: str) -> Fence | None:
    """The storage of a pool lets the machine in again."""
    left = {other: addresses for other, addresses in fence.cut.items() if other != pool}
    return replace(fence, cut=left) if left or not fence.returned else None
