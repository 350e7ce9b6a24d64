"""Every live key of the hypervisor's section: after a reload the daemon goes by the new value."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pvc.core import keys
from pvc.core.config.reference import reference
from pvc.core.model import NodeFacts
from pvc.core.records import decode
from pvc.plugins.hypervisor.host import MigrationOptions
from pvc.plugins.hypervisor.schema import SCHEMA, SECTION
from pvc.testing.cluster import SimCluster
from pvc.testing.migration import MigrationPhase


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    with SimCluster(3) as made:
        made.start()
        yield made


def reload(cluster: SimCluster, key: str, value: object, node: str = "hv1") -> None:
    """Change one key of a node, with its daemon running, and see that it says so."""
    section: Any = value
    for part in reversed(key.split(".")):
        section = {part: section}
    changes = cluster.reload(node, {"hypervisor": section}).changes
    assert [(".".join(map(str, change.key)), change.live) for change in changes] == [(f"{SECTION}.{key}", True)]
    cluster.run(1.0)


def options_of_a_move(cluster: SimCluster, vm: str) -> MigrationOptions:
    """How the flush of hv1 migrates a VM."""
    found: list[MigrationOptions] = []
    uuid = cluster.vm(vm).uuid

    def look() -> None:
        migration = cluster.fabric.migrating(uuid)
        assert migration is not None
        found.append(migration.options)

    cluster.fabric.call_at(uuid, MigrationPhase.COPYING, look)
    cluster.ask("flush", "hv1")
    cluster.finish("hv1")
    return found[0]


def facts(cluster: SimCluster, node: str) -> NodeFacts:
    cluster.run(15.0)
    znode = cluster.client.get(keys.node_facts(node))
    assert znode is not None
    return decode(NodeFacts, znode.data, "facts")


OPTIONS: Mapping[str, tuple[object, str, object]] = {
    "migration.bandwidth": (50, "bandwidth", 50),
    "migration.downtime": ([0.7, 0.9], "downtime", 0.7),
    "migration.auto_converge": (False, "auto_converge", False),
    "migration.post_copy": (True, "post_copy", True),
    "migration.connections": (4, "connections", 4),
    "migration.tls": (True, "tls", True),
}
FACTS: Mapping[str, tuple[object, str, object]] = {
    "memory": (777, "memory", 777),
    "migration.inbound": (9, "inbound", 9),
}
ELSEWHERE = {
    "reserve",
    "shutdown_timeout",
    "placement.selector",
    "placement.head_room",
    "migration.uri",
    "migration.parallel",
    "migration.retries",
    "migration.deadline_per_gib",
}
"""Keys with a test of their own below."""


def test_every_live_key_has_a_test_here() -> None:
    live = {entry.path.removeprefix(f"{SECTION}.") for entry in reference({SECTION: SCHEMA}) if entry.live}
    assert live == {*OPTIONS, *FACTS, *ELSEWHERE}


@pytest.mark.parametrize("key", OPTIONS)
def test_the_next_migration_is_done_as_the_reloaded_key_says(cluster: SimCluster, key: str) -> None:
    value, option, expected = OPTIONS[key]
    cluster.define("vm1", "hv1")
    cluster.settle()
    reload(cluster, key, value)
    assert getattr(options_of_a_move(cluster, "vm1"), option) == expected


@pytest.mark.parametrize("key", FACTS)
def test_the_node_publishes_what_the_reloaded_key_says(cluster: SimCluster, key: str) -> None:
    value, fact, expected = FACTS[key]
    assert getattr(facts(cluster, "hv1"), fact) != expected
    reload(cluster, key, value)
    assert getattr(facts(cluster, "hv1"), fact) == expected


def test_the_reserve_is_taken_from_what_the_node_offers(cluster: SimCluster) -> None:
    before = facts(cluster, "hv1").memory
    reload(cluster, "reserve", 612)
    after = facts(cluster, "hv1").memory
    assert before is not None and after == before - 100


def test_a_migration_goes_by_the_reloaded_uri(cluster: SimCluster) -> None:
    cluster.define("vm1", "hv1")
    cluster.settle()
    reload(cluster, "migration.uri", "qemu+tls://{node}/system")
    assert options_of_a_move(cluster, "vm1").uri.startswith("qemu+tls://")


def test_a_vm_with_settings_of_its_own_has_the_others_from_the_reload(cluster: SimCluster) -> None:
    from pvc.plugins.hypervisor import requests

    cluster.define("vm1", "hv1")
    cluster.settle()
    requests.set_options(cluster.client, cluster.vm("vm1"), {"hypervisor.migration.bandwidth": 7})
    cluster.run(1.0)
    reload(cluster, "migration.connections", 3)
    options = options_of_a_move(cluster, "vm1")
    assert (options.bandwidth, options.connections) == (7, 3)


def test_a_flush_moves_as_many_at_a_time_as_the_reloaded_key_says(cluster: SimCluster) -> None:
    for name in ("vm1", "vm2"):
        cluster.fabric.set_copy_seconds(cluster.define(name, "hv1").uuid, 30.0)
    cluster.settle()
    cluster.ask("flush", "hv1")
    cluster.run(2.0)
    moving = [name for name in ("vm1", "vm2") if cluster.actual(name).state.value == "migrating"]
    assert len(moving) == 1
    reload(cluster, "migration.parallel", 2)
    assert [cluster.actual(name).state.value for name in ("vm1", "vm2")] == ["migrating", "migrating"]
    cluster.finish("hv1")


def test_a_flush_tries_no_further_target_once_the_reloaded_key_says_so(cluster: SimCluster) -> None:
    uuid = cluster.define("vm1", "hv1").uuid
    cluster.settle()
    reload(cluster, "migration.retries", 0)
    cluster.fabric.fail_migration(uuid, times=1)
    cluster.ask("flush", "hv1")
    assert cluster.finish("hv1").phase.value == "incomplete"


def test_a_migration_is_aborted_at_the_reloaded_deadline(cluster: SimCluster) -> None:
    cluster.fabric.never_converges(cluster.define("vm1", "hv1").uuid)
    cluster.settle()
    reload(cluster, "migration.deadline_per_gib", 5)
    cluster.ask("flush", "hv1")
    began = cluster.world.time
    assert cluster.run_until(lambda: any("migration aborted" in line for line in cluster.log.lines), 59.0)
    assert cluster.world.time - began < 10.0
    cluster.finish("hv1")


def test_a_guest_has_as_long_to_shut_down_as_the_reloaded_key_says(cluster: SimCluster) -> None:
    uuid = cluster.define("vm1", "hv1", policy="shutdown").uuid
    cluster.settle()
    cluster.fabric.ignores_shutdown(uuid)
    reload(cluster, "shutdown_timeout", 5)
    cluster.ask("flush", "hv1")
    began = cluster.world.time
    cluster.finish("hv1")
    assert cluster.world.time - began < 60.0


def test_a_flush_chooses_targets_by_the_reloaded_selector(cluster: SimCluster) -> None:
    cluster.nodes["hv2"].host.set_capacity(8000, 8)
    cluster.nodes["hv3"].host.set_capacity(16000, 8)
    cluster.nodes["hv3"].host.set_load(7.0)
    cluster.define("vm1", "hv1")
    cluster.settle()
    cluster.run(15.0)
    assert cluster.forecast("flush", "hv1").prospects[0].target == "hv3"
    reload(cluster, "placement.selector", "load")
    assert cluster.forecast("flush", "hv1").prospects[0].target == "hv2"


def test_a_flush_leaves_the_reloaded_head_room(cluster: SimCluster) -> None:
    cluster.define("vm1", "hv1")
    cluster.settle()
    assert cluster.forecast("flush", "hv1").prospects[0].target is not None
    reload(cluster, "placement.head_room", 10_000_000)
    assert cluster.forecast("flush", "hv1").prospects[0].target is None
