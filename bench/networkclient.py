"""A client inside a lab: makes networks through one connection and tells when nodes have published them as usable.

`python -m bench.networkclient add|published SERVER ...`; see `main`. Prints one figure. Reads and writes the tree only.
"""

import logging
import sys
from collections.abc import Sequence

from pvc.core import keys
from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.coordination import Coordinator
from pvc.core.errors import PvcError
from pvc.core.model import NodeFacts
from pvc.core.records import decode
from pvc.core.runtime import Runtime
from pvc.core.threads import ThreadRuntime
from pvc.core.zookeeper import connect
from pvc.plugins.networking import requests
from pvc.plugins.networking.decide.attachment import published_in
from pvc.plugins.networking.records import Network, NetworkKind

PATIENCE = 120.0
"""Seconds after which something is broken rather than slow."""
LOOK = 0.005
"""Seconds between looks at the tree. The moment that counts is the one at which the server took what was published."""


class NeverUp(PvcError):
    """The networks were not usable in time."""


def add(coordinator: Coordinator, runtime: Runtime, names: Sequence[str], nodes: Sequence[str]) -> float:
    """Seconds from asking for these networks, one after the other, until all of the nodes have all of them."""
    began = runtime.now()
    for name in names:
        requests.add(coordinator, Network(name, NetworkKind.MANAGED))
    return max(published(coordinator, runtime, node, names, began) for node in nodes) - began


def published(coordinator: Coordinator, runtime: Runtime, node: str, names: Sequence[str], since: float) -> float:
    """When a node first published, after `since`, that it can use all of these networks; seconds since the epoch."""
    end, seen, path = runtime.monotonic() + PATIENCE, -1, keys.node_facts(node)
    while runtime.monotonic() < end:
        znode = coordinator.get(path)
        if znode is not None and znode.version != seen and znode.modified >= since:
            seen = znode.version
            states = published_in(decode(NodeFacts, znode.data, path))
            if all(name in states and not states[name].problem for name in names):
                return znode.modified
        runtime.sleep(LOOK)
    raise NeverUp(f"{node} could not use all of {len(names)} networks within {PATIENCE:g} s; its pvcd.log says why")


def main(words: Sequence[str]) -> int:
    """`add SERVER NODE,... NAME...`: seconds; `published SERVER NODE SINCE NAME...`: seconds after SINCE."""
    what, server, where, *rest = words
    runtime = ThreadRuntime()
    coordinator = connect(
        ZooKeeperSettings(hosts=(server,)), runtime=runtime, name="bench", log=logging.getLogger("bench")
    )
    try:
        if what == "add":
            print(add(coordinator, runtime, rest, where.split(",")))
        else:
            since = float(rest[0])
            print(published(coordinator, runtime, where, rest[1:], since) - since)
    except PvcError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        coordinator.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
