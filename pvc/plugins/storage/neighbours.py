"""Reads what nodes publish of their directories."""

from pvc.core.model import NodeFacts
from pvc.core.records import Garbage, decode
from pvc.plugins.storage.decide.directories import Published
from pvc.plugins.storage.keys import DIRECTORIES


def published_in(facts: NodeFacts) -> Published | None:
    """The directories in a node's facts; None: it has published none, or nothing that can be read."""
    text = facts.extra.get(DIRECTORIES)
    try:
        return None if text is None else decode(Published, text.encode(), DIRECTORIES)
    except Garbage:
        return None
