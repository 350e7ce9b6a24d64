"""What clients ask of VMs, on a tree with three nodes and no daemon."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pvc.core import keys
from pvc.core.coordination import Conflict, Create, Op, Put
from pvc.core.lookup import LacksRole, NotFound
from pvc.core.model import (
    ActualState,
    Node,
    NodeFacts,
    NodeState,
    Operation,
    OperationKind,
    Policy,
    Vm,
    VmActual,
    VmState,
)
from pvc.core.records import decode, encode
from pvc.core.tree import tree_ops
from pvc.plugins.hypervisor import requests
from pvc.plugins.hypervisor.cluster import read_candidate
from pvc.plugins.hypervisor.decide.definition import Definition, read_definition
from pvc.plugins.hypervisor.records import read_vm
from pvc.plugins.hypervisor.requests import Refused
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World
from tests.plugins.hypervisor.vms import UUID


def definition(name: str = "web", uuid: str = UUID, memory: int = 512) -> Definition:
    return read_definition(
        f"<domain><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>{memory}</memory><vcpu>2</vcpu></domain>"
    )


class Site:
    def __init__(self) -> None:
        self.ensemble = FakeEnsemble(World().process("servers"))
        self.client = self.ensemble.connect("client")
        self.client.commit(tree_ops())
        self.sessions: dict[str, FakeCoordinator] = {}
        for name, memory in (("hv1", 1024), ("hv2", 4096), ("hv3", 2048)):
            self.add_node(name, memory)

    def add_node(self, name: str, memory: int, roles: tuple[str, ...] = ("hypervisor",)) -> None:
        session = self.sessions[name] = self.ensemble.connect(name)
        session.commit(
            [
                Create(keys.node(name), encode(Node(name, roles=roles))),
                Create(keys.node_vms(name)),
                Create(keys.node_facts(name), encode(NodeFacts(memory=memory))),
                Create(keys.node_session(name), ephemeral=True),
            ]
        )

    def set_node(self, name: str, state: NodeState) -> None:
        self.client.commit([Put(keys.node(name), encode(Node(name, state, roles=("hypervisor",))))])

    def set_actual(self, **how: Any) -> None:
        self.client.commit([Put(keys.vm_actual(UUID), encode(VmActual(**how)))])

    def put(self, vm: Vm) -> Vm:
        self.client.commit([Put(keys.vm(UUID), encode(vm))])
        return vm

    def vm(self) -> Vm:
        records = read_vm(self.client, UUID)
        assert records is not None
        return records.vm

    def define(self, node: str | None = "hv1", **how: Any) -> Vm:
        return requests.define(self.client, definition(), node, **how)

    def running(self, node: str = "hv1", **how: Any) -> Vm:
        """A VM that runs on a node."""
        vm = self.put(replace(self.define(node), state=VmState.RUNNING, **how))
        self.set_actual(state=ActualState.RUNNING, node=node)
        return vm

    def indexed(self) -> list[str]:
        return [name for name in self.sessions if UUID in (self.client.children(keys.node_vms(name)) or ())]


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_defined_vm_is_stopped_and_everything_of_it_is_there(site: Site) -> None:
    vm = site.define(policy=Policy.KEEP, nodes=("hv1",), spread="db")
    assert vm == Vm(UUID, "web", VmState.STOPPED, "hv1", 512, 2, policy=Policy.KEEP, nodes=("hv1",), spread="db")
    records = read_vm(site.client, UUID)
    assert records is not None and (records.vm, records.actual) == (vm, VmActual())
    xml, name = site.client.get(keys.vm_xml(UUID)), site.client.get(keys.name("web"))
    assert xml is not None and xml.data.decode() == definition().xml
    assert name is not None and name.data.decode() == UUID
    assert site.indexed() == ["hv1"]


def test_without_a_node_the_one_with_most_room_is_taken(site: Site) -> None:
    assert site.define(None).node == "hv2"


def test_a_name_and_a_uuid_are_taken_once_and_nothing_is_half_defined(site: Site) -> None:
    site.define()
    before = site.ensemble.dump()
    with pytest.raises(Refused, match=r"name web is defined already; `pvc vm list`"):
        requests.define(site.client, definition(uuid=UUID[:-1] + "2"), "hv1")
    with pytest.raises(Refused, match=f"UUID {UUID} is defined already"):
        requests.define(site.client, definition(name="other"), "hv1")
    assert site.ensemble.dump() == before


def test_a_vm_is_not_defined_on_a_node_that_cannot_run_it(site: Site) -> None:
    site.add_node("store", 0, roles=("storage",))
    with pytest.raises(LacksRole, match="store does not have the hypervisor role; nodes that have it: hv1, hv2, hv3"):
        site.define("store")
    with pytest.raises(NotFound, match="there is no node 'hv9'"):
        site.define("hv9")
    with pytest.raises(Refused, match=r"no node can take web: hv1 has 1024 MiB free of 1024, it needs 9000; hv2"):
        requests.define(site.client, definition(memory=9000), None)


def test_undefine_leaves_nothing_behind(site: Site) -> None:
    before = site.ensemble.dump()
    vm = site.define()
    site.client.commit([Create(keys.node_vm("hv2", UUID)), Create(f"{keys.vm(UUID)}/console")])
    for number in range(requests.BATCH + 5):
        site.client.commit([Create(f"{keys.vm(UUID)}/console/{number}")])
    site.client.commit([Create(f"{keys.vm(UUID)}/console/1/deep")])
    requests.undefine(site.client, vm)
    assert site.ensemble.dump() == before


@pytest.mark.parametrize("state", [state for state in ActualState if state is not ActualState.STOPPED])
def test_only_a_stopped_vm_is_undefined(site: Site, state: ActualState) -> None:
    vm = site.define()
    site.set_actual(state=state, node="hv1")
    before = site.ensemble.dump()
    with pytest.raises(Refused, match=f"web is {state.value}; stop it first"):
        requests.undefine(site.client, vm)
    assert site.ensemble.dump() == before


def test_a_vm_that_is_about_to_start_is_not_undefined(site: Site) -> None:
    vm = requests.start(site.client, site.define())
    with pytest.raises(Refused, match="stop it first"):
        requests.undefine(site.client, vm)


def test_start_wants_it_running_where_it_is_assigned(site: Site) -> None:
    vm = requests.start(site.client, site.define())
    assert (vm.state, vm.node, vm.home, vm.generation) == (VmState.RUNNING, "hv1", None, 1)
    assert site.vm() == vm


def test_start_takes_another_node_if_its_own_takes_none_and_remembers_its_home(site: Site) -> None:
    vm = site.define()
    site.set_node("hv1", NodeState.FLUSHED)
    vm = requests.start(site.client, vm)
    assert (vm.node, vm.home, vm.displaced_by) == ("hv2", "hv1", None)
    assert site.indexed() == ["hv1", "hv2"]


def test_start_does_not_take_a_node_that_waits_for_its_flush(site: Site) -> None:
    vm = site.define("hv2")
    flush = Operation("op", OperationKind.FLUSH, "hv2", "root", 0.0)
    site.client.commit([Create(keys.node_operation("hv2"), encode(flush))])
    assert requests.start(site.client, vm).node == "hv3"


def test_start_without_any_node_says_why_for_each(site: Site) -> None:
    vm = site.define()
    site.set_node("hv1", NodeState.FLUSHED)
    site.set_node("hv2", NodeState.FLUSHING)
    site.sessions["hv3"].close()
    with pytest.raises(Refused, match=r"hv1 is flushed; hv2 is flushing; hv3 its daemon does not answer"):
        requests.start(site.client, vm)
    assert site.vm().state is VmState.STOPPED


def test_start_of_a_vm_whose_lease_is_held_does_not_move_it(site: Site) -> None:
    vm = site.define()
    site.set_actual(state=ActualState.FAILED, node="hv1")
    site.set_node("hv1", NodeState.FLUSHING)
    assert requests.start(site.client, vm).node == "hv1"


@pytest.mark.parametrize("now", [True, False])
def test_stop_says_whether_to_wait_for_the_guest_and_start_takes_it_back(site: Site, now: bool) -> None:
    vm = site.running()
    stopped = requests.stop(site.client, vm, now=now)
    assert (stopped.state, stopped.stop_now) == (VmState.STOPPED, now)
    again = requests.start(site.client, stopped)
    assert (again.state, again.stop_now) == (VmState.RUNNING, False)


def test_each_restart_counts(site: Site) -> None:
    vm = site.running()
    assert [requests.restart(site.client, vm).restart for _ in range(3)] == [1, 2, 3]


def test_send_goes_to_the_target_and_forgets_the_home_unless_told_to_keep_it(site: Site) -> None:
    vm = site.running()
    there = requests.send(site.client, vm, "hv3", keep_home=True)
    assert (there.node, there.home, there.displaced_by) == ("hv3", "hv1", None)
    assert site.indexed() == ["hv1", "hv3"]
    assert requests.send(site.client, there, "hv2", keep_home=True).home == "hv1"
    assert requests.send(site.client, there, "hv3", keep_home=False).home is None


def test_send_without_a_target_takes_the_best_other_node(site: Site) -> None:
    assert requests.send(site.client, site.running("hv2"), None, keep_home=False).node == "hv3"


def test_send_to_where_it_is_is_refused_unless_it_changes_its_home(site: Site) -> None:
    vm = site.running("hv2", home="hv1")
    with pytest.raises(Refused, match="web is on hv2 already"):
        requests.send(site.client, vm, "hv2", keep_home=True)
    assert requests.send(site.client, vm, "hv2", keep_home=False).home is None


def test_send_takes_back_an_order_that_has_not_been_carried_out(site: Site) -> None:
    vm = site.running()
    ordered = site.put(replace(vm, node="hv2", home="hv1", displaced_by="op", guards=("/x",)))
    back = requests.send(site.client, ordered, "hv1", keep_home=True)
    assert (back.node, back.home, back.displaced_by, back.guards) == ("hv1", None, None, ())


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (NodeState.FLUSHED, "it is flushed"),
        (NodeState.FLUSHING, "it is flushing"),
        (NodeState.UNFLUSHING, "it is unfl"),
    ],
)
def test_send_to_a_node_that_takes_nothing_is_refused(site: Site, state: NodeState, why: str) -> None:
    vm = site.running()
    site.set_node("hv2", state)
    with pytest.raises(Refused, match=rf"web cannot go to hv2: {why}"):
        requests.send(site.client, vm, "hv2", keep_home=True)


def test_send_home_goes_home_and_is_refused_at_home(site: Site) -> None:
    vm = site.running("hv2", home="hv1", displaced_by="op")
    home = requests.send_home(site.client, vm)
    assert (home.node, home.home) == ("hv1", None)
    with pytest.raises(Refused, match="web is at home on hv1"):
        requests.send_home(site.client, home)


def test_who_starts_vms_one_after_the_other_gives_no_node_more_than_it_has(site: Site) -> None:
    """No daemon has told of the first when the next is started."""
    vms = [requests.define(site.client, definition(f"v{n}", UUID[:-1] + f"{n}", 1500), "hv1") for n in range(1, 5)]
    placed = [requests.start(site.client, vm).node for vm in vms[:3]]
    assert sorted(placed) == ["hv2", "hv2", "hv3"]
    with pytest.raises(Refused, match="no node can start v4"):
        requests.start(site.client, vms[3])


def test_of_two_who_start_vms_at_once_one_looks_again(site: Site) -> None:
    one, other = (
        requests.define(site.client, definition(f"v{n}", UUID[:-1] + f"{n}", 1500), "hv3", nodes=("hv3",))
        for n in (1, 2)
    )

    class Overtaken(FakeCoordinator):
        begun = False

        def commit(self, ops: Sequence[Op]) -> tuple[str, ...]:
            if not self.begun:
                self.begun = True
                requests.start(site.client, one)
            return super().commit(ops)

    with pytest.raises(Refused, match="no node can start v2"):
        requests.start(Overtaken(site.ensemble, "overtaken"), other)


def test_a_start_does_not_overlook_that_its_node_was_flushed(site: Site) -> None:
    vm = site.define()
    flushed = Node("hv1", NodeState.FLUSHED, roles=("hypervisor",))
    busy = Interrupted(site, 1, [Put(keys.node("hv1"), encode(flushed))])
    assert requests.start(busy, vm).node == "hv2"


def test_a_vm_that_is_stopped_holds_no_room_where_it_was_sent(site: Site) -> None:
    vm = site.define()
    requests.send(site.client, vm, "hv3", keep_home=False)
    candidate = read_candidate(site.client, "hv3")
    assert candidate is not None and candidate.vms == {}
    requests.start(site.client, site.vm())
    candidate = read_candidate(site.client, "hv3")
    assert candidate is not None and candidate.vms == {UUID: 512}
    requests.stop(site.client, site.vm(), now=True)
    candidate = read_candidate(site.client, "hv3")
    assert candidate is not None and candidate.vms == {}


class Interrupted(FakeCoordinator):
    """A session before each of whose first commits somebody else writes."""

    def __init__(self, site: Site, times: int, what: Sequence[Op]) -> None:
        super().__init__(site.ensemble, "interrupted")
        self._times = times
        self._what = what
        self._other = site.client

    def commit(self, ops: Sequence[Op]) -> tuple[str, ...]:
        if self._times:
            self._times -= 1
            self._other.commit(self._what)
        return super().commit(ops)


def test_a_request_that_meets_a_daemons_write_is_repeated_on_what_is_now(site: Site) -> None:
    vm = site.running()
    changed = replace(vm, spread="written meanwhile")
    busy = Interrupted(site, 3, [Put(keys.vm(UUID), encode(changed))])
    assert requests.stop(busy, vm, now=False) == replace(changed, state=VmState.STOPPED)


def test_a_send_does_not_overlook_that_its_target_began_to_be_flushed(site: Site) -> None:
    vm = site.running()
    flushing = Node("hv2", NodeState.FLUSHING, roles=("hypervisor",))
    busy = Interrupted(site, 1, [Put(keys.node("hv2"), encode(flushing))])
    with pytest.raises(Refused, match="hv2: it is flushing"):
        requests.send(busy, vm, "hv2", keep_home=True)
    assert site.vm() == vm


def test_a_vm_that_never_rests_is_an_error_in_the_end(site: Site) -> None:
    vm = site.running()
    busy = Interrupted(site, 1000, [Put(keys.vm(UUID), encode(vm))])
    with pytest.raises(Conflict):
        requests.stop(busy, vm, now=True)


def test_a_request_for_a_vm_that_was_undefined_meanwhile_says_so(site: Site) -> None:
    vm = site.define()
    requests.undefine(site.client, vm)
    with pytest.raises(Refused, match="web is not defined any more"):
        requests.start(site.client, vm)


def test_a_request_leaves_the_options_of_plugins_alone(site: Site) -> None:
    vm = site.put(replace(site.define(), options={"colour.x": "green"}))
    requests.start(site.client, vm)
    znode = site.client.get(keys.vm(UUID))
    assert znode is not None and decode(Vm, znode.data, "vm").options == {"colour.x": "green"}
