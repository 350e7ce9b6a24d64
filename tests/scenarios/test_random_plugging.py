"""VMs that are plugged in and out under random moves and faults: in the end each has what its definition says."""

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pvc.core.devices import waiting
from pvc.plugins.hypervisor.requests import start
from pvc.testing.cluster import SimCluster
from pvc.testing.conditions import defined, unmet
from pvc.testing.steps import Step
from tests.scenarios.schedules import PHASES, Schedule, play

SEEDS = max(1, int(os.environ.get("PVC_SEEDS", 100)) // 4)
TOGETHER = 5
MACS = tuple(f"52:54:00:00:00:0{number}" for number in range(1, 4))
NEEDS = {"networking": ("network:lan",)}

Kind = Callable[[random.Random, str, str, Sequence[str]], Step]
KINDS: tuple[tuple[int, Kind], ...] = (
    (20, lambda r, n, v, ns: {"plug": {"vm": v, "network": "lan", "mac": r.choice(MACS)}}),
    (16, lambda r, n, v, ns: {"unplug": {"vm": v, "what": r.choice(MACS)}}),
    (5, lambda r, n, v, ns: {"move": {"vm": v, "to": r.choice(ns)}}),
    (3, lambda r, n, v, ns: {"flush": n}),
    (5, lambda r, n, v, ns: {"unflush": n}),
    (3, lambda r, n, v, ns: {"stop_vm": {"vm": v, "now": r.random() < 0.7}}),
    (5, lambda r, n, v, ns: {"start_vm": v}),
    (3, lambda r, n, v, ns: {"restart_vm": v}),
    (2, lambda r, n, v, ns: {"guest_crashes": v}),
    (4, lambda r, n, v, ns: {"fail_plug": v}),
    (3, lambda r, n, v, ns: {"keeps_devices": {"vm": v, "keeps": r.random() < 0.5}}),
    (4, lambda r, n, v, ns: {"restart": n}),
    (2, lambda r, n, v, ns: {"lose_session": n}),
    (2, lambda r, n, v, ns: {"libvirtd_down": n}),
    (5, lambda r, n, v, ns: {"libvirtd_up": n}),
    (5, lambda r, n, v, ns: {"lose_answer": {"node": n, "arrived": r.random() < 0.7}}),
    (3, lambda r, n, v, ns: {"lose_events": {"node": n, "count": 3}}),
    (6, lambda r, n, v, ns: {"at_call": {"node": n, "calls": r.randint(0, 40), "do": [_blow(r, n, v, ns)]}}),
    (4, lambda r, n, v, ns: {"when": {"vm": v, "reaches": r.choice(PHASES), "do": [_blow(r, n, v, ns)]}}),
)


def _blow(chance: random.Random, node: str, vm: str, nodes: Sequence[str]) -> Step:
    _, kind = chance.choice((*KINDS[:2], *KINDS[11:14]))
    return kind(chance, node, vm, nodes)


def make(seed: int) -> Schedule:
    chance = random.Random(seed)
    names = ("hv1", "hv2", "hv3")
    nodes: dict[str, dict[str, Any]] = {
        name: {"address": f"10.0.0.{number}", "roles": {"networking": True}} for number, name in enumerate(names, 1)
    }
    kinds, weights = [kind for _, kind in KINDS], [weight for weight, _ in KINDS]
    steps: list[Step] = [{"add_network": {"name": "lan"}}, {"run": 20}]
    for _ in range(chance.randint(20, 60)):
        do = chance.choices(kinds, weights)[0]
        steps.append(do(chance, chance.choice(names), chance.choice(("a", "b")), names))
        steps.append({"run": round(chance.choice((0.0, 0.02, 0.5, 3.0, 20.0)) * chance.random(), 3)})
    return Schedule(seed, nodes, {"a": {"node": "hv1"}, "b": {"node": "hv2"}}, steps)


def differences(cluster: SimCluster) -> list[str]:
    """What is not as the definitions say."""
    for name in ("a", "b"):
        start(cluster.client, cluster.vm(name))
    cluster.run(120)
    found: list[str] = []
    for name in ("a", "b"):
        vm, macs = cluster.vm(name), defined(cluster, name)
        found += unmet(cluster, {"vm": {name: "running"}, "plugged": {name: macs}})
        if vm.needs != (NEEDS if macs else {}):
            found.append(f"{name} needs {vm.needs} and has {macs}")
        found += [f"{name} still waits for {change}" for change in waiting(vm)]
    return found


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_every_vm_has_what_its_definition_says(first: int) -> None:
    for seed in range(first, min(first + TOGETHER, SEEDS)):
        played = play(make(seed), differences)
        assert not played.problems, "\n".join([f"seed {seed}", *played.lines, *played.problems])
