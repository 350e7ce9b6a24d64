"""Holding a node's name: never two at once, and never lost for longer than it must be."""

import logging
from dataclasses import dataclass, field, replace

import pytest

from pvc.core import keys
from pvc.core.config.settings import Config
from pvc.core.coordination import Create, Delete, Put
from pvc.core.liveness import Liveness
from pvc.core.model import ActualState, Node, NodeSession, NodeState, RolesChanged, Vm, VmActual, VmState
from pvc.core.records import decode, encode
from pvc.core.residents import RolesNeeded, role_warnings
from pvc.core.tree import tree_ops
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World

PATIENCE = 30.0


@dataclass
class FakeMachine:
    """A machine whose processes live until the test ends them."""

    name: str = "m1"
    pid: int = 1
    gone: set[int] = field(default_factory=set)

    def identity(self) -> str:
        return self.name

    def this_process(self) -> NodeSession:
        return NodeSession("host", self.pid, self.name, str(self.pid))

    def is_gone(self, session: NodeSession) -> bool:
        return session.boot == self.name and session.pid in self.gone


class Site:
    """One tree and the daemons that a test starts on it."""

    def __init__(self) -> None:
        self.world = World()
        self.ensemble = FakeEnsemble(self.world.process("servers"), expire_after=10.0)
        self.admin = self.ensemble.connect("admin")
        self.admin.commit(tree_ops())

    def daemon(self, machine: FakeMachine, node: Node | None = None) -> "tuple[Liveness, FakeCoordinator]":
        session = self.ensemble.connect("daemon")
        node = replace(node or Node("hv1", roles=("hypervisor",)), machine=machine.name)
        process = self.world.process("hv1")
        return Liveness(node, session, machine, process, logging.getLogger("test"), PATIENCE), session

    def node(self) -> Node:
        znode = self.admin.get(keys.node("hv1"))
        assert znode is not None
        return decode(Node, znode.data, "node")

    def owner(self) -> int | None:
        znode = self.admin.get(keys.node_session("hv1"))
        return None if znode is None else znode.owner

    def write(self, node: Node) -> None:
        self.admin.commit([Put(keys.node("hv1"), encode(node))])


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_new_node_is_registered_with_its_record_and_an_ephemeral_session(site: Site) -> None:
    liveness, session = site.daemon(FakeMachine())
    assert not liveness.registered()
    liveness.step()
    assert liveness.registered()
    assert (site.node().roles, site.node().state, site.node().machine) == (("hypervisor",), NodeState.READY, "m1")
    assert site.owner() == session.session_id
    assert site.admin.children(keys.node_vms("hv1")) == ()
    session.close()
    assert site.owner() is None
    assert not liveness.registered()


def test_a_second_step_writes_nothing(site: Site) -> None:
    liveness, _ = site.daemon(FakeMachine())
    liveness.step()
    commits = site.ensemble.commits
    assert liveness.step() > 1
    assert site.ensemble.commits == commits


@pytest.mark.parametrize("state", list(NodeState))
def test_a_restart_keeps_state_and_operation_and_brings_the_rest_up_to_date(site: Site, state: NodeState) -> None:
    first, session = site.daemon(FakeMachine())
    first.step()
    site.write(replace(site.node(), state=state, operation="op1"))
    session.close()
    second, _ = site.daemon(FakeMachine(pid=2), Node("hv1", roles=("storage",), version="2", address="10.0.0.9"))
    second.step()
    assert second.registered()
    change = RolesChanged(("hypervisor",), ("storage",), site.world.start)
    assert site.node() == Node("hv1", state, ("storage",), (), "10.0.0.9", "2", "m1", "op1", change)


def resident(site: Site, name: str, vm: Vm, actual: VmActual) -> None:
    """A VM that hv1 has business with."""
    site.admin.commit(
        [
            Create(keys.vm(name), encode(vm)),
            Create(keys.vm_actual(name), encode(actual)),
            Create(keys.node_vm("hv1", name)),
        ]
    )


ON_HV1 = VmActual(ActualState.RUNNING, "hv1")
BRIDGED = Vm("u1", "web", VmState.RUNNING, "hv1", 64, 1, needs={"networking": ("br0",)})


@pytest.mark.parametrize(
    ("why", "vm", "actual", "roles", "told"),
    [
        ("it runs here", BRIDGED, ON_HV1, (), "hypervisor is needed by web; networking is needed by web (br0)"),
        ("it needs one role", BRIDGED, ON_HV1, ("hypervisor",), "networking is needed by web (br0)"),
        ("it is assigned here", BRIDGED, VmActual(), ("hypervisor",), "needed by web"),
        (
            "it comes",
            replace(BRIDGED, node="hv2"),
            VmActual(node="hv2", target="hv1"),
            ("hypervisor",),
            "needed by web",
        ),
        ("it has not left", replace(BRIDGED, node="hv2"), ON_HV1, ("hypervisor",), "needed by web"),
    ],
)
def test_a_daemon_without_a_role_that_vms_need_does_not_take_the_name_and_changes_nothing(
    site: Site, why: str, vm: Vm, actual: VmActual, roles: tuple[str, ...], told: str
) -> None:
    first, session = site.daemon(FakeMachine(), Node("hv1", roles=("hypervisor", "networking")))
    first.step()
    session.close()
    resident(site, "u1", vm, actual)
    before = site.ensemble.dump()
    second, _ = site.daemon(FakeMachine(pid=2), Node("hv1", roles=roles))
    second.step()
    assert isinstance(second.taken, RolesNeeded)
    assert told in str(second.taken)
    assert not second.registered()
    assert site.ensemble.dump() == before


@pytest.mark.parametrize(
    ("why", "vm", "actual"),
    [
        ("it needs nothing of it", replace(BRIDGED, needs={}), ON_HV1),
        ("an older version defined it", Vm("u1", "web", VmState.RUNNING, "hv1", 64, 1), ON_HV1),
        ("it is elsewhere", replace(BRIDGED, node="hv2", home="hv1"), VmActual(ActualState.RUNNING, "hv2")),
    ],
)
def test_a_role_that_no_vm_here_needs_may_go_and_the_change_is_kept(
    site: Site, why: str, vm: Vm, actual: VmActual
) -> None:
    first, session = site.daemon(FakeMachine(), Node("hv1", roles=("hypervisor", "networking")))
    first.step()
    session.close()
    resident(site, "u1", vm, actual)
    for pid in (2, 3):  # the second start changes nothing any more
        later, session = site.daemon(FakeMachine(pid=pid), Node("hv1", roles=("hypervisor",)))
        later.step()
        assert later.registered()
        session.close()
    change = site.node().roles_changed
    assert change is not None
    assert (change.old, change.new) == (("hypervisor", "networking"), ("hypervisor",))


def test_roles_may_be_added_whatever_vms_there_are(site: Site) -> None:
    first, session = site.daemon(FakeMachine())
    first.step()
    session.close()
    resident(site, "u1", BRIDGED, ON_HV1)
    second, _ = site.daemon(FakeMachine(pid=2), Node("hv1", roles=("hypervisor", "storage")))
    second.step()
    assert site.node().roles == ("hypervisor", "storage")


def test_what_config_check_warns_about_is_what_the_daemon_would_say(site: Site) -> None:
    first, _ = site.daemon(FakeMachine(), Node("hv1", roles=("hypervisor", "networking")))
    first.step()
    resident(site, "u1", BRIDGED, ON_HV1)
    without = Config("hv1", roles={"hypervisor": True, "networking": False})
    (warning,) = role_warnings(site.admin, without)
    assert "networking is needed by web (br0)" in warning
    assert role_warnings(site.admin, Config("hv1", roles={"hypervisor": True, "networking": True})) == []
    assert role_warnings(site.admin, Config("new", roles={})) == []


def test_a_record_of_an_older_version_is_readable() -> None:
    old = b'{"uuid":"u1","name":"web","state":"running","node":"hv1","memory":64,"vcpus":1}'
    assert decode(Vm, old, "vm").needs == {}
    assert decode(Node, b'{"name":"hv1","roles":["hypervisor"]}', "node").roles_changed is None


def test_a_restarted_daemon_takes_over_from_its_dead_predecessor_at_once(site: Site) -> None:
    machine = FakeMachine()
    first, old = site.daemon(machine)
    first.step()
    old.crash()
    machine.gone.add(1)
    machine.pid = 2
    second, session = site.daemon(machine)
    second.step()
    assert second.registered()
    assert site.owner() == session.session_id
    site.world.run_for(60)
    assert site.owner() == session.session_id


def test_it_waits_for_a_holder_that_may_be_alive_and_then_takes_the_free_name(site: Site) -> None:
    first, old = site.daemon(FakeMachine(pid=1))
    first.step()
    second, session = site.daemon(FakeMachine(pid=2))
    assert second.step() <= 1.0
    assert not second.registered() and first.registered()
    old.crash()
    site.world.run_for(20)
    second.step()
    assert second.registered()
    assert site.owner() == session.session_id


def test_it_refuses_to_run_beside_a_living_holder(site: Site) -> None:
    first, _ = site.daemon(FakeMachine(pid=1))
    first.step()
    second, _ = site.daemon(FakeMachine(pid=2))
    while second.taken is None and site.world.time < 2 * PATIENCE:
        second.step()
        site.world.run_for(1.0)
    assert "another daemon runs as node hv1: process 1 on host; stop it" in str(second.taken)
    assert PATIENCE <= site.world.time <= PATIENCE + 2
    assert first.registered() and not second.registered()
    second.step()
    assert not second.registered()


def test_another_machines_node_is_not_taken_over_even_if_nobody_holds_it(site: Site) -> None:
    first, session = site.daemon(FakeMachine("m1"))
    first.step()
    session.close()
    second, _ = site.daemon(FakeMachine("m2"))
    second.step()
    assert "registered by another machine (m1)" in str(second.taken)
    assert "pvc node forget hv1" in str(second.taken)
    assert site.node().machine == "m1" and site.owner() is None


def test_after_a_lost_session_it_registers_anew(site: Site) -> None:
    liveness, session = site.daemon(FakeMachine())
    liveness.step()
    before = session.session_id
    session.expire()
    assert not liveness.registered()
    assert site.owner() is None
    assert liveness.step() <= 1.0
    session.resume()
    assert not liveness.registered()
    liveness.step()
    assert liveness.registered()
    assert session.session_id != before and site.owner() == session.session_id


def test_while_suspended_it_is_not_registered_and_afterwards_is_without_a_write(site: Site) -> None:
    liveness, session = site.daemon(FakeMachine())
    liveness.step()
    session.suspend()
    assert not liveness.registered()
    liveness.step()
    session.resume()
    commits = site.ensemble.commits
    assert liveness.registered()
    liveness.step()
    assert site.ensemble.commits == commits


def test_a_change_of_the_session_wakes_it(site: Site) -> None:
    liveness, session = site.daemon(FakeMachine())
    session.suspend()
    assert liveness.wake.wait(0) is True


def test_an_answer_that_got_lost_does_not_make_it_wait_for_itself(site: Site) -> None:
    liveness, session = site.daemon(FakeMachine())
    session.lose_next_commit(applied=True)
    with pytest.raises(Exception, match="look again"):
        liveness.step()
    liveness.step()
    assert liveness.registered()


def test_a_record_that_is_junk_is_replaced_by_a_good_one(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.admin.commit([Create(keys.node("hv1"), b"junk"), Create(keys.node_vms("hv1"))])
    liveness, _ = site.daemon(FakeMachine())
    liveness.step()
    assert liveness.registered()
    assert site.node().name == "hv1"
    assert "replacing it" in caplog.text


def test_a_session_record_that_is_junk_is_waited_for_like_any_other(site: Site) -> None:
    stranger = site.ensemble.connect("stranger")
    site.admin.commit([Create(keys.node("hv1"), encode(Node("hv1"))), Create(keys.node_vms("hv1"))])
    stranger.commit([Create(keys.node_session("hv1"), b"junk", ephemeral=True)])
    liveness, _ = site.daemon(FakeMachine())
    liveness.step()
    assert not liveness.registered() and liveness.taken is None
    site.admin.commit([Delete(keys.node_session("hv1"))])
    liveness.step()
    assert liveness.registered()


def test_of_two_daemons_that_start_together_exactly_one_is_registered(site: Site) -> None:
    first, _ = site.daemon(FakeMachine(pid=1))
    second, _ = site.daemon(FakeMachine(pid=2))
    for _ in range(5):
        first.step()
        second.step()
    assert (first.registered(), second.registered()) == (True, False)
