"""Looks at nodes from outside, as a roll judges them: in service or not, well or not. Never writes."""

from collections.abc import Callable, Container
from dataclasses import dataclass

from pvc.core import keys
from pvc.core.coordination import Coordinator, Disconnected
from pvc.core.decide.roll import Pulse, Sight, ailment, out_of_service
from pvc.core.lookup import all_nodes, find_node
from pvc.core.mirror import LOOK_AFRESH, Mirror
from pvc.core.model import NodeFacts, NodeSession
from pvc.core.records import decode
from pvc.core.requests import read_operation
from pvc.core.rolls import RollNode, RollOptions
from pvc.core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Beat:
    """A node's pulse, and which registration of its daemon it is of."""

    pulse: Pulse
    registration: int | None = None


def see(coordinator: Coordinator, name: str) -> Sight:
    """A node as it is now. Raises NotFound, Garbage, Disconnected."""
    # The operation first: the node's record, which changes with it, is then at least as new.
    operation = read_operation(coordinator, name)
    node = find_node(coordinator, name)
    alive = coordinator.get(keys.node_session(name)) is not None
    return Sight(node, alive, operation[0] if operation else None)


def others_out(coordinator: Coordinator, but: Container[str]) -> list[str]:
    """Why other nodes are out of service. Raises Garbage, Disconnected."""
    nodes, garbage = all_nodes(coordinator)
    sights = [see(coordinator, node.name) for node in nodes if node.name not in but]
    return [*filter(None, map(out_of_service, sights)), *map(str, garbage)]


def feel(source: Coordinator | Mirror, name: str) -> Beat:
    """A node's pulse. Raises Garbage, Disconnected."""
    session, facts = source.get(keys.node_session(name)), source.get(keys.node_facts(name))
    if session is None:
        return Beat(Pulse(None))
    pulse = Pulse(
        session=decode(NodeSession, session.data, keys.node_session(name)),
        registered=session.created,
        facts=None if facts is None else decode(NodeFacts, facts.data, keys.node_facts(name)),
        published=0.0 if facts is None else facts.modified,
    )
    return Beat(pulse, session.created_zxid)


def wait_until_well(
    coordinator: Coordinator, runtime: Runtime, entry: RollNode, options: RollOptions, say: Callable[[str], None]
) -> str:
    """Wait until a node has been well for a while under one registration of its daemon.

    What it then suffers from is the answer; empty: nothing, it is well. `say` is told whenever that changes.
    """
    wake = runtime.signal()
    mirror = Mirror(coordinator, runtime, wake)
    deadline = runtime.monotonic() + options.health_timeout
    said, settled, registration = "", 0.0, None
    while True:
        now = runtime.monotonic()
        try:
            beat = feel(mirror, entry.name)
            ill = ailment(entry.name, beat.pulse, entry.before, options.reboots)
        except Disconnected:
            beat, ill = Beat(Pulse(None)), "ZooKeeper does not answer"
        if ill and ill != said:
            say(f"{entry.name}: not yet: {ill}")
        said = ill
        if ill or beat.registration != registration:
            settled, registration = now + options.settle, None if ill else beat.registration
        if not ill and now >= settled:
            return ""
        if now >= deadline:
            return ill or f"it was well for less than {options.settle:g} s"
        until = deadline if ill else min(deadline, settled)
        if not wake.wait(min(until - now, LOOK_AFRESH)):
            mirror.forget()
