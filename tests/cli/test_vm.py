"""`pvc vm` on a simulated cluster."""

from pathlib import Path

import pytest

from pvc.cli.exits import TIMED_OUT
from pvc.testing.cluster import XML
from tests.cli.conftest import Keyboard

UUID = "6f9619ff-8b86-4011-b42d-00cf4fc964ff"


@pytest.fixture
def definition(tmp_path: Path) -> str:
    path = tmp_path / "guest.xml"
    path.write_text(XML.format(name="guest", uuid=UUID, memory=64))
    return str(path)


def test_a_vm_from_define_to_undefine(keyboard: Keyboard, definition: str) -> None:
    where = keyboard.cluster.where
    assert keyboard.type("vm", "define", definition, "--node", "hv1").code == 0
    assert "defined already" in keyboard.type("vm", "define", definition).err
    assert keyboard.type("vm", "start", "guest").out == "guest is running\n"
    assert where()["guest"] == "hv1"
    assert keyboard.type("vm", "migrate", "guest", "hv2").out == "guest is on hv2\n"
    assert keyboard.cluster.vm("guest").home == "hv1"
    assert keyboard.type("vm", "unmigrate", UUID).code == 0
    assert (where()["guest"], keyboard.cluster.vm("guest").home) == ("hv1", None)
    assert keyboard.type("vm", "move", "guest", "hv3").code == 0
    assert (where()["guest"], keyboard.cluster.vm("guest").home) == ("hv3", None)
    assert keyboard.type("vm", "restart", "guest").code == 0
    assert keyboard.type("vm", "shutdown", "guest").out == "guest is stopped\n"
    assert where()["guest"] == ""
    assert keyboard.type("vm", "undefine", "guest", "--yes").code == 0
    assert "there is no VM 'guest'" in keyboard.type("vm", "info", "guest").err


def test_stop_and_undefine_of_a_running_vm_ask_first_and_without_an_answer_do_nothing(keyboard: Keyboard) -> None:
    for command in ("stop", "undefine"):
        said = keyboard.type("vm", command, "vm1")
        assert said.code == 1 and "--yes" in said.err
    keyboard.cluster.run(5.0)
    assert keyboard.cluster.vm_runs("vm1")


def test_undefine_yes_powers_a_running_vm_off(keyboard: Keyboard) -> None:
    assert keyboard.type("vm", "undefine", "vm1", "--yes").code == 0
    assert "vm1" not in keyboard.cluster.where()


def test_a_guest_that_does_not_obey_is_reported_in_time(keyboard: Keyboard) -> None:
    keyboard.cluster.fabric.ignores_shutdown(keyboard.cluster.vm("vm1").uuid)
    said = keyboard.type("vm", "shutdown", "vm1", "--timeout", "30")
    assert said.code == TIMED_OUT and "vm1 is not stopped after 30 s" in said.err


def test_a_start_that_fails_says_what_the_hypervisor_said(keyboard: Keyboard, definition: str) -> None:
    keyboard.cluster.fabric.fail_start(UUID, "no such kernel", times=None)
    keyboard.type("vm", "define", definition, "--node", "hv1")
    said = keyboard.type("vm", "start", "guest")
    assert said.code == 1 and "no such kernel" in said.err


def test_a_move_that_fails_says_why_and_the_vm_runs_on(keyboard: Keyboard) -> None:
    keyboard.cluster.fabric.fail_migration(keyboard.cluster.vm("vm1").uuid, "cable unplugged", times=None)
    said = keyboard.type("vm", "migrate", "vm1", "hv2")
    assert said.code == 1 and "cable unplugged" in said.err
    assert keyboard.cluster.vm_runs("vm1") and keyboard.cluster.vm("vm1").node == "hv1"


def test_a_target_without_the_role_or_out_of_service_is_refused_by_name(keyboard: Keyboard) -> None:
    keyboard.type("node", "flush", "hv3", "--wait")
    assert "cannot go to hv3: it is flushed" in keyboard.type("vm", "move", "vm1", "hv3").err
    assert "there is no node 'nowhere'" in keyboard.type("vm", "move", "vm1", "nowhere").err


def test_starting_a_vm_whose_node_is_out_of_service_starts_it_elsewhere(keyboard: Keyboard, definition: str) -> None:
    keyboard.type("vm", "define", definition, "--node", "hv1")
    keyboard.type("node", "flush", "hv1", "--wait")
    assert keyboard.type("vm", "start", "guest").code == 0
    assert keyboard.cluster.where()["guest"] in ("hv2", "hv3")
    assert keyboard.cluster.vm("guest").home == "hv1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<domain><name>x</name>", "not well-formed"),
        ("<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain><name>&a;</name></domain>", "entities"),
        ("<network/>", "domain"),
        ("<domain><name>x y</name></domain>", "<uuid> is missing"),
    ],
)
def test_broken_and_hostile_definitions_are_refused_and_nothing_is_defined(
    keyboard: Keyboard, tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "bad.xml"
    path.write_text(text)
    said = keyboard.type("vm", "define", str(path))
    assert said.code == 1 and why in said.err
    assert len(keyboard.cluster.where()) == 6


def test_a_definition_can_come_from_standard_input(keyboard: Keyboard) -> None:
    said = keyboard.type("vm", "define", "-", stdin=XML.format(name="piped", uuid=UUID, memory=64))
    assert said.code == 0, said
    assert "piped" in keyboard.cluster.where()


def test_the_list_can_be_limited_to_a_node(keyboard: Keyboard) -> None:
    rows = keyboard.type("vm", "list", "--node", "hv2", "--format", "json").rows
    assert [row["name"] for row in rows] == ["vm2", "vm5"]


def test_a_vm_on_a_node_that_does_not_answer_is_not_called_running(keyboard: Keyboard) -> None:
    keyboard.cluster.power_off("hv1")
    keyboard.cluster.run(20.0)
    said = keyboard.type("vm", "start", "vm1")
    assert said.code == 1 and "daemon of hv1, where it was last, does not answer" in said.err
    assert "does not answer" in keyboard.type("vm", "info", "vm1").out


def test_settings_of_one_vm_are_set_shown_and_unset(keyboard: Keyboard) -> None:
    said = keyboard.type(
        "vm", "set", "vm1", "hypervisor.migration.post_copy=true", "hypervisor.migration.downtime=0.05,2"
    )
    assert (said.code, said.err) == (0, "")
    keyboard.type("vm", "set", "vm1", "hypervisor.migration.bandwidth=50")
    options = {
        "hypervisor.migration.post_copy": True,
        "hypervisor.migration.downtime": [0.05, 2],
        "hypervisor.migration.bandwidth": 50,
    }
    assert keyboard.cluster.vm("vm1").options == options
    assert keyboard.type("vm", "info", "vm1", "--format", "json").rows["options"] == options
    assert "hypervisor.migration.downtime: [0.05, 2]\n" in keyboard.type("vm", "info", "vm1").out
    said = keyboard.type("vm", "unset", "vm1", "hypervisor.migration.post_copy", "hypervisor.migration.downtime")
    assert said.code == 0
    assert keyboard.cluster.vm("vm1").options == {"hypervisor.migration.bandwidth": 50}
    assert not keyboard.cluster.vm("vm2").options


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["set", "hypervisor.migration.dowtime=1"], "did you mean 'hypervisor.migration.downtime'?"),
        (["set", "hypervisor.migration.tls=true"], "cannot be set for one VM"),
        (["set", "hypervisor.migration.bandwidth=none"], "a whole number of at least 1 MiB/s"),
        (["set", "hypervisor.migration.bandwidth"], "write KEY=VALUE"),
        (["set", "hypervisor.migration.post_copy=true", "hypervisor.migration.post_copy=false"], "each key once"),
        (["unset", "hypervisor.migration.post_copy"], "has no hypervisor.migration.post_copy of its own"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_and_nothing_is_changed(
    keyboard: Keyboard, words: list[str], why: str
) -> None:
    keyboard.type("vm", "set", "vm1", "hypervisor.migration.bandwidth=50")
    said = keyboard.type("vm", words[0], "vm1", *words[1:])
    assert said.code != 0 and why in said.err
    assert keyboard.cluster.vm("vm1").options == {"hypervisor.migration.bandwidth": 50}


def test_define_takes_settings(keyboard: Keyboard, definition: str) -> None:
    assert keyboard.type("vm", "define", definition, "--set", "hypervisor.migration.post_copy=true").code == 0
    assert keyboard.cluster.vm("guest").options == {"hypervisor.migration.post_copy": True}


def test_policy_limit_and_spread_can_be_changed_and_each_by_itself(keyboard: Keyboard) -> None:
    def now() -> tuple[str, tuple[str, ...], str | None]:
        vm = keyboard.cluster.vm("vm1")
        return vm.policy.value, vm.nodes, vm.spread

    assert keyboard.type("vm", "modify", "vm1", "--policy", "keep").out == "vm1: policy keep, limit -, spread -\n"
    keyboard.type("vm", "modify", "vm1", "--limit", "hv1", "--limit", "hv2", "--limit", "hv1", "--spread", "db")
    assert now() == ("keep", ("hv1", "hv2"), "db")
    keyboard.type("vm", "modify", "vm1", "--limit", "hv1")
    assert now() == ("keep", ("hv1",), "db")
    keyboard.type("vm", "modify", "vm1", "--no-limit")
    assert now() == ("keep", (), "db")
    keyboard.type("vm", "modify", "vm1", "--no-spread", "--policy", "live")
    assert now() == ("live", (), None)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "nothing to change"),
        (["--limit", "hv9"], "there is no node 'hv9'"),
        (["--limit", "hv1", "--limit", ""], "there is no node"),
        (["--limit", "hv1", "--no-limit"], "an option and its opposite"),
        (["--spread", " "], "has a name"),
        (["--spread", "db", "--no-spread"], "an option and its opposite"),
        (["--policy", "gone"], "'gone'"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(keyboard: Keyboard, words: list[str], why: str) -> None:
    before = keyboard.cluster.vm("vm1")
    said = keyboard.type("vm", "modify", "vm1", *words)
    assert said.code != 0 and why in said.err
    assert keyboard.cluster.vm("vm1") == before


def test_a_limit_that_leaves_out_where_the_vm_is_says_that_it_stays_there(keyboard: Keyboard) -> None:
    said = keyboard.type("vm", "modify", "vm1", "--limit", "hv2")
    assert said.code == 0 and "it stays on hv1" in said.err and "pvc vm move vm1" in said.err
    keyboard.cluster.run(5.0)
    assert keyboard.cluster.where()["vm1"] == "hv1"


def test_a_definition_limited_to_an_unknown_node_is_refused(keyboard: Keyboard, definition: str) -> None:
    assert "there is no node 'hv9'" in keyboard.type("vm", "define", definition, "--limit", "hv9").err
