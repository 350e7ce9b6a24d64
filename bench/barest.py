"""What a task costs at least: the ledger's three transactions and two wakes, with no work, no check and no thread.

`python -m bench.barest SERVER ROUNDS`, on a node of a lab; prints JSON.
"""

import json
import logging
import sys
from collections.abc import Sequence

from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.coordination import Coordinator, Create, Delete, Put
from pvc.core.runtime import Runtime
from pvc.core.threads import ThreadRuntime
from pvc.core.zookeeper import connect

FOLDER = "/bench"
VOLUME = f"{FOLDER}/volume"
ASKED, ENDED = f"{FOLDER}/asked", f"{FOLDER}/ended"
RECORD = b"x" * 400
"""About as long as a task's."""
PATIENCE = 60.0


def measure(client: Coordinator, node: Coordinator, runtime: Runtime, rounds: int) -> list[float]:
    """Seconds of each round, in which one session asks, and another begins and ends."""
    client.commit([Create(FOLDER), Create(VOLUME), Create(ASKED), Create(ENDED)])
    return [_round(client, node, runtime, number) for number in range(rounds)]


def _round(client: Coordinator, node: Coordinator, runtime: Runtime, number: int) -> float:
    asked, over = f"{ASKED}/{number}", f"{ENDED}/{number}"
    told, ended = runtime.signal(), runtime.signal()
    node.children(ASKED, told.set)
    client.get(over, ended.set)
    began = runtime.monotonic()
    client.get(VOLUME)
    client.commit([Put(VOLUME, RECORD), Create(asked, RECORD)])
    told.wait(PATIENCE)
    node.children(ASKED)
    node.get_many([asked, VOLUME])
    node.commit([Put(asked, RECORD), Create(f"{asked}/ticket", ephemeral=True)])
    node.commit([Delete(f"{asked}/ticket"), Delete(asked), Create(over, RECORD), Put(VOLUME, RECORD)])
    ended.wait(PATIENCE)
    client.get(over)
    return runtime.monotonic() - began


def main(words: Sequence[str]) -> int:
    """The command."""
    server, rounds = words
    runtime: Runtime = ThreadRuntime()
    settings, log = ZooKeeperSettings(hosts=(server,)), logging.getLogger("bench")
    client, node = (connect(settings, runtime=runtime, name=name, log=log) for name in ("client", "node"))
    try:
        print(json.dumps(measure(client, node, runtime, int(rounds))))
    finally:
        client.close()
        node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
