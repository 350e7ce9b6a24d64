"""What a node knows of others: whether they carry out tasks, and which directories they publish."""

from collections.abc import Mapping

from pvc.core import keys as core
from pvc.core.mirror import Mirror
from pvc.core.model import Node, NodeFacts
from pvc.core.records import Garbage, decode, encode
from pvc.plugins.storage.decide.directories import Published, Room
from pvc.plugins.storage.keys import COUNT, DIRECTORY
from pvc.plugins.storage.records import decoded
from pvc.plugins.storage.schema import SECTION


def serves(mirror: Mirror, node: str) -> bool:
    """Whether a node is alive and has the role. Raises Disconnected."""
    record, session = mirror.get(core.node(node)), mirror.get(core.node_session(node))
    known = decoded(Node, record.data, core.node(node)) if record and session else None
    return known is not None and SECTION in known.roles


def as_facts(rooms: Mapping[str, Room]) -> dict[str, str]:
    """The facts by which a node publishes its directories."""
    return {COUNT: str(len(rooms)), **{f"{DIRECTORY}{name}": encode(room).decode() for name, room in rooms.items()}}


def published_in(facts: NodeFacts) -> Published | None:
    """The directories in a node's facts; None: it has published none, or one that cannot be read."""
    if COUNT not in facts.extra:
        return None
    told = {name.removeprefix(DIRECTORY): text for name, text in facts.extra.items() if name.startswith(DIRECTORY)}
    try:
        return Published({name: decode(Room, text.encode(), f"{DIRECTORY}{name}") for name, text in told.items()})
    except Garbage:
        return None
