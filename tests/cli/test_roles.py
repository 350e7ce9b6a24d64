"""Commands that name a node without the role they are for, and what is shown of roles."""

from pathlib import Path

import pytest

from pvc.testing.cluster import XML
from tests.cli.conftest import Keyboard

UUID = "11111111-2222-4333-8444-555555555555"
HAVING = "; nodes that have it: hv1, hv2, hv3"


@pytest.fixture
def definition(tmp_path: Path) -> str:
    """A VM with a bridge, in a file."""
    path = tmp_path / "guest.xml"
    bridge = "<devices><interface type='bridge'><source bridge='br0'/></interface></devices></domain>"
    path.write_text(XML.format(name="guest", uuid=UUID, memory=64).replace("</domain>", bridge))
    return str(path)


@pytest.mark.parametrize(
    "words",
    [
        "vm define FILE --node stor1",
        "vm define FILE --limit stor1",
        "vm modify vm1 --limit hv1 --limit stor1",
        "vm move vm1 stor1",
        "vm migrate vm1 stor1",
        "vm list --node stor1",
        "vm log --node stor1",
        "vm log -f --node stor1",
    ],
)
def test_a_command_for_vms_that_names_a_node_without_hypervisor_fails_naming_the_role(
    mixed: Keyboard, definition: str, words: str
) -> None:
    said = mixed.type(*(definition if word == "FILE" else word for word in words.split()))
    assert said.code == 1
    assert said.err.strip() == f"pvc: stor1 does not have the hypervisor role{HAVING}"


@pytest.mark.parametrize(
    ("words", "role", "having"),
    [("bridge list --node stor1", "networking", "hv1, hv2"), ("directory list --node hv1", "storage", "stor1")],
)
def test_a_command_for_another_role_fails_naming_it(mixed: Keyboard, words: str, role: str, having: str) -> None:
    said = mixed.type(*words.split())
    node = words.split()[-1]
    assert (said.code, said.err.strip()) == (
        1,
        f"pvc: {node} does not have the {role} role; nodes that have it: {having}",
    )


def test_a_vm_with_a_bridge_is_defined_where_the_role_is_and_nowhere_else(mixed: Keyboard, definition: str) -> None:
    said = mixed.type("vm", "define", definition, "--node", "hv3")
    assert (said.code, said.err) == (1, "pvc: hv3 does not have the networking role; nodes that have it: hv1, hv2")
    assert mixed.type("vm", "define", definition).code == 0
    assert mixed.cluster.vm("guest").node in ("hv1", "hv2")
    row = mixed.type("--format", "json", "vm", "info", "guest").rows
    assert row["needs"] == {"networking": ["br0"]}
    assert "no bridge" not in mixed.type("vm", "start", "guest").err


def test_what_a_vm_needs_is_found_out_also_if_only_the_commands_for_vms_are_loaded(
    mixed: Keyboard, definition: str
) -> None:
    mixed.loaded = ("hypervisor",)
    mixed.cluster.nodes["hv1"].bridges.switch("br0", False)
    mixed.cluster.run(20)
    assert mixed.type("vm", "define", definition).code == 0
    assert mixed.cluster.vm("guest").needs == {"networking": ("br0",)}
    assert mixed.cluster.vm("guest").node == "hv2"


def test_the_client_chooses_only_nodes_where_the_bridge_is_up(mixed: Keyboard, definition: str) -> None:
    mixed.cluster.nodes["hv1"].bridges.switch("br0", False)
    mixed.cluster.run(20)
    assert mixed.type("vm", "define", definition).code == 0
    assert mixed.cluster.vm("guest").node == "hv2"
    said = mixed.type("vm", "move", "guest", "hv1")
    assert said.code == 1 and "guest cannot go to hv1: it has no bridge br0 that is up (networking)" in said.err
    mixed.cluster.nodes["hv1"].bridges.switch("br0", True)
    mixed.cluster.nodes["hv2"].bridges.remove("br0")
    mixed.cluster.run(20)
    assert mixed.type("vm", "start", "guest").code == 0
    assert mixed.cluster.where()["guest"] == "hv1"
    mixed.cluster.nodes["hv1"].bridges.remove("br0")
    mixed.cluster.run(20)
    mixed.type("vm", "stop", "guest", "--yes")
    said = mixed.type("vm", "start", "guest")
    assert said.code == 1 and "no node can start guest: bare1 has no hypervisor role; hv1 has no bridge br0" in said.err


def test_modify_finds_out_anew_what_a_vm_needs(keyboard: Keyboard, definition: str) -> None:
    keyboard.type("vm", "define", definition, "--node", "hv1")
    assert keyboard.cluster.vm("guest").needs == {}
    keyboard.cluster.kill_daemon("hv1")
    keyboard.cluster.configure("hv1", {"roles": {"networking": True}, "networking": {"bridges": ["br0"]}})
    keyboard.cluster.run(15)
    keyboard.cluster.start_daemon("hv1")
    keyboard.cluster.run(15)
    keyboard.type("vm", "modify", "guest", "--policy", "live")
    assert keyboard.cluster.vm("guest").needs == {"networking": ("br0",)}
    assert "guest" in keyboard.cluster.where()


@pytest.mark.parametrize("node", ["stor1", "bare1"])
def test_a_node_without_hypervisor_is_flushed_watched_and_brought_back(mixed: Keyboard, node: str) -> None:
    assert mixed.type("node", "flush", node, "--check").code == 0
    assert mixed.type("node", "flush", node, "--dry-run").code == 0
    flushed = mixed.type("node", "flush", node, "--wait")
    assert flushed.code == 0 and "flushed" in flushed.out
    assert mixed.cluster.node(node).state.value == "flushed"
    assert mixed.type("node", "watch", node).code == 0
    assert mixed.type("node", "unflush", node, "--wait").code == 0
    assert mixed.cluster.node(node).state.value == "ready"
    assert mixed.type("node", "history", node).code == 0


def test_every_node_is_listed_with_its_roles(mixed: Keyboard) -> None:
    rows = {row["name"]: row for row in mixed.type("node", "list", "--format", "json").rows}
    assert {name: row["roles"] for name, row in rows.items()} == {
        "bare1": [],
        "hv1": ["hypervisor", "networking"],
        "hv2": ["hypervisor", "networking"],
        "hv3": ["hypervisor"],
        "stor1": ["storage"],
    }
    assert all(row["alive"] for row in rows.values())
    assert rows["stor1"]["memory"] is None


def test_a_roll_over_nodes_of_every_kind_ends_well(mixed: Keyboard) -> None:
    said = mixed.type("cluster", "roll", "--nodes", "stor1,bare1,hv3", "--run", "true", "--yes", "--settle", "0")
    assert said.code == 0, said.err + said.out
    assert {mixed.cluster.node(name).state.value for name in ("stor1", "bare1", "hv3")} == {"ready"}


def test_bridges_and_directories_are_listed(mixed: Keyboard) -> None:
    mixed.cluster.nodes["hv2"].bridges.switch("br0", False)
    mixed.cluster.run(20)
    assert mixed.type("bridge", "list", "--format", "json").rows == [
        {"node": "hv1", "up": ["br0"], "lacking": []},
        {"node": "hv2", "up": [], "lacking": ["br0"]},
    ]
    assert [row["node"] for row in mixed.type("bridge", "list", "--node", "hv1", "--format", "json").rows] == ["hv1"]
    assert mixed.type("directory", "list", "--format", "json").rows == [
        {"node": "stor1", "directory": "vms", "path": "/mnt/vms", "total": 1000, "free": 500, "problem": None}
    ]


def test_node_info_shows_the_last_change_of_roles(mixed: Keyboard) -> None:
    row = mixed.type("node", "info", "hv3", "--format", "json").rows
    assert row["roles_changed"] is None
    mixed.cluster.kill_daemon("hv3")
    mixed.cluster.configure("hv3", {"roles": {"storage": True}})
    mixed.cluster.run(15)
    mixed.cluster.start_daemon("hv3")
    mixed.cluster.run(15)
    row = mixed.type("node", "info", "hv3", "--format", "json").rows
    assert row["roles_changed"] == "hypervisor => hypervisor, storage"
    assert row["roles_changed_at"] > 0
