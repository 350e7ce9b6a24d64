"""`pvc storage volume resize` of volumes that VMs run with: they see the new size, whatever happens meanwhile."""

from collections.abc import Iterator
from typing import Any

import pytest

from pvc.core import keys as core
from pvc.core.coordination import Conflict, Put
from pvc.core.decide.devices import without_device
from pvc.core.devices import with_growths
from pvc.core.mirror import Mirror
from pvc.core.model import ActualState, DeviceStep, VmActual
from pvc.core.records import encode
from pvc.plugins.hypervisor.devices import DeviceChanges
from pvc.plugins.hypervisor.records import read_vm
from pvc.plugins.storage.decide.plugging import growths
from pvc.plugins.storage.records import Task, TaskKind, read_volumes, stills
from pvc.plugins.storage.tasks.growing import wishes
from pvc.testing.migration import MigrationPhase
from tests.cli.conftest import Keyboard, Said, Terminal, streams_put_back
from tests.plugins.storage.shelves import GIB, Site

RESIZE = ("storage", "volume", "resize", "fast", "a")
DONE = "resize fast/a to 2 GiB: fast/a has its new size\n"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """VM guest runs on hv1 with volume fast/a of 1 GiB as vda."""
    with Site() as cluster:
        streams_put_back(monkeypatch)
        cluster.define("guest", "hv1", volumes=["fast/a"])
        cluster.settle()
        yield cluster


@pytest.fixture
def keyboard(site: Site) -> Keyboard:
    return Keyboard(site, Terminal())


def seen(site: Site, node: str = "hv1") -> dict[str, int]:
    """The sizes that the guest was told of, by disk."""
    return site.nodes[node].host.guest(site.vm("guest").uuid).disk_sizes


def listed(keyboard: Keyboard) -> dict[str, Any]:
    (row,) = keyboard.type("vm", "disk", "list", "guest", "--format", "json").rows
    return {key: row[key] for key in ("size", "state", "reason")}


def grown_unseen(site: Site, keyboard: Keyboard) -> Said:
    """The volume grows while libvirt on hv1 is away; the command waits for the VM to see it."""
    site.nodes["hv1"].host.down()
    said = keyboard.begin(*RESIZE, "2G")
    assert site.run_until(lambda: bool(site.vm("guest").device_changes), 20)
    site.run(3)
    assert site.stock.image("fast", "a").contents.size == 2 * GIB and not said.has_ended()
    return said


def test_a_vm_sees_a_disk_grow_as_it_runs(site: Site, keyboard: Keyboard) -> None:
    said = keyboard.type(*RESIZE, "2G")
    assert (said.code, said.out) == (0, DONE + "guest sees the new size of vda\n"), said.err
    assert seen(site) == {"vda": 2 * GIB} and site.vm("guest").device_changes == ()
    assert listed(keyboard) == {"size": 2 * GIB, "state": None, "reason": None}
    again = keyboard.type(*RESIZE, "2G")
    assert (again.code, again.err) == (1, "pvc: volume fast/a has 2 GiB already")
    assert site.vm("guest").needs == {"storage": ("volume:fast/a",)}


def test_a_vm_that_does_not_run_sees_it_when_it_starts(site: Site, keyboard: Keyboard) -> None:
    keyboard.type("vm", "stop", "guest", "--yes")
    said = keyboard.type(*RESIZE, "2G")
    assert (said.code, said.out) == (0, DONE) and site.vm("guest").device_changes == ()


def test_the_wish_is_written_with_the_new_size_and_carried_out_when_that_is_possible(
    site: Site, keyboard: Keyboard
) -> None:
    states = set()

    def ended() -> bool:
        volume, vm = read_volumes(site.client, "fast")["a"], site.vm("guest")
        assert volume is not None
        states.add((volume.size, tuple((change.step, change.size) for change in vm.device_changes)))
        return said.has_ended()

    site.nodes["hv1"].host.down()
    said = keyboard.begin(*RESIZE, "2G")
    assert not site.run_until(ended, 20)
    assert listed(keyboard) == {"size": 2 * GIB, "state": "has grown, and is not seen so yet", "reason": None}
    site.nodes["hv1"].host.up()
    assert site.run_until(ended, 60) and said.code == 0
    wish = ((DeviceStep.GROW, 2 * GIB),)
    assert states == {(GIB, ()), (2 * GIB, wish), (2 * GIB, ())}
    assert seen(site) == {"vda": 2 * GIB}


def test_a_daemon_that_is_killed_sees_to_it_when_it_is_back(site: Site, keyboard: Keyboard) -> None:
    said = grown_unseen(site, keyboard)
    site.kill_daemon("hv1")
    site.nodes["hv1"].host.up()
    assert site.run_until(said.has_ended, 60)
    assert said.code == 5 and "the daemon of hv1, where it was last, does not answer; it is done when" in said.err
    site.start_daemon("hv1")
    assert site.run_until(lambda: seen(site) == {"vda": 2 * GIB}, 60)


def test_no_volume_grows_again_before_the_vm_has_seen_that_it_has(site: Site, keyboard: Keyboard) -> None:
    said = grown_unseen(site, keyboard)
    before = site.dump()
    again = keyboard.type(*RESIZE, "3G")
    assert again.code == 1 and again.err == (
        "pvc: VM guest on hv1 is still to see that fast/a has 2 GiB; wait for that, or stop it"
    )
    assert site.dump() == before
    site.nodes["hv1"].host.up()
    assert site.run_until(said.has_ended, 60)
    assert keyboard.type(*RESIZE, "3G").code == 0 and seen(site) == {"vda": 3 * GIB}


def test_a_vm_that_is_stopped_meanwhile_is_told_nothing_when_it_starts(site: Site, keyboard: Keyboard) -> None:
    said = grown_unseen(site, keyboard)
    host = site.nodes["hv1"].host
    site.fabric.guest_crashes(site.vm("guest").uuid)
    keyboard.begin("vm", "stop", "guest", "--yes")
    host.up()
    assert site.run_until(said.has_ended, 60) and (said.code, said.out) == (0, DONE)
    keyboard.type("vm", "start", "guest")
    site.run(10)
    assert seen(site) == {} and host.calls["resize_disk"] == 0 and site.vm("guest").device_changes == ()


def test_a_vm_that_moves_meanwhile_sees_it_where_it_arrives(site: Site, keyboard: Keyboard) -> None:
    pause = site.fabric.pause_at(site.vm("guest").uuid, MigrationPhase.COPYING)
    move = keyboard.begin("vm", "move", "guest", "hv2")
    assert site.run_until(lambda: site.actual("guest").state is ActualState.MIGRATING, 20)
    said = keyboard.begin(*RESIZE, "2G")
    site.run(5)
    assert [change.size for change in site.vm("guest").device_changes] == [2 * GIB]
    pause.go_on()
    assert site.run_until(lambda: said.has_ended() and move.has_ended(), 60)
    assert (said.code, move.code) == (0, 0), said.err
    assert seen(site, "hv2") == {"vda": 2 * GIB}
    assert "resize_disk" not in site.nodes["hv1"].host.calls


def test_a_disk_that_has_left_meanwhile_needs_nothing(site: Site, keyboard: Keyboard) -> None:
    said = grown_unseen(site, keyboard)
    host = site.nodes["hv1"].host
    host.guest(site.vm("guest").uuid).xml = without_device(host.guest(site.vm("guest").uuid).xml, "disk vda")
    host.up()
    assert site.run_until(said.has_ended, 60) and said.code == 0
    assert "resize_disk" not in host.calls


def test_what_libvirt_refuses_for_long_is_told_and_can_be_asked_for_again(site: Site, keyboard: Keyboard) -> None:
    site.fabric.fail_plug(site.vm("guest").uuid, "the disk is busy", times=None)
    said = keyboard.type(*RESIZE, "2G")
    assert said.code == 5 and "pvc: guest is still to see the new size of vda: the disk is busy; resize" in said.err
    reason = "the disk is busy; resize the volume to the same size again, or stop the VM and start it"
    assert listed(keyboard) == {"size": 2 * GIB, "state": "has grown, and is not seen so", "reason": reason}
    site.fabric.fail_plug(site.vm("guest").uuid, times=0)
    said = keyboard.type(*RESIZE, "2G")
    assert (said.code, said.out) == (0, DONE + "guest sees the new size of vda\n"), said.err
    assert listed(keyboard) == {"size": 2 * GIB, "state": None, "reason": None}


def test_what_fails_once_is_tried_again(site: Site, keyboard: Keyboard) -> None:
    site.fabric.fail_plug(site.vm("guest").uuid, "somebody else migrates it", times=2)
    assert keyboard.type(*RESIZE, "2G").code == 0
    assert seen(site) == {"vda": 2 * GIB}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ActualState.STOPPED, ActualState.STARTING),
        (ActualState.FAILED, ActualState.STARTING),
        (ActualState.RUNNING, ActualState.STOPPED),
    ],
)
def test_a_vm_that_starts_or_ends_at_the_moment_of_the_wish_has_it_judged_again(
    site: Site, before: ActualState, after: ActualState
) -> None:
    path = core.vm_actual(site.vm("guest").uuid)
    site.client.commit([Put(path, encode(VmActual(before, "hv9")))])
    task = Task("t", TaskKind.RESIZE, "hv1", "me", 0.0, pool="fast", volume="a", size=2 * GIB)
    ops = wishes(site.client, task, 2 * GIB, 0.0)
    assert any(isinstance(op, Put) for op in ops) == (before is ActualState.RUNNING)
    site.client.commit([Put(path, encode(VmActual(after, "hv9")))])
    with pytest.raises(Conflict):
        site.client.commit(ops)


def test_a_vm_that_gets_the_volume_at_the_moment_of_the_wish_has_it_judged_again(
    site: Site, keyboard: Keyboard
) -> None:
    site.define("other", "hv2")
    task = Task("t", TaskKind.RESIZE, "hv1", "me", 0.0, pool="fast", volume="b", size=2 * GIB)
    ops = wishes(site.client, task, 2 * GIB, 0.0)
    assert keyboard.type("vm", "disk", "add", "other", "fast", "b").code == 0
    with pytest.raises(Conflict):
        site.client.commit(ops)


def test_no_vm_starts_with_a_volume_that_becomes_smaller(site: Site, keyboard: Keyboard) -> None:
    keyboard.type("vm", "stop", "guest", "--yes")
    site.stock.slow(10)
    said = keyboard.begin(*RESIZE, "512M", "--shrink", "--yes")
    assert site.run_until(lambda: bool(site.client.children("/storage/tasks")), 20)
    start = keyboard.type("vm", "start", "guest")
    assert start.code == 1 and "fast/a: a change of its size is under way" in start.err
    site.stock.slow(0)
    assert site.run_until(said.has_ended, 60) and said.code == 0
    assert keyboard.type("vm", "start", "guest").code == 0
    volume = read_volumes(site.client, "fast")["a"]
    assert volume is not None and volume.size == GIB // 2
    assert not stills(Task("t", TaskKind.RESIZE, "hv1", "me", 0.0, size=GIB), volume)


def test_a_size_that_is_not_wished_any_more_is_never_set(site: Site) -> None:
    context, host = site.shelves["hv1"].context, site.nodes["hv1"].host
    mirror = Mirror(context.coordinator, context.runtime, context.runtime.signal())
    changes = DeviceChanges(context, host, mirror, lambda *_: None, lambda _: None)
    records = read_vm(site.client, site.vm("guest").uuid)
    assert records is not None
    task = Task("t", TaskKind.RESIZE, "hv1", "me", 0.0, pool="fast", volume="a", size=2 * GIB)
    (wish,) = growths(records.vm, site.definition("guest"), task, 2 * GIB, 0.0)
    context.runtime.spawn("carry out", lambda: changes.carry_out(records, wish))
    site.run(5)
    assert "resize_disk" not in host.calls and not any("it is tried again" in line for line in site.log.lines)
    site.client.commit(records.put(vm=with_growths(records.vm, [wish])))
    site.run(5)
    assert seen(site) == {"vda": 2 * GIB}
