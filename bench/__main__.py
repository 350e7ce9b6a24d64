"""`make bench`: brings labs up, measures, prints a table, writes bench-results.json, takes the labs down."""

import sys
from contextlib import ExitStack
from pathlib import Path

from bench import consoles, devices, flushing, idling, networks, planning, publishing, starting, storage
from bench.report import Result, save, table
from pvc.core.errors import PvcError
from pvc.core.threads import ThreadRuntime
from pvc.lab.cluster import Lab
from pvc.lab.shape import Shape

ROUNDS = 7
RESULTS = Path("bench-results.json")


def main() -> int:
    """Run every benchmark; the exit code is 0 also when a target is missed: a figure is not a test."""
    runtime = ThreadRuntime()
    results: list[Result] = []
    try:
        print("starting the command line", flush=True)
        results += starting.measure_help(runtime, rounds=3 * ROUNDS)
        print("planning", flush=True)
        results += planning.measure(runtime, ROUNDS)
        print("publishing consoles", flush=True)
        results += publishing.measure(runtime, rounds=ROUNDS)
        print("making the devices of many networks", flush=True)
        results += devices.measure(ROUNDS)
        with ExitStack() as labs:
            managed = _up(labs, "bench", flushing.MANAGED)
            plain = _up(labs, "bench-plain", flushing.PLAIN)
            print("flushing, in turns with a plain loop", flush=True)
            results += flushing.measure(managed, plain, runtime, ROUNDS)
            print("handing the lock over", flush=True)
            results += flushing.measure_hand_over(managed, ROUNDS)
            print("listing nodes", flush=True)
            results += starting.measure_list(managed, runtime, rounds=ROUNDS)
            print("following a console", flush=True)
            results += consoles.measure(managed, "vm1", "hv1", runtime, lines=40)
        with ExitStack() as labs:
            print("idling", flush=True)
            results += idling.measure(_up(labs, "bench-idle", idling.SHAPE), runtime, rounds=3, seconds=20.0)
        with ExitStack() as labs:
            print("starting a daemon with 100 VMs", flush=True)
            results += starting.measure_daemon(_up(labs, "bench-many", starting.MANY), runtime, rounds=5)
        with ExitStack() as labs:
            print("networks and gateways", flush=True)
            results += networks.measure(_up(labs, "bench-networks", networks.SHAPE), runtime, ROUNDS)
        with ExitStack() as labs:
            print("volumes, snapshots and clones", flush=True)
            results += storage.measure(_up(labs, "bench-storage", storage.WORK), runtime, ROUNDS)
        with ExitStack() as labs:
            print("flushing VMs with shared disks", flush=True)
            results += storage.measure_flush(_up(labs, "bench-disks", storage.DISKS), rounds=5)
    except PvcError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(table(results))
    save(results, RESULTS)
    return 0


def _up(labs: ExitStack, name: str, shape: Shape) -> Lab:
    lab = Lab(name, shape, say=lambda text: print(f"  {text}", flush=True))
    labs.callback(lab.down)
    lab.down()
    lab.up()
    return lab


if __name__ == "__main__":
    sys.exit(main())
