"""What becomes of the declaration that a node is dead: kept until it is back and nothing keeps it out any more."""

from dataclasses import replace

from pvc.core.model import Fence


def after_return(fence: Fence | None) -> Fence | None:
    """The node is back, and nothing runs there that went elsewhere."""
    return replace(fence, returned=True) if fence is not None and fence.cut else None


def after_cut(fence: Fence, pool: str) -> Fence:
    """The storage of a pool is about to keep the machine out."""
    return fence if pool in fence.cut else replace(fence, cut=(*fence.cut, pool))


def after_readmission(fence: Fence, pool: str) -> Fence | None:
    """The storage of a pool lets the machine in again."""
    left = tuple(other for other in fence.cut if other != pool)
    return replace(fence, cut=left) if left or not fence.returned else None
