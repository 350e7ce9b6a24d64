"""Finding what an administrator named."""

import pytest

from pvc.core import keys
from pvc.core.coordination import Create
from pvc.core.lookup import NotFound, all_nodes, all_vms, find_node, find_vm, nearest
from pvc.core.model import Node, Vm, VmState
from pvc.core.records import Garbage, encode
from pvc.core.tree import tree_ops
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World

ONE = "8b1a5e0c-7a1f-4a54-9d0e-1f2f6f1b0a01"
TWO = "0c1a5e0c-7a1f-4a54-9d0e-1f2f6f1b0a02"


@pytest.fixture
def client() -> FakeCoordinator:
    session = FakeEnsemble(World().process("servers")).connect("client")
    session.commit(tree_ops())
    for uuid, name in ((ONE, "web"), (TWO, "mail")):
        session.commit(
            [
                Create(keys.name(name), uuid.encode()),
                Create(keys.vm(uuid), encode(Vm(uuid, name, VmState.STOPPED, "hv1", 128, 1))),
            ]
        )
    session.commit([Create(keys.node("hv1"), encode(Node("hv1")))])
    return session


@pytest.mark.parametrize("text", ["web", ONE, ONE.upper()])
def test_a_vm_is_found_by_name_and_by_uuid_in_any_case(client: FakeCoordinator, text: str) -> None:
    assert find_vm(client, text).name == "web"


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "/", "we\0b", "nobody", ONE[:-1] + "9", "ä" * 36])
def test_what_is_no_vm_is_not_found_and_nothing_worse(client: FakeCoordinator, text: str) -> None:
    with pytest.raises(NotFound, match="there is no VM"):
        find_vm(client, text)


def test_a_near_miss_names_the_nearest(client: FakeCoordinator) -> None:
    with pytest.raises(NotFound, match="did you mean web"):
        find_vm(client, "wbe")
    with pytest.raises(NotFound, match="did you mean hv1"):
        find_node(client, "hv2")


def test_without_anything_near_the_message_says_where_to_look(client: FakeCoordinator) -> None:
    with pytest.raises(NotFound, match="`pvc vm list` shows them all"):
        find_vm(client, "zzz")
    with pytest.raises(NotFound, match="`pvc node list` shows them all"):
        find_node(client, "xyz")


def test_a_name_without_its_vm_is_not_found(client: FakeCoordinator) -> None:
    client.commit([Create(keys.name("half"), b"12345678-1234-1234-1234-123456789012")])
    with pytest.raises(NotFound):
        find_vm(client, "half")


def test_a_name_that_holds_junk_is_not_found(client: FakeCoordinator) -> None:
    client.commit([Create(keys.name("junk"), b"/a//b/")])
    with pytest.raises(NotFound):
        find_vm(client, "junk")


def test_a_broken_record_is_named_as_such(client: FakeCoordinator) -> None:
    client.commit([Create(keys.node("hv2"), b"junk")])
    with pytest.raises(Garbage, match="/nodes/hv2"):
        find_node(client, "hv2")


def test_listings_give_the_good_ones_in_order_and_name_the_bad_ones(client: FakeCoordinator) -> None:
    client.commit([Create(keys.node("hv0"), b"junk"), Create(keys.vm("x"), b"{}")])
    nodes, bad_nodes = all_nodes(client)
    vms, bad_vms = all_vms(client)
    assert [node.name for node in nodes] == ["hv1"]
    assert [bad.path for bad in bad_nodes] == ["/nodes/hv0"]
    assert [vm.name for vm in vms] == ["mail", "web"]
    assert [bad.path for bad in bad_vms] == ["/vms/x"]


def test_an_empty_tree_has_no_nodes_and_no_vms() -> None:
    empty = FakeEnsemble(World().process("servers")).connect("client")
    assert all_nodes(empty) == ([], [])
    assert all_vms(empty) == ([], [])


def test_at_most_three_names_are_near() -> None:
    assert len(nearest("vm1", [f"vm{i}" for i in range(10)])) == 3
