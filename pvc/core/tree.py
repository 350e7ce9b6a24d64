"""The tree of a new cluster."""

from pvc.core import keys
from pvc.core.coordination import Create, Op


def tree_ops() -> list[Op]:
    """What `pvc init` creates below the root."""
    return [Create(path) for path in keys.BRANCHES]
