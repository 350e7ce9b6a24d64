"""Random schedules: from a seed a cluster, a list of steps out of all faults and requests, and the healing afterwards.

The steps are made before any is done, so a schedule can be printed, shortened and turned into a scenario.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pvc.core import keys
from pvc.core.errors import PvcError
from pvc.core.model import FINAL, ActualState, NodeState, Operation, Phase
from pvc.core.requests import read_operation
from pvc.plugins.hypervisor.requests import start
from pvc.testing.cluster import SimCluster
from pvc.testing.invariants import Invariants
from pvc.testing.migration import MigrationPhase
from pvc.testing.steps import Step, Steps, described, parsed

PHASES = ("begin", "copying", "switched", "confirmed")
BLOWS = ("kill", "restart", "restart", "lose_session", "power_off", "libvirtd_down", "flush", "suspend")
"""What may happen at the instant at which a migration reaches a phase."""
MEMORY = 2048
"""MiB that VMs may use on each node: enough for most of them, not for all."""
GIVEN_UP = 45.0
"""Seconds after which a daemon that waits for its name has it or has ended."""
GATEWAYS = 10
"""One in so many clusters has networks with gateways: it takes several times as long to play."""
POOLS = 10
"""One in so many clusters has a pool, and tasks on its volumes."""
FILE = "/tmp/disk.img"
"""Every node of them has one of that name."""
LONGEST = 3600.0
"""Simulated seconds within which everything must have come to rest after the healing."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One random cluster and what happens to it."""

    seed: int
    nodes: dict[str, dict[str, Any]]
    vms: dict[str, dict[str, Any]]
    steps: Sequence[Step]
    networks: Sequence[str] = ()
    """With gateways; their VMs have a network card on one of them."""
    pools: Sequence[str] = ()


@dataclass(slots=True)
class Played:
    """What became of a schedule."""

    problems: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def make_schedule(seed: int) -> Schedule:
    """The schedule of a seed."""
    chance = random.Random(seed)
    nodes = [f"hv{number + 1}" for number in range(chance.randint(3, 8))]
    vms = {f"vm{number + 1}": _vm(chance, nodes) for number in range(chance.randint(3, 2 * len(nodes)))}
    kinds = _kinds(chance)
    steps: list[Step] = []
    for _ in range(chance.randint(30, 120)):
        steps.append(_step(chance, kinds, nodes, sorted(vms)))
        steps.append({"run": round(chance.choice((0.0, 0.02, 0.3, 1.5, 6.0)) * chance.random(), 3)})
    config: dict[str, Any] = {"hypervisor": {"memory": MEMORY, "shutdown_timeout": 30.0}, "flushlock": _lock(seed)}
    schedule = Schedule(seed, {name: _with_room(seed, name, config) for name in nodes}, vms, steps)
    if seed % POOLS == 7:
        return _with_storage(schedule)
    return _with_networks(schedule) if seed % GATEWAYS == 3 else schedule


def _with_storage(schedule: Schedule) -> Schedule:
    """The same schedule on a cluster with a pool, and tasks among the steps; of a chance of its own, so that the rest
    stays."""
    chance = random.Random(f"storage {schedule.seed}")
    nodes = {name: {**config, "roles": {"storage": True}} for name, config in schedule.nodes.items()}
    steps: list[Step] = []
    for step in schedule.steps:
        steps.append(step)
        if chance.random() < 0.4:
            kinds, weights = [kind for _, kind in TASKS], [weight for weight, _ in TASKS]
            steps.append(
                chance.choices(kinds, weights)[0](chance, chance.choice(list(nodes)), f"v{chance.randint(1, 6)}")
            )
    return replace(schedule, nodes=nodes, steps=steps, pools=("fast",))


def _with_networks(schedule: Schedule) -> Schedule:
    """The same schedule on a cluster with networks and gateways; of a chance of its own, so that the rest stays."""
    chance = random.Random(f"networks {schedule.seed}")
    networks = [f"lan{number}" for number in range(chance.randint(1, 4))]
    role = {"roles": {"networking": True}}
    nodes = {
        name: {**config, **role, "address": f"10.0.0.{number}"}
        for number, (name, config) in enumerate(schedule.nodes.items(), 1)
    }
    vms = {
        name: {**how, "networks": {chance.choice(networks): f"52:54:00:00:00:{number:02x}"}}
        for number, (name, how) in enumerate(schedule.vms.items())
    }
    return replace(schedule, nodes=nodes, vms=vms, networks=networks)


def _with_room(seed: int, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a node; what concerns placement is a matter of a chance of its own."""
    cluster, node = random.Random(f"placement {seed}"), random.Random(f"placement {seed} {name}")
    placement = {
        "selector": cluster.choice(("mem", "mem", "vcpus", "load", "vms")),
        "head_room": cluster.choice((0, 0, 128, 500)),
    }
    hypervisor = {
        **config["hypervisor"],
        "memory": node.choice((MEMORY // 2, MEMORY, MEMORY)),
        "placement": placement,
        "migration": {"inbound": node.choice((1, 2, 3))},
    }
    return {**config, "hypervisor": hypervisor}


def _lock(seed: int) -> dict[str, Any]:
    """How the cluster takes turns: half of them as by default. Of a chance of its own, so that the rest stays."""
    chance = random.Random(f"lock {seed}")
    how = {"concurrent": chance.choice((1, 1, 2)), "max_flushed": chance.choice((None, 1, 2))}
    return how if chance.random() < 0.5 else {}


def _vm(chance: random.Random, nodes: Sequence[str]) -> dict[str, Any]:
    how: dict[str, Any] = {"node": chance.choice(nodes), "memory": chance.choice((128, 256, 512))}
    how["policy"] = chance.choice(("live",) * 8 + ("shutdown", "keep"))
    if chance.random() < 0.1:
        how["nodes"] = sorted({how["node"], chance.choice(nodes)})
    if chance.random() < 0.15:
        how["spread"] = "group"
    if chance.random() < 0.3:
        how["options"] = {"hypervisor.migration.post_copy": True, "hypervisor.migration.deadline_per_gib": 1.0}
    return how


Kind = Callable[[random.Random, str, str, Sequence[str]], Step]

REQUESTS: Sequence[tuple[int, Kind]] = (
    (16, lambda r, n, v, ns: {"flush": _asked(r, n)}),
    (14, lambda r, n, v, ns: {"unflush": {**_asked(r, n), **_brought_home(r, v)}}),
    (4, lambda r, n, v, ns: {"forecast": {"kind": r.choice(("flush", "unflush")), "node": n, **_brought_home(r, v)}}),
    (3, lambda r, n, v, ns: {"modify": {"vm": v, **_modified(r, ns)}}),
    (2, lambda r, n, v, ns: {"cancel": {"node": n, "now": r.random() < 0.5}}),
    (6, lambda r, n, v, ns: {"migrate": {"vm": v, "to": r.choice((None, *ns))}}),
    (4, lambda r, n, v, ns: {"move": {"vm": v, "to": r.choice((None, *ns))}}),
    (3, lambda r, n, v, ns: {"unmigrate": v}),
    (5, lambda r, n, v, ns: {"start_vm": v}),
    (2, lambda r, n, v, ns: {"stop_vm": {"vm": v, "now": r.random() < 0.5}}),
    (2, lambda r, n, v, ns: {"restart_vm": v}),
)
"""What administrators ask for, each with its weight."""

FAULTS: Sequence[tuple[tuple[int, Kind], ...]] = (
    ((2, lambda r, n, v, ns: {"guest_crashes": v}),),
    ((1, lambda r, n, v, ns: {"guest_powers_off": v}),),
    ((1, lambda r, n, v, ns: {"ignores_shutdown": v}),),
    ((12, lambda r, n, v, ns: {"never_converges": v}),),
    ((4, lambda r, n, v, ns: {"copies": {"vm": v, "seconds": r.choice((0.2, 3.0, 20.0))}}),),
    ((5, lambda r, n, v, ns: {"fail_migration": {"what": r.choice((n, v)), "phase": r.choice(PHASES)}}),),
    ((2, lambda r, n, v, ns: {"fail_start": {"what": r.choice((n, v))}}),),
    ((3, lambda r, n, v, ns: {"kill": n}), (9, lambda r, n, v, ns: {"start": n})),
    ((6, lambda r, n, v, ns: {"restart": n}),),
    ((2, lambda r, n, v, ns: {"stop": n}), (6, lambda r, n, v, ns: {"start": n})),
    ((6, lambda r, n, v, ns: {"lose_session": n}),),
    ((8, lambda r, n, v, ns: {"at_call": {"node": n, "calls": r.randint(0, 80), "do": [_blow(r, n)]}}),),
    (
        (
            8,
            lambda r, n, v, ns: {
                "at_call": {"node": n, "calls": r.randint(0, 80), "do": [_request(r, r.choice(ns), v, ns)]}
            },
        ),
    ),
    ((8, lambda r, n, v, ns: {"lose_events": {"node": n, "count": r.choice((1, 3, 10))}}),),
    ((4, lambda r, n, v, ns: {"suspend": n}), (12, lambda r, n, v, ns: {"resume": n})),
    ((2, lambda r, n, v, ns: {"power_off": n}), (6, lambda r, n, v, ns: {"power_on": n})),
    ((3, lambda r, n, v, ns: {"libvirtd_down": n}), (9, lambda r, n, v, ns: {"libvirtd_up": n})),
    ((1, lambda r, n, v, ns: "zookeeper_down"), (8, lambda r, n, v, ns: "zookeeper_up")),
    ((2, lambda r, n, v, ns: {"cut": _two(r, ns)}), (6, lambda r, n, v, ns: {"heal": _two(r, ns)})),
    ((12, lambda r, n, v, ns: {"when": {"vm": v, "reaches": r.choice(PHASES), "do": [_blow(r, n)]}}),),
    ((6, lambda r, n, v, ns: {"lose_answer": {"node": n, "arrived": r.random() < 0.7}}),),
)
"""What goes wrong, each with its weight and with what ends it. A schedule has about half of them: with all at once
hardly any move would ever begin."""


def _asked_of(do: str, node: str, volume: str, **about: Any) -> Step:
    return {"storage": {"do": do, "node": node, "pool": "fast", "volume": volume, **about}}


CALLS = (
    "create",
    "load",
    "clone",
    "remove",
    "rename",
    "resize",
    "add_snapshot",
    "remove_snapshot",
    "roll_back",
    "inspect",
)
TaskStep = Callable[[random.Random, str, str], Step]
TASKS: Sequence[tuple[int, TaskStep]] = (
    (6, lambda r, n, v: _asked_of("create", n, v, size=4096)),
    (6, lambda r, n, v: _asked_of("import", n, v, path=FILE, bound=True)),
    (6, lambda r, n, v: _asked_of("clone", n, v, new=f"v{r.randint(1, 6)}")),
    (2, lambda r, n, v: _asked_of("rename", n, v, new=f"r{r.randint(1, 3)}")),
    (3, lambda r, n, v: _asked_of("rename", n, f"r{r.randint(1, 3)}", new=v)),
    (2, lambda r, n, v: _asked_of("resize", n, v, size=4096 * r.randint(1, 4))),
    (3, lambda r, n, v: _asked_of("snapshot", n, v, snapshot=r.choice("st"))),
    (2, lambda r, n, v: _asked_of("remove snapshot", n, v, snapshot=r.choice("st"))),
    (2, lambda r, n, v: _asked_of("roll back", n, v, snapshot=r.choice("st"))),
    (5, lambda r, n, v: _asked_of("remove", n, v)),
    (3, lambda r, n, v: {"cancel_task": f"fast/{v}"}),
    (3, lambda r, n, v: {"storage_slow": {"seconds": r.choice((0.0, 0.1, 0.5))}}),
    (
        2,
        lambda r, n, v: {"storage_spoilt": {"why": r.choice(("", "", "no way there; look at the network")), "node": n}},
    ),
    (2, lambda r, n, v: {"storage_fails": {"call": r.choice(CALLS), "why": "it broke; ask again", "halfway": True}}),
    (2, lambda r, n, v: {"storage_fails": {"call": r.choice(CALLS), "why": "it broke; ask again"}}),
    (2, lambda r, n, v: {"restart": n}),
    (2, lambda r, n, v: {"lose_session": n}),
    (2, lambda r, n, v: {"lose_answer": {"node": n, "arrived": r.random() < 0.5}}),
)
"""What is asked of a pool's volumes, and what goes wrong there, each with its weight."""


def _kinds(chance: random.Random) -> list[tuple[int, Kind]]:
    faults = [kind for fault in FAULTS if chance.random() < 0.5 for kind in fault]
    return [*REQUESTS, *faults]


def _step(chance: random.Random, kinds: Sequence[tuple[int, Kind]], nodes: Sequence[str], vms: Sequence[str]) -> Step:
    make = chance.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])[0]
    return make(chance, chance.choice(nodes), chance.choice(vms), nodes)


def _two(chance: random.Random, nodes: Sequence[str]) -> dict[str, str]:
    one, other = chance.sample(list(nodes), 2)
    return {"one": one, "other": other}


def _asked(chance: random.Random, node: str) -> dict[str, Any]:
    how: dict[str, Any] = {"node": node}
    if chance.random() < 0.3:
        how["parallel"] = chance.choice((2, 3))
    if chance.random() < 0.1:
        how["queue"] = False
    if chance.random() < 0.15:
        how["deadline"] = chance.choice((1.0, 10.0, 60.0))
    return how


def _brought_home(chance: random.Random, vm: str) -> dict[str, Any]:
    how: dict[str, Any] = {}
    if chance.random() < 0.15:
        how["skip"] = True
    if chance.random() < 0.15:
        how["only"] = [vm]
    if chance.random() < 0.4:
        how["make_room"] = True
    return how


def _modified(chance: random.Random, nodes: Sequence[str]) -> dict[str, Any]:
    """A change of what holds for a VM."""
    changes: Sequence[dict[str, Any]] = (
        {"policy": chance.choice(("live", "live", "shutdown", "keep"))},
        {"nodes": sorted(chance.sample(list(nodes), 2))},
        {"nodes": []},
        {"spread": chance.choice(("group", "others"))},
        {"apart": False},
        {"options": {"hypervisor.placement.selector": chance.choice(("mem", "vcpus", "load", "vms", "unknown"))}},
    )
    return chance.choice(changes)


def _request(chance: random.Random, node: str, vm: str, nodes: Sequence[str]) -> Step:
    """A request that may come between what a daemon has decided and what it writes."""
    make = chance.choices([kind for _, kind in REQUESTS], [weight for weight, _ in REQUESTS])[0]
    return make(chance, node, vm, nodes)


def _blow(chance: random.Random, node: str) -> Step:
    return {chance.choice(BLOWS): node}


def play(schedule: Schedule, at_rest: Callable[[SimCluster], list[str]] = lambda _cluster: []) -> Played:
    """Play a schedule to its end and heal the cluster; what went wrong. `at_rest` says what further is wrong then."""
    played = Played()
    with SimCluster(schedule.nodes, seed=schedule.seed) as cluster:
        invariants = Invariants(cluster)
        steps = Steps(cluster, lenient=True)
        try:
            cluster.start()
            for number, name in enumerate(schedule.networks, 1):
                subnet = {"ipv4": f"10.{number}.0.0/24", "ipv4_gateway": f"10.{number}.0.1"}
                _try(invariants, steps, {"add_network": {"name": name, **subnet}})
            for name in schedule.pools:
                _try(
                    invariants, steps, {"storage": {"do": "add pool", "node": next(iter(schedule.nodes)), "pool": name}}
                )
            for name in cluster.nodes if schedule.pools else ():
                _try(invariants, steps, {"file": {"node": name, "path": FILE, "size": 8192}})
            for name, how in schedule.vms.items():
                _try(invariants, steps, {"define": {"name": name, **how}})
            cluster.run(3.0)
            for step in schedule.steps:
                _try(invariants, steps, step)
                if invariants.problems():
                    break
            else:
                _heal(cluster, invariants, steps)
        except AssertionError as error:
            invariants.broken.append(str(error))
        played.problems = invariants.problems() or invariants.problems_at_rest() or at_rest(cluster)
        for name in schedule.networks if not played.problems else ():
            if len(acting := cluster.gateways.acting(name)) != 1:
                played.problems.append(f"{name} has gateways on {', '.join(acting) or 'no node'}")
        played.lines = invariants.journal.lines
    return played


def _try(invariants: Invariants, steps: Steps, step: Step) -> None:
    """Do a step; a request that is refused, or finds no server, is an answer like another."""
    lines, now = invariants.journal.lines, steps.cluster.world.time
    if parsed(step)[0] != "run":
        lines.append(f"{now:8.2f} ------ {described(step)}")
    try:
        steps.perform(step)
    except PvcError as error:
        lines.append(f"{now:8.2f} ------ refused: {error}")


def _heal(cluster: SimCluster, invariants: Invariants, steps: Steps) -> None:
    """End every fault, give everything time, unflush what is not in service, start what has failed for good.

    Flushes that wait for nodes to come back into service get their turns one after the other.
    """
    _end_faults(cluster, invariants, steps)
    cluster.run(GIVEN_UP)
    for name in cluster.nodes:
        if (
            cluster.client.get(keys.node_session(name)) is None
        ):  # it found its name taken: a service manager restarts it
            _try(invariants, steps, {"restart": name})
    _rest(cluster)
    for _ in range(2 + len(cluster.nodes)):
        for name in cluster.nodes:
            if cluster.node(name).state is not NodeState.READY:
                _try(invariants, steps, {"unflush": name})
        _rest(cluster)
    for name in cluster.wanted():
        if cluster.actual(name).state is ActualState.FAILED or cluster.actual(name).node is None:
            start(cluster.client, cluster.vm(name))
    _run_while(cluster, lambda: bool(invariants.problems_at_rest()), 600.0)


def _end_faults(cluster: SimCluster, invariants: Invariants, steps: Steps) -> None:
    _try(invariants, steps, "calm")
    _try(invariants, steps, "zookeeper_up")
    for name in cluster.client.children(keys.NAMES) or ():
        _try(invariants, steps, {"modify": {"vm": name, "policy": "live", "nodes": [], "apart": False}})
    fabric, names = cluster.fabric, sorted(cluster.nodes)
    everything = [*names, *(cluster.vm(name).uuid for name in cluster.client.children(keys.NAMES) or ())]
    for what in everything:
        fabric.fail_migration(what, times=0)
        fabric.fail_start(what, times=0)
        fabric.fail_plug(what, times=0)
        fabric.keeps_devices(what, False)
        fabric.ignores_shutdown(what, False)
        fabric.set_copy_seconds(what, 1.0)
        for phase in MigrationPhase:
            fabric.take_actions(what, phase)
    cluster.storage.slow(0.0)
    for name in names:
        cluster.storage.spoil("", node=name)
        for other in names:
            if other != name:
                fabric.heal(name, other)
        for verb in ("libvirtd_up", "power_on", "resume"):
            _try(invariants, steps, {verb: name})


def _rest(cluster: SimCluster) -> None:
    """Let time pass until no operation is under way but those that wait for another node to be unflushed."""

    def busy() -> bool:
        found = [read_operation(cluster.client, name) for name in cluster.nodes]
        return any(
            operation.phase not in FINAL and not _waits_for_us(operation) for operation, _ in filter(None, found)
        )

    _run_while(cluster, busy, LONGEST)
    cluster.run(70.0)


def _waits_for_us(operation: Operation) -> bool:
    return operation.phase is Phase.QUEUED and "pvc node unflush" in operation.waiting


def _run_while(cluster: SimCluster, condition: Callable[[], bool], longest: float) -> None:
    until = cluster.world.time + longest
    while cluster.world.time < until and condition():
        cluster.run(1.0)
