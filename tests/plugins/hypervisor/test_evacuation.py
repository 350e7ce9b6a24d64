"""The hypervisor's step of a flush, in a simulated cluster: what pure plans cannot show."""

from collections.abc import Sequence

import pytest

from pvc.core import keys
from pvc.core.coordination import Check, Delete
from pvc.core.hookspecs import hookimpl
from pvc.core.model import Operation, Phase
from pvc.core.turns import Entered, Gate
from pvc.plugins.hypervisor import requests
from pvc.testing.cluster import SimCluster


@pytest.mark.parametrize("parallel", [1, 2])
def test_two_vms_of_one_spread_group_are_not_sent_to_the_same_node(parallel: int) -> None:
    with SimCluster({"hv1": {}, "hv2": {}, "hv3": {"hypervisor": {"memory": 100}}}) as cluster:
        cluster.start()
        for name in ("vm1", "vm2"):
            cluster.define(name, "hv1", spread="db")
        cluster.settle()
        cluster.ask("flush", "hv1", parallel=parallel)
        ended = cluster.finish("hv1")
        assert ended.phase is Phase.INCOMPLETE
        assert "hv2 runs another VM of spread group db" in ended.message
        assert sorted(cluster.where().values()) == ["hv1", "hv2"]


def test_a_vm_that_is_undefined_while_the_daemon_is_away_does_not_hold_its_flush_up() -> None:
    with SimCluster(2) as cluster:
        cluster.start()
        cluster.define("vm1", "hv1")
        cluster.settle()
        cluster.ask("flush", "hv1")
        assert cluster.run_until(lambda: cluster.actual("vm1").state.value == "migrating")
        cluster.kill_daemon("hv1")
        cluster.run(5)
        requests.stop(cluster.client, cluster.vm("vm1"), now=True)
        cluster.run(5)
        requests.undefine(cluster.client, cluster.vm("vm1"))
        cluster.start_daemon("hv1")
        ended = cluster.finish("hv1", timeout=60)
        assert (ended.phase, ended.message) == (Phase.DONE, "hv1 is flushed: 0 VMs moved, none left")


def test_a_vm_that_is_stopped_on_its_way_and_does_not_obey_ends_the_flush_incomplete() -> None:
    with SimCluster(2) as cluster:
        cluster.start()
        vm = cluster.define("vm1", "hv1")
        cluster.settle()
        cluster.fabric.ignores_shutdown(vm.uuid)
        cluster.fabric.set_copy_seconds(vm.uuid, 30.0)
        cluster.fabric.fail_migration(vm.uuid)
        cluster.ask("flush", "hv1")
        assert cluster.run_until(lambda: cluster.actual("vm1").state.value == "migrating")
        requests.stop(cluster.client, vm, now=False)
        ended = cluster.finish("hv1")
        assert ended.phase is Phase.INCOMPLETE
        assert "vm1: has been stopping for" in ended.message


def test_a_move_begins_though_its_target_has_forgotten_the_vm_since_it_was_ordered() -> None:
    with SimCluster(2) as cluster:
        cluster.start()
        vm = cluster.define("vm1", "hv1")
        cluster.settle()
        cluster.kill_daemon("hv1")
        requests.send(cluster.client, vm, "hv2", keep_home=False)
        cluster.client.commit([Delete(keys.node_vm("hv2", vm.uuid))])
        cluster.run(15.0)
        cluster.start_daemon("hv1")
        assert cluster.run_until(lambda: cluster.vm_runs("vm1") and cluster.actual("vm1").node == "hv2", 60.0)
        assert vm.uuid in (cluster.client.children(keys.node_vms("hv2")) or ())


class Looks:
    """An open gate that counts how often the operation is looked at."""

    name = "looks"
    exclusive = False

    def __init__(self) -> None:
        self.count = 0

    def enter(self, operation: Operation) -> Entered:
        self.count += 1
        return Entered()

    def foresee(self, operation: Operation) -> Entered:
        return Entered()

    def guard(self, operation: Operation) -> Sequence[Check]:
        return ()

    def leave(self, operation: Operation) -> None:
        """Nothing is held."""

    @hookimpl
    def pvc_flush_gates(self) -> Sequence[Gate]:
        return [self]


@pytest.mark.parametrize(("parallel", "more"), [(1, False), (3, True)])
def test_what_other_nodes_publish_is_looked_at_only_if_another_vm_might_set_off(parallel: int, more: bool) -> None:
    looks = Looks()
    nodes = {"hv1": {}, "hv2": {"hypervisor": {"migration": {"inbound": 1}}}, "hv3": {}}
    with SimCluster(nodes, plugins=("flushlock", "consolelog"), ready=lambda _: {"consolelog": looks}) as cluster:
        cluster.start()
        for name in ("vm1", "vm2"):
            cluster.fabric.set_copy_seconds(cluster.define(name, "hv1", nodes=("hv1", "hv2")).uuid, 60.0)
        cluster.settle()
        cluster.ask("flush", "hv1", parallel=parallel)
        assert cluster.run_until(lambda: cluster.actual("vm1").state.value == "migrating")
        cluster.run(5.5)
        before = looks.count
        for number in range(8):
            cluster.define(f"other{number}", "hv3")
            cluster.run(1.0)
        assert (looks.count - before > 6) is more, looks.count - before
