"""The flush lock's paths, and the names under which nodes publish its settings."""

from pvc.core.keys import LOCKS

QUEUE = f"{LOCKS}/flush"
"""Children: one ticket per operation that waits or moves, in the order of their numbers."""

PREFIX = f"{QUEUE}/ticket-"
"""A ticket's path without its number."""


def ticket(name: str) -> str:
    """The path of one ticket."""
    return f"{QUEUE}/{name}"


FACTS = {key: f"flushlock.{key}" for key in ("concurrent", "max_flushed")}
"""What a node publishes of its section, by key: all nodes should have the same."""
