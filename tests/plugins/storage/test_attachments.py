"""VMs with volumes in a simulated cluster: where they run, with what, and of two that want one volume only one."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from pvc.core import keys as core
from pvc.core.context import Verdict
from pvc.core.model import ActualState, Vm
from pvc.core.storage import Feature
from pvc.plugins.hypervisor.requests import Refused, start, stop
from pvc.plugins.storage.decide.pools import PoolState
from pvc.plugins.storage.records import TaskKind, VolumeState
from tests.plugins.storage.shelves import GIB, KEY, Site

NODES = ("hv1", "hv2")


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as cluster:
        yield cluster


def test_a_vm_runs_with_its_volumes_as_the_backend_says_and_takes_them_along(site: Site) -> None:
    vm = site.define("web", "hv1", volumes=["fast/a", "fast/b"])
    site.settle()
    assert vm.needs == {"storage": ("volume:fast/a", "volume:fast/b")}
    assert 'type="volume"' not in site.live("web")
    assert 'file="/fake/fast/a"' in site.live("web") and 'file="/fake/fast/b"' in site.live("web")
    site.ask("flush", "hv1")
    assert site.finish("hv1").phase.value == "done"
    assert site.actual("web").node == "hv2"  # hv3 has room, and no volumes


def test_a_vm_does_not_go_where_its_pool_cannot_be_used(site: Site) -> None:
    vm = site.define("web", "hv1", volumes=["fast/a"])
    site.settle()
    site.shelves["hv2"].pools = {"fast": PoolState(problem="its mount is gone")}
    site.run(30)
    assert site.judge(vm, NODES) == {"hv2": Verdict("cannot use pool fast: its mount is gone")}
    site.ask("flush", "hv1")
    operation = site.finish("hv1")
    assert operation.phase.value == "incomplete" and site.actual("web").node == "hv1"


@pytest.mark.parametrize(
    ("volume", "why", "everywhere"),
    [
        ("fast/none", "cannot use volume fast/none: there is no such volume", True),
        ("slow/a", "cannot use volume slow/a: there is no pool slow", True),
        ("fast/removing", "cannot use volume fast/removing: it is being removed", True),
        ("fast/making", "cannot use volume fast/making: it is still being made", False),
        ("fast/busy", "cannot use volume fast/busy: a roll-back to one of its snapshots is under way", False),
        ("fast/goes", "cannot use volume fast/goes: its removal was asked for", True),
        ("fast/moves", "cannot use volume fast/moves: its renaming was asked for", True),
    ],
)
def test_what_speaks_against_a_volume_speaks_against_every_node(
    site: Site, volume: str, why: str, everywhere: bool
) -> None:
    site.add_volume("making", VolumeState.MAKING)
    site.add_volume("removing", VolumeState.REMOVING)
    for name, kind in {"busy": TaskKind.ROLL_BACK, "goes": TaskKind.REMOVE, "moves": TaskKind.RENAME}.items():
        site.add_volume(name)
        site.begin_task(name, kind)
    vm = site.define("web", "hv1", volumes=[volume], run=False)
    said = site.judge(vm, NODES)
    assert set(said) == {"hv1", "hv2"}
    for verdict in said.values():
        assert verdict.veto.startswith(why) and verdict.everywhere is everywhere


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (TaskKind.ROLL_BACK, "a roll-back to one of its snapshots"),
        (TaskKind.CLONE, "a copy of it"),
        (TaskKind.EXPORT, "its export"),
    ],
)
def test_a_vm_whose_volume_is_busy_does_not_start_until_that_is_over(site: Site, kind: TaskKind, what: str) -> None:
    site.begin_task("a", kind)
    site.define("web", "hv1", volumes=["fast/a"])
    site.run(5)
    actual = site.actual("web")
    assert actual.state is ActualState.FAILED and f"{what} is under way" in actual.reason
    site.change_volume("a", task=None)
    site.settle()
    assert 'file="/fake/fast/a"' in site.live("web")


def test_a_vm_that_is_put_off_for_long_is_started_by_itself_all_the_same(site: Site) -> None:
    site.begin_task("a", TaskKind.EXPORT, node="far")
    site.define("web", "hv1", volumes=["fast/a"])
    site.run(1000)
    actual = site.actual("web")
    assert actual.state is ActualState.FAILED and "`pvc storage task cancel` ends it" in actual.reason
    site.change_volume("a", task=None)
    assert site.run_until(lambda: site.actual("web").state is ActualState.RUNNING, 60)


@pytest.mark.parametrize("ill", ["the storage", "the node"])
def test_a_vm_is_started_by_itself_after_an_outage_of_its_storage_however_long(site: Site, ill: str) -> None:
    site.stock.features |= {Feature.CUTS_OFF}
    if ill == "the storage":  # and the node has not seen that yet
        site.stock.spoil("it is off; switch it on")
    else:
        site.shelves["hv1"].pools["fast"] = PoolState(problem="/srv is not mounted")
        site.shelves["hv1"].context.refresh_facts()
        site.run(5)
    site.define("web", "hv1", volumes=["fast/a"])
    site.run(1000)
    actual = site.actual("web")
    assert actual.state is ActualState.FAILED
    assert ("it is off" if ill == "the storage" else "cannot use pool fast: /srv is not mounted") in actual.reason
    site.stock.spoil("")
    site.shelves["hv1"].pools["fast"] = PoolState(GIB, GIB)
    site.shelves["hv1"].context.refresh_facts()
    assert site.run_until(lambda: site.actual("web").state is ActualState.RUNNING, 60)


def test_a_vm_is_started_by_itself_when_whoever_has_its_volume_open_is_gone(site: Site) -> None:
    site.stock.features |= {Feature.CUTS_OFF}
    site.stock.opens("fast", "a", "elsewhere")
    site.define("web", "hv1", volumes=["fast/a"])
    site.run(1000)
    actual = site.actual("web")
    assert actual.state is ActualState.FAILED and "is open at " in actual.reason
    site.stock.closes("fast", "a", "elsewhere")
    assert site.run_until(lambda: site.actual("web").state is ActualState.RUNNING, 60)


@pytest.mark.parametrize("kind", [TaskKind.CLONE, TaskKind.EXPORT])
def test_a_vm_starts_while_a_snapshot_of_its_volume_is_copied(site: Site, kind: TaskKind) -> None:
    site.begin_task("a", kind, snapshot="s")
    site.define("web", "hv1", volumes=["fast/a"])
    site.run(5)
    assert site.actual("web").state is ActualState.RUNNING


def test_a_volume_of_a_vm_that_runs_starts_no_other_wherever_that_is(site: Site) -> None:
    """Both were defined without anybody to judge, as before the cluster knew of volumes."""
    site.define("one", "hv1", volumes=["fast/a"])
    site.settle()
    other = site.define("other", "hv2", volumes=["fast/b", "fast/a"])
    site.run(10)
    actual = site.actual("other")
    assert actual.state is ActualState.FAILED
    assert "other cannot have volume fast/a: VM one is running with it on hv1; stop that first" in actual.reason
    assert site.fabric.running(other.uuid) == []
    stop(site.client, site.vm("one"), now=True)
    site.run_until(lambda: site.vm_runs("other"), 300)
    assert site.vm_runs("other")


def test_of_two_vms_that_start_with_one_volume_at_the_same_moment_at_most_one_runs() -> None:
    ran = [name for seed in range(8) for name in ran_with_one_volume(seed)]
    assert ran  # with some seeds none of the two does: both see the other, and try again


def ran_with_one_volume(seed: int) -> set[str]:
    """Which of two VMs that share a volume and start at the same moment ran."""
    ran: set[str] = set()
    with Site(seed=seed) as site:
        for name, node in (("one", "hv1"), ("other", "hv2")):
            site.define(name, node, volumes=["fast/a"], run=False)
        for name in ("one", "other"):
            start(site.client, site.vm(name))
        for _ in range(200):
            site.run(0.1)
            running = {name for name in ("one", "other") if site.fabric.running(site.vm(name).uuid)}
            assert len(running) < 2
            ran |= running
    return ran


def test_a_definition_that_names_anothers_volume_is_judged_to_run_nowhere(site: Site) -> None:
    site.define("one", "hv1", volumes=["fast/a"], run=False)
    vm = Vm(
        uuid="u",
        name="other",
        state=site.vm("one").state,
        node="",
        needs={"storage": ("volume:fast/a",)},
        memory=1,
        vcpus=1,
    )
    for verdict in site.judge(vm, NODES).values():
        assert verdict.everywhere and "it is a disk of VM one, and a volume can be of one" in verdict.veto
    assert site.judge(site.vm("one"), NODES) == {}


def test_of_two_definitions_with_one_volume_at_the_same_moment_one_is_refused(site: Site) -> None:
    left = [True]

    def judge(vm: Vm, nodes: tuple[str, ...]) -> Mapping[str, Verdict]:
        said = site.judge(vm, nodes)
        if left:
            left.pop()
            site.define("other", "hv2", volumes=["fast/a"], run=False)
        return said

    with pytest.raises(Refused, match="it is a disk of VM other"):
        site.define("one", "hv1", volumes=["fast/a"], run=False, judge=judge)
    assert site.client.children(core.NAMES) == ("other",)


def test_a_definition_that_makes_no_sense_is_refused_with_the_reason(site: Site) -> None:
    for volumes, why in (
        (["fast/a", "fast/a"], "volume fast/a is more than one of its disks"),
        (["fast/"], "name one"),
    ):
        with pytest.raises(Refused, match=f"one cannot run anywhere: a node .*{why}"):
            site.define("one", "hv1", volumes=volumes, judge=site.judge)
    assert not site.client.children(core.NAMES)


def test_a_key_that_has_just_become_needed_is_defined_before_the_vm_starts(site: Site) -> None:
    site.define("web", "hv1", volumes=["fast/a"], run=False)
    host = site.nodes["hv1"].host
    for number in range(3):  # at other moments between two looks of the service
        site.stock.secrets["fast"] = replace(KEY, uuid=f"{number}{KEY.uuid[1:]}", name=f"client.{number}")
        start(site.client, site.vm("web"))
        site.settle()
        assert site.actual("web").failures == 0 and len(host.known_secrets) == number + 1
        stop(site.client, site.vm("web"), now=True)
        assert site.run_until(lambda: site.actual("web").node is None, 20)


def test_a_key_is_known_before_the_first_vm_starts_and_again_after_libvirt_came_back(site: Site) -> None:
    site.stock.secrets["fast"] = KEY
    host = site.nodes["hv1"].host
    site.restart_daemon("hv1")
    site.define("web", "hv1", volumes=["fast/a"])
    site.settle()
    assert site.actual("web").failures == 0 and host.known_secrets == {KEY.uuid: KEY}
    assert KEY.uuid in site.live("web") and KEY.value.decode() not in site.live("web")
    site.run(10)
    assert site.nodes["hv2"].host.known_secrets == {KEY.uuid: KEY}
    host.down()
    assert host.known_secrets == {}
    site.run(5)
    host.up()
    site.run(5)
    assert host.known_secrets == {KEY.uuid: KEY}
