"""What clients ask of pools, volumes and snapshots: what is refused, what is written, and two who ask at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pvc.core import keys as core
from pvc.core.coordination import Conflict, Delete, Op, Put
from pvc.core.lookup import NotFound
from pvc.core.model import ActualState, VmActual
from pvc.core.records import decode, encode
from pvc.core.storage import Pool
from pvc.plugins.storage import keys
from pvc.plugins.storage.attachments import look
from pvc.plugins.storage.decide.attachment import VolumeName
from pvc.plugins.storage.decide.pools import PoolState
from pvc.plugins.storage.records import Snapshot, Task, TaskKind, TaskPhase, Volume, VolumeState, in_hand, read_tasks
from pvc.plugins.storage.requests import asking
from pvc.plugins.storage.requests import pools as poolrequests
from pvc.plugins.storage.requests import snapshots as snapshotrequests
from pvc.plugins.storage.requests import volumes as requests
from pvc.plugins.storage.requests.asking import Client, cancel
from pvc.plugins.storage.requests.changing import Where
from pvc.plugins.storage.requests.ledger import Refused
from tests.plugins.storage.ledgers import GIB, Ledger, Overtaken

Ask = Callable[[Client], Task]
DISK = Where("vms", "disk")
NOON = Snapshot("noon", 5.0, 8 * GIB)


@pytest.fixture
def ledger() -> Ledger:
    """Pool vms with one volume, disk, with one snapshot, noon."""
    ledger = Ledger()
    ledger.volume("disk", snapshots=(NOON,))
    return ledger


def untouched(ledger: Ledger) -> bool:
    """Whether nothing is asked for, and the volume is as it was."""
    disk = ledger.read("disk")
    return not read_tasks(ledger.tree) and disk is not None and disk.task is None


def test_a_volume_to_be_made_has_its_record_at_once_and_that_names_the_task(ledger: Ledger) -> None:
    task = requests.add(ledger.client(), Where("vms", "new"), 2 * GIB)
    assert (task.kind, task.node, task.pool, task.volume, task.size) == (
        *(TaskKind.CREATE, "stor1", "vms", "new", 2 * GIB),
    )
    assert ledger.task(task.id) == task and task.by == "root@laptop" and not task.bound
    made = ledger.read("new")
    assert made is not None
    assert (made.state, made.size, made.format, made.task) == (VolumeState.MAKING, 2 * GIB, "qcow2", task.id)


@pytest.mark.parametrize(
    ("ask", "kind", "fields"),
    [
        (lambda c: requests.remove(c, DISK, snapshots=True), TaskKind.REMOVE, {}),
        (lambda c: requests.resize(c, DISK, 11 * GIB, shrink=False), TaskKind.RESIZE, {"size": 11 * GIB}),
        (lambda c: requests.resize(c, DISK, 9 * GIB, shrink=True), TaskKind.RESIZE, {"size": 9 * GIB}),
        (lambda c: requests.rename(c, DISK, "other"), TaskKind.RENAME, {"new": "other"}),
        (lambda c: requests.clone(c, DISK, "copy", "noon"), TaskKind.CLONE, {"new": "copy", "snapshot": "noon"}),
        (
            lambda c: requests.save(c, DISK, "/tmp/disk.img", "stor1", "raw", None),
            TaskKind.EXPORT,
            {"path": "/tmp/disk.img", "format": "raw", "bound": True},
        ),
        (lambda c: snapshotrequests.add(c, DISK, "dusk"), TaskKind.SNAPSHOT, {"snapshot": "dusk"}),
        (lambda c: snapshotrequests.remove(c, DISK, "noon"), TaskKind.UNSNAPSHOT, {"snapshot": "noon"}),
        (lambda c: snapshotrequests.protect(c, DISK, "noon", on=True), TaskKind.PROTECT, {"on": True}),
        (lambda c: snapshotrequests.roll_back(c, DISK, "noon"), TaskKind.ROLL_BACK, {"snapshot": "noon"}),
    ],
)
def test_what_is_asked_of_a_volume_is_noted_in_its_record(
    ledger: Ledger, ask: Ask, kind: TaskKind, fields: dict[str, Any]
) -> None:
    task = ask(ledger.client())
    assert (task.kind, task.node, task.volume) == (kind, "stor1", "disk")
    assert {name: getattr(task, name) for name in fields} == fields
    disk = ledger.read("disk")
    assert disk is not None and (disk.task, disk.state) == (task.id, VolumeState.READY)


def test_a_clone_is_a_record_of_its_own_with_the_size_that_the_snapshot_has(ledger: Ledger) -> None:
    task = requests.clone(ledger.client(), DISK, "copy", "noon")
    copy = ledger.read("copy")
    assert copy is not None and (copy.state, copy.size, copy.task) == (VolumeState.MAKING, 8 * GIB, task.id)


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda c: requests.add(c, Where("vms", "a/b"), GIB), "'a/b' is no name for a volume"),
        (lambda c: requests.add(c, Where("vms", "new"), 1000), "too small"),
        (lambda c: requests.add(c, Where("vms", "new"), GIB + 1), "no whole number of sectors"),
        (lambda c: requests.add(c, Where("vms", "new"), 2**51), "too large"),
        (lambda c: requests.add(c, DISK, GIB), "there is a volume disk in pool vms already"),
        (lambda c: requests.add(c, Where("vm", "new"), GIB), "there is no pool 'vm'; did you mean vms"),
        (lambda c: requests.add(c, Where("../x", "new"), GIB), "there is no pool '../x'"),
        (lambda c: requests.remove(c, Where("vms", "dusk"), snapshots=True), "no volume 'dusk' in pool vms; did you"),
        (lambda c: requests.remove(c, Where("vms", ".."), snapshots=True), "no volume '..' in pool vms"),
        (lambda c: requests.remove(c, DISK, snapshots=False), "has snapshots: noon; say --snapshots"),
        (lambda c: requests.resize(c, DISK, 10 * GIB, shrink=True), "has 10 GiB already"),
        (lambda c: requests.resize(c, DISK, 9 * GIB, shrink=False), "10 GiB, more than 9 GiB: .* say --shrink"),
        (lambda c: requests.rename(c, DISK, ".."), "is no name for a volume"),
        (lambda c: requests.rename(c, DISK, "disk"), "there is a volume disk in pool vms already"),
        (lambda c: requests.clone(c, DISK, "disk", None), "there is a volume disk in pool vms already"),
        (lambda c: requests.clone(c, DISK, "copy", "moon"), "no snapshot 'moon' of volume vms/disk; did you mean noon"),
        (lambda c: requests.load(c, Where("vms", "new"), "disk.img", "stor1"), "name a file from the root"),
        (lambda c: requests.load(c, Where("vms", "new"), "/tmp/", "stor1"), "name a file from the root"),
        (lambda c: requests.load(c, Where("vms", "new"), "/tmp/\udcff", "stor1"), r"'/tmp/\\udcff' is not UTF-8"),
        (lambda c: requests.save(c, DISK, "/tmp/\udcff", "stor1", "raw", None), "is not UTF-8"),
        (
            lambda c: requests.load(c, Where("vms", "new"), "/tmp/a", None),
            "no node with the storage role; say with --n",
        ),
        (lambda c: requests.load(c, Where("vms", "new"), "/tmp/a", "stor2"), "no node 'stor2' .* did you mean stor1"),
        (lambda c: requests.save(c, DISK, "/tmp/a", "stor1", "vmdk", None), "'vmdk' is no format to export as"),
        (lambda c: snapshotrequests.add(c, DISK, "noon"), "has a snapshot noon already"),
        (lambda c: snapshotrequests.add(c, DISK, "a b"), "is no name for a snapshot"),
        (lambda c: snapshotrequests.remove(c, DISK, "dawn"), "there is no snapshot 'dawn' of volume vms/disk"),
        (lambda c: snapshotrequests.protect(c, DISK, "noon", on=False), "is not protected"),
        (lambda c: snapshotrequests.roll_back(c, DISK, "dawn"), "there is no snapshot 'dawn'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(ledger: Ledger, ask: Ask, why: str) -> None:
    with pytest.raises((Refused, NotFound), match=why):
        ask(ledger.client())
    assert untouched(ledger) and ledger.tree.children(keys.volumes("vms")) == ("disk",)


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda c: requests.remove(c, DISK, snapshots=True), "it is a disk of web; take it from there first"),
        (lambda c: requests.rename(c, DISK, "other"), "it is a disk of web"),
    ],
)
def test_a_volume_that_a_definition_names_is_not_removed_and_not_renamed(ledger: Ledger, ask: Ask, why: str) -> None:
    ledger.vm("web", "disk")
    with pytest.raises(Refused, match=why):
        ask(ledger.client())
    assert untouched(ledger)


def test_a_volume_that_a_vm_still_has_though_its_definition_has_lost_it_is_not_removed(ledger: Ledger) -> None:
    ledger.vm("stopped", needs=["volume:vms/disk"])
    ledger.vm("web", needs=["volume:vms/disk"], state=ActualState.RUNNING)
    with pytest.raises(Refused, match="it is a disk of web"):
        requests.remove(ledger.client(), DISK, snapshots=True)
    assert untouched(ledger)


STILL: list[Ask] = [
    lambda c: snapshotrequests.roll_back(c, DISK, "noon"),
    lambda c: snapshotrequests.add(c, DISK, "dusk"),
    lambda c: snapshotrequests.remove(c, DISK, "noon"),
    lambda c: requests.resize(c, DISK, 11 * GIB, shrink=False),
    lambda c: requests.resize(c, DISK, 9 * GIB, shrink=True),
    lambda c: requests.clone(c, DISK, "copy", None),
    lambda c: requests.save(c, DISK, "/tmp/a", "stor1", "raw", None),
]


@pytest.mark.parametrize("ask", STILL)
@pytest.mark.parametrize("state", [ActualState.RUNNING, ActualState.STARTING, ActualState.DEPARTED, ActualState.ASTRAY])
def test_a_file_that_a_running_vm_writes_to_is_left_alone(ledger: Ledger, ask: Ask, state: ActualState) -> None:
    ledger.vm("web", "disk", state=state)
    with pytest.raises(Refused, match=f"while VM web uses it, which is {state.value} on stor1; stop it first"):
        ask(ledger.client())
    assert untouched(ledger)


@pytest.mark.parametrize("ask", STILL)
@pytest.mark.parametrize("state", [ActualState.STOPPED, ActualState.FAILED])
def test_what_needs_a_volume_at_rest_is_done_while_its_vm_does_not_run(
    ledger: Ledger, ask: Ask, state: ActualState
) -> None:
    ledger.vm("web", "disk", state=state)
    assert ask(ledger.client()).volume == "disk"


@pytest.mark.parametrize("ask", STILL)
def test_a_vm_that_starts_while_somebody_asks_for_its_volume_at_rest_is_seen(ledger: Ledger, ask: Ask) -> None:
    ledger.vm("web", "disk")
    (uuid,) = ledger.tree.children(core.VMS) or ()
    started = encode(VmActual(ActualState.STARTING, "stor1"))
    late = Overtaken(ledger.tree, lambda: ledger.tree.commit([Put(core.vm_actual(uuid), started)]))
    with pytest.raises(Refused, match="while VM web uses it, which is starting"):
        ask(ledger.client(tree=late))
    assert untouched(ledger) and late.tries == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: requests.resize(c, Where("rbd", "disk"), 11 * GIB, shrink=False),
        lambda c: snapshotrequests.add(c, Where("rbd", "disk"), "dusk"),
    ],
)
def test_what_ceph_can_do_beside_a_running_vm_is_left_to_it(ledger: Ledger, ask: Ask) -> None:
    ledger.pool("rbd", "ceph")
    ledger.volume("disk", "rbd", format="raw")
    ledger.vm("web", needs=["volume:rbd/disk"], state=ActualState.RUNNING)
    assert ask(ledger.client()).pool == "rbd"


def test_a_raw_file_has_no_snapshots(ledger: Ledger) -> None:
    ledger.volume("plain", format="raw")
    with pytest.raises(Refused, match="is a raw file, which keeps no snapshots"):
        snapshotrequests.add(ledger.client(), Where("vms", "plain"), "dusk")


def test_a_protected_snapshot_keeps_itself_and_its_volume(ledger: Ledger) -> None:
    ledger.volume("safe", snapshots=(replace(NOON, protected=True),))
    safe = Where("vms", "safe")
    with pytest.raises(Refused, match=r"has protected snapshots: noon; .* protect --off vms safe noon"):
        requests.remove(ledger.client(), safe, snapshots=True)
    with pytest.raises(Refused, match="snapshot noon of volume vms/safe is protected"):
        snapshotrequests.remove(ledger.client(), safe, "noon")
    assert snapshotrequests.protect(ledger.client(), safe, "noon", on=False).on is False


def test_what_clones_share_is_kept(ledger: Ledger) -> None:
    ledger.volume("copy", parent="disk@noon")
    client = ledger.client()
    with pytest.raises(Refused, match="copy share its data"):
        requests.remove(client, DISK, snapshots=True)
    with pytest.raises(Refused, match="copy share its data"):
        requests.rename(client, DISK, "other")
    with pytest.raises(Refused, match="copy share its data as clones"):
        snapshotrequests.remove(client, DISK, "noon")
    assert untouched(ledger)


def test_a_busy_volume_is_left_alone_and_the_refusal_names_the_task(ledger: Ledger) -> None:
    client = ledger.client()
    task = requests.clone(client, DISK, "copy", None)
    asks: list[Callable[[], Task]] = [
        lambda: requests.remove(client, DISK, snapshots=True),
        lambda: requests.remove(client, Where("vms", "copy"), snapshots=True),
        lambda: snapshotrequests.roll_back(client, DISK, "noon"),
    ]
    for ask in asks:
        with pytest.raises(Refused, match=f"is busy: clone by root@laptop on stor1 is asked; .*{task.id}"):
            ask()
    ledger.end(task)
    assert requests.remove(client, Where("vms", "copy"), snapshots=False).kind is TaskKind.REMOVE


def test_a_name_that_a_task_takes_is_taken(ledger: Ledger) -> None:
    requests.rename(ledger.client(), DISK, "other")
    with pytest.raises(Refused, match="volume vms/other is busy: rename"):
        requests.add(ledger.client(), Where("vms", "other"), GIB)


@pytest.mark.parametrize(
    ("state", "why"),
    [(VolumeState.REMOVING, "was being removed and may be gone in part"), (VolumeState.MAKING, "was never finished")],
)
def test_a_volume_that_is_half_there_can_only_be_removed(ledger: Ledger, state: VolumeState, why: str) -> None:
    ledger.volume("half", state=state)
    half = Where("vms", "half")
    with pytest.raises(Refused, match=why):
        snapshotrequests.add(ledger.client(), half, "dusk")
    assert requests.remove(ledger.client(), half, snapshots=False).kind is TaskKind.REMOVE


# Two at once


def test_of_two_who_make_a_volume_of_one_name_at_once_one_hears_of_the_other(ledger: Ledger) -> None:
    new = Where("vms", "new")
    late = Overtaken(ledger.tree, lambda: requests.add(ledger.client(), new, GIB))
    with pytest.raises(Refused, match="there is a volume new"):
        requests.add(ledger.client(tree=late), new, 2 * GIB)
    assert len(read_tasks(ledger.tree)) == 1


def test_a_volume_does_not_go_while_a_clone_of_it_comes(ledger: Ledger) -> None:
    late = Overtaken(ledger.tree, lambda: requests.clone(ledger.client(), DISK, "copy", "noon"))
    with pytest.raises(Refused, match="volume vms/disk is busy: clone"):
        requests.remove(ledger.client(tree=late), DISK, snapshots=True)


def test_of_two_who_change_a_volume_at_once_one_hears_of_the_other(ledger: Ledger) -> None:
    late = Overtaken(ledger.tree, lambda: snapshotrequests.roll_back(ledger.client(), DISK, "noon"))
    with pytest.raises(Refused, match="volume vms/disk is busy: roll back"):
        requests.remove(ledger.client(tree=late), DISK, snapshots=True)
    assert len(read_tasks(ledger.tree)) == 1


@pytest.mark.parametrize(
    "ask", [lambda c: requests.remove(c, DISK, snapshots=True), lambda c: requests.rename(c, DISK, "other"), *STILL]
)
def test_a_vm_that_gets_a_volume_while_somebody_asks_for_it_is_seen(ledger: Ledger, ask: Ask) -> None:
    def define() -> None:
        ledger.vm("web", "disk", state=ActualState.STARTING)
        ledger.tree.commit([Put(core.VMS, b"")])  # as all do that give VMs things that only one can have

    late = Overtaken(ledger.tree, define)
    with pytest.raises(Refused, match="web"):
        ask(ledger.client(tree=late))
    assert untouched(ledger) and late.tries == 1


def test_who_takes_a_name_hears_of_a_rename_to_it_at_the_same_moment(ledger: Ledger) -> None:
    late = Overtaken(ledger.tree, lambda: requests.rename(ledger.client(), DISK, "other"))
    with pytest.raises(Refused, match="volume vms/other is busy: rename"):
        requests.add(ledger.client(tree=late), Where("vms", "other"), GIB)


def test_a_pool_does_not_go_while_a_volume_comes(ledger: Ledger) -> None:
    ledger.pool("spare", path="/srv/spare")
    late = Overtaken(ledger.tree, lambda: requests.add(ledger.client(), Where("spare", "new"), GIB))
    with pytest.raises(Refused, match="pool spare has 1 volumes, such as new"):
        poolrequests.remove(ledger.client(tree=late), "spare")
    late = Overtaken(ledger.tree, lambda: poolrequests.remove(ledger.client(), "empty"))
    ledger.pool("empty", path="/srv/empty")
    with pytest.raises(NotFound, match="there is no pool 'empty'"):
        requests.add(ledger.client(tree=late), Where("empty", "new"), GIB)


def test_consent_is_asked_for_anew_if_the_volume_has_changed_meanwhile(ledger: Ledger) -> None:
    bigger = Volume("disk", 20 * GIB, VolumeState.READY, "qcow2")
    late = Overtaken(ledger.tree, lambda: ledger.tree.commit([Put(keys.volume("vms", "disk"), encode(bigger))]))
    asked: list[int] = []
    requests.remove(ledger.client(tree=late), DISK, snapshots=True, consent=lambda volume: asked.append(volume.size))
    assert asked == [10 * GIB, 20 * GIB]


def test_without_consent_nothing_is_written(ledger: Ledger) -> None:
    def no(volume: Volume) -> None:
        raise Refused("no")

    client = ledger.client()
    asks: list[Callable[[], Task]] = [
        lambda: requests.remove(client, DISK, snapshots=True, consent=no),
        lambda: requests.resize(client, DISK, GIB, shrink=True, consent=no),
        lambda: snapshotrequests.remove(client, DISK, "noon", consent=no),
        lambda: snapshotrequests.roll_back(client, DISK, "noon", consent=no),
    ]
    for ask in asks:
        with pytest.raises(Refused, match="no"):
            ask()
    assert untouched(ledger)
    assert requests.resize(client, DISK, 11 * GIB, shrink=True, consent=no).size == 11 * GIB


# Which node


def test_the_node_that_asks_comes_first_then_the_least_busy_then_the_first_by_name(ledger: Ledger) -> None:
    for name in ("a", "b"):
        ledger.node(name)
        ledger.sees(name, vms=PoolState(GIB, GIB))
    assert requests.add(ledger.client("b"), Where("vms", "v1"), GIB).node == "b"
    assert requests.add(ledger.client(), Where("vms", "v2"), GIB).node == "a"
    assert requests.add(ledger.client(), Where("vms", "v3"), GIB).node == "stor1"
    assert requests.add(ledger.client(), Where("vms", "v4"), GIB).node == "a"


def test_a_node_out_of_service_is_asked_only_if_no_other_can(ledger: Ledger) -> None:
    ledger.node("a", ready=False)
    ledger.sees("a", vms=PoolState(GIB, GIB))
    assert requests.add(ledger.client("a"), Where("vms", "v1"), GIB).node == "stor1"
    ledger.sees("stor1", vms=PoolState(problem="is not mounted"))
    assert requests.add(ledger.client(), Where("vms", "v2"), GIB).node == "a"


def test_nothing_is_read_of_other_nodes_where_the_own_one_can_do_it(ledger: Ledger) -> None:
    ledger.node("other")
    ledger.sees("other", vms=PoolState(GIB, GIB))
    read: list[str] = []

    class Noted:
        def look(self, nodes: Sequence[str], folders: Sequence[str]) -> object:
            read.extend([*nodes, *folders])
            return ledger.tree.look(nodes, folders)

        def get_many(self, paths: Sequence[str]) -> object:
            read.extend(paths)
            return ledger.tree.get_many(paths)

        def __getattr__(self, name: str) -> object:
            return getattr(ledger.tree, name)

    assert requests.add(ledger.client("stor1", Noted()), Where("vms", "v1"), GIB).node == "stor1"
    assert core.node("stor1") in read and core.node("other") not in read
    assert requests.add(ledger.client(tree=Noted()), Where("vms", "v2"), GIB).node == "other"
    assert core.node("other") in read


def test_where_no_node_can_do_it_each_is_named_with_its_reason(ledger: Ledger) -> None:
    ledger.sees("stor1", vms=PoolState(problem="is not mounted"))
    ledger.node("dead", alive=False)
    ledger.node("new")
    ledger.node("hv1", roles=("hypervisor",))
    reasons = (
        "dead is dead; new has not looked at pool vms yet; stor1 cannot use pool vms: is not mounted; mend one of them"
    )
    with pytest.raises(Refused, match=f"no node can use pool vms now: {reasons}"):
        requests.add(ledger.client(), Where("vms", "v1"), GIB)
    with pytest.raises(Refused, match="node stor1 cannot use pool vms: is not mounted; mend that"):
        requests.load(ledger.client(), Where("vms", "v1"), "/tmp/a", "stor1")
    assert untouched(ledger)


def test_a_file_is_one_of_this_machine_unless_a_node_is_named(ledger: Ledger) -> None:
    ledger.node("hv1")
    ledger.sees("hv1", vms=PoolState(GIB, GIB))
    mine = requests.load(ledger.client("stor1"), Where("vms", "a"), "/tmp/a", None)
    other = requests.load(ledger.client("stor1"), Where("vms", "b"), "/tmp/a", "hv1")
    assert [(task.node, task.bound) for task in (mine, other)] == [("stor1", True), ("hv1", True)]


def test_more_than_the_pool_has_is_remarked_on(ledger: Ledger) -> None:
    assert requests.beyond(ledger.client(), "vms", 100 * GIB) == ""
    assert "101 GiB are more than pool vms has in all (100 GiB)" in requests.beyond(ledger.client(), "vms", 101 * GIB)


# Pools


def test_a_pool_is_proposed_to_a_node(ledger: Ledger) -> None:
    task = poolrequests.add(ledger.client(), "two", "directory", {"path": "/srv/two"})
    assert (task.kind, task.node, task.pool) == (TaskKind.ADD_POOL, "stor1", "two")
    assert task.proposed is not None and task.proposed.options == {"path": "/srv/two"}
    assert ledger.tree.children(keys.POOLS) == ("vms",)


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("vms", {"path": "/srv/two"}, "there is a pool vms already"),
        ("two", {"path": "/srv/vms"}, "pool vms is at that place already"),
        ("a/b", {"path": "/srv/two"}, "is no name for a pool"),
        ("two", {"path": "two"}, "say it from the root"),
        ("coming", {"path": "/srv/x"}, "somebody makes a pool coming already"),
        ("two", {"path": "/srv/coming"}, "pool coming is at that place already"),
    ],
)
def test_a_pool_that_cannot_be_is_refused(ledger: Ledger, name: str, options: dict[str, str], why: str) -> None:
    poolrequests.add(ledger.client(), "coming", "directory", {"path": "/srv/coming"})
    with pytest.raises(Refused, match=why):
        poolrequests.add(ledger.client(), name, "directory", options)
    assert len(read_tasks(ledger.tree)) == 1


def test_of_two_who_propose_one_place_at_once_one_hears_of_the_other(ledger: Ledger) -> None:
    options = {"path": "/srv/two"}
    late = Overtaken(ledger.tree, lambda: poolrequests.add(ledger.client(), "two", "directory", options))
    with pytest.raises(Refused, match="pool two is at that place already"):
        poolrequests.add(ledger.client(tree=late), "three", "directory", options)


def test_an_empty_pool_is_forgotten_and_one_with_volumes_is_not(ledger: Ledger) -> None:
    with pytest.raises(Refused, match="pool vms has 1 volumes, such as disk; remove them first"):
        poolrequests.remove(ledger.client(), "vms")
    ledger.pool("spare", path="/srv/spare")
    assert poolrequests.remove(ledger.client(), "spare") == Pool("spare", "directory", {"path": "/srv/spare"})
    assert ledger.tree.children(keys.POOLS) == ("vms",)
    with pytest.raises(NotFound, match="there is no pool 'spare'"):
        poolrequests.remove(ledger.client(), "spare")


def lost(ledger: Ledger) -> None:
    poolrequests.remove_lost(ledger.client(), "vms", lambda _backend, _volumes: None)


@pytest.fixture
def unreachable(ledger: Ledger) -> Ledger:
    ledger.sees("stor1", vms=PoolState(problem="is not mounted"))
    return ledger


def test_a_pool_that_is_lost_goes_with_its_volumes(unreachable: Ledger) -> None:
    asked: list[tuple[str, Sequence[str]]] = []
    poolrequests.remove_lost(unreachable.client(), "vms", lambda *what: asked.append(what))
    assert asked == [("directory", ["disk"])] and unreachable.tree.children(keys.POOLS) == ()


def test_a_pool_is_not_lost_while_a_living_node_can_use_it_or_may(unreachable: Ledger) -> None:
    unreachable.node("stor2")
    with pytest.raises(Refused, match="node stor2 has not looked at pool vms yet"):
        lost(unreachable)
    unreachable.sees("stor2", vms=PoolState(GIB, GIB))
    with pytest.raises(Refused, match="node stor2 can use pool vms; remove its volumes, then the pool"):
        lost(unreachable)
    unreachable.sessions["stor2"].close()
    lost(unreachable)
    assert unreachable.tree.children(keys.POOLS) == ()


@pytest.mark.parametrize(
    "ask", [lambda c: requests.remove(c, DISK, snapshots=True), lambda c: requests.rename(c, DISK, "other")]
)
def test_who_just_gives_a_vm_a_volume_that_is_to_go_has_to_look_again(ledger: Ledger, ask: Ask) -> None:
    before = ledger.tree.get(core.VMS)
    ask(ledger.client())
    assert before is not None
    with pytest.raises(Conflict):
        ledger.tree.commit([Put(core.VMS, before.data, before.version)])


def test_who_just_gives_a_vm_a_volume_of_a_pool_that_is_given_up_has_to_look_again(unreachable: Ledger) -> None:
    before = unreachable.tree.get(core.VMS)
    lost(unreachable)
    assert before is not None
    with pytest.raises(Conflict):
        unreachable.tree.commit([Put(core.VMS, before.data, before.version)])


@pytest.mark.parametrize("count", [2, 30])
def test_many_who_ask_at_once_are_all_heard(ledger: Ledger, count: int) -> None:
    """Each is overtaken by the next, just before it asks."""
    names = [f"disk{number}" for number in range(count)]
    for name in names:
        ledger.volume(name)

    class Crowd:
        def __getattr__(self, name: str) -> Any:
            return getattr(ledger.tree, name)

        def commit(self, ops: Sequence[Op]) -> tuple[str, ...]:
            if names:
                requests.remove(ledger.client(), Where("vms", names.pop()), snapshots=True)
            return ledger.tree.commit(ops)

    requests.remove(ledger.client(tree=Crowd()), DISK, snapshots=True)
    assert len(in_hand(ledger.tree)) == count + 1


def test_a_vm_whose_record_cannot_be_read_has_its_volumes_all_the_same(ledger: Ledger) -> None:
    ledger.vm("web", "disk")
    (uuid,) = ledger.tree.children(core.VMS) or ()
    ledger.tree.commit([Put(core.vm(uuid), b"{}")])
    with pytest.raises(Refused, match=f"it is a disk of {uuid} .whose record cannot be read"):
        requests.remove(ledger.client(), DISK, snapshots=True)
    assert untouched(ledger)


def test_a_volume_is_busy_with_a_task_that_cannot_be_read(ledger: Ledger) -> None:
    task = snapshotrequests.protect(ledger.client(), DISK, "noon", on=True)
    ledger.tree.commit([Put(keys.task(task.id), b"{}")])
    with pytest.raises(Refused, match=f"volume vms/disk is busy with task {task.id}, whose record"):
        requests.remove(ledger.client(), DISK, snapshots=True)


def test_no_pool_is_given_up_under_a_vm(unreachable: Ledger) -> None:
    unreachable.vm("web", "disk")
    with pytest.raises(Refused, match="volume vms/disk is a disk of VM web; take it from there first"):
        lost(unreachable)
    assert unreachable.read("disk") is not None


def test_who_gives_a_vm_a_disk_of_a_pool_that_is_given_up_is_heard(unreachable: Ledger) -> None:
    def give() -> None:
        index = unreachable.tree.get(core.VMS)
        assert index is not None
        unreachable.vm("web", "disk")
        unreachable.tree.commit([Put(core.VMS, b"", index.version)])

    late = Overtaken(unreachable.tree, give)
    with pytest.raises(Refused, match="is a disk of VM web"):
        poolrequests.remove_lost(unreachable.client(tree=late), "vms", lambda _backend, _volumes: None)


def test_who_adds_a_volume_to_a_pool_that_is_given_up_is_asked_about(unreachable: Ledger) -> None:
    asked: list[Sequence[str]] = []

    def answer(_backend: str, names: Sequence[str]) -> None:
        asked.append(names)
        if len(asked) == 1:
            unreachable.volume("late")

    poolrequests.remove_lost(unreachable.client(), "vms", answer)
    assert asked == [["disk"], ["disk", "late"]]


def test_the_first_pool_of_a_cluster_makes_its_place_in_the_tree() -> None:
    ledger = Ledger()
    places = (keys.POOLS, keys.TASKS, keys.ASKED, keys.ENDED_TASKS, keys.STORAGE)
    for path in (keys.volumes("vms"), keys.pool("vms"), *places):
        ledger.tree.commit([Delete(path)])
    poolrequests.add(ledger.client(), "vms", "directory", {"path": "/srv/vms"})
    assert len(read_tasks(ledger.tree)) == 1


def test_a_node_is_told_of_each_task_that_it_is_asked_for_and_no_other_is() -> None:
    ledger = Ledger()
    ledger.node("stor2")
    for name in ("a", "b"):
        task = requests.add(ledger.client(), Where("vms", name), GIB)
        told = ledger.tree.get(keys.asked("stor1"))
        assert told is not None and decode(Task, told.data, "told") == task
    assert ledger.tree.get(keys.asked("stor2")) is None


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (lambda c, where: requests.resize(c, where, 11 * GIB, shrink=False), TaskKind.RESIZE),
        (lambda c, where: snapshotrequests.add(c, where, "dusk"), TaskKind.SNAPSHOT),
        (lambda c, where: snapshotrequests.remove(c, where, "noon"), TaskKind.UNSNAPSHOT),
    ],
)
def test_what_is_done_to_files_at_rest_keeps_a_vm_from_starting_until_it_has_ended(
    ledger: Ledger, ask: Callable[[Client, Where], Task], kind: TaskKind
) -> None:
    ledger.pool("rbd", "ceph")
    ledger.volume("disk", "rbd", snapshots=(NOON,))
    names = [VolumeName(pool, "disk") for pool in ("vms", "rbd")]
    tasks = [ask(ledger.client(), Where(name.pool, name.volume)) for name in names]
    assert [found.stilled_by for found in look(ledger.tree, names).values()] == [kind, None]
    for task in tasks:
        cancel(ledger.client(), task.id)
    assert [found.stilled_by for found in look(ledger.tree, names).values()] == [None, None]


def test_tasks_that_have_ended_are_in_hand_no_more() -> None:
    ledger = Ledger()
    first, second, third = (requests.add(ledger.client(), Where("vms", name), GIB) for name in ("a", "b", "c"))
    assert {task.id for task in in_hand(ledger.tree)} == {first.id, second.id, third.id}
    cancel(ledger.client(), first.id)
    ledger.end(second)
    assert [task.id for task in in_hand(ledger.tree)] == [third.id]


# Ending tasks


def test_a_task_that_nobody_has_begun_with_ends_at_once_and_leaves_nothing(ledger: Ledger) -> None:
    client = ledger.client()
    task = requests.clone(client, DISK, "copy", None)
    ended = asking.cancel(client, task.id)
    assert (ended.phase, ledger.task(task.id)) == (TaskPhase.CANCELLED, ended)
    assert ledger.read("copy") is None and untouched_volume(ledger)
    with pytest.raises(Refused, match="has ended already: cancelled"):
        asking.cancel(client, task.id)


def test_who_takes_back_a_removal_of_half_a_volume_does_not_forget_that_it_may_be_there(ledger: Ledger) -> None:
    client, half = ledger.client(), Where("vms", "half")
    ledger.volume("half", state=VolumeState.MAKING)
    task = requests.remove(client, half, snapshots=True)
    asking.cancel(client, task.id)
    left = ledger.read("half")
    assert left is not None and (left.state, left.task) == (VolumeState.MAKING, None)


def test_a_task_that_is_under_way_is_asked_to_end(ledger: Ledger) -> None:
    client = ledger.client()
    task = requests.add(client, Where("vms", "new"), GIB)
    running = replace(task, phase=TaskPhase.RUNNING, attempts=1)
    late = Overtaken(ledger.tree, lambda: ledger.tree.commit([Put(keys.task(task.id), encode(running))]))
    assert asking.cancel(ledger.client(tree=late), task.id) == replace(running, cancel=True)
    assert ledger.task(task.id).cancel and ledger.read("new") is not None


def test_a_task_is_found_by_how_its_id_begins(ledger: Ledger) -> None:
    task = requests.add(ledger.client(), Where("vms", "new"), GIB)
    assert asking.find_task(ledger.tree, task.id[:8]) == asking.find_task(ledger.tree, task.id) == task
    for text in (task.id[:3], "", "/", "..", "nothing"):
        with pytest.raises(NotFound, match="there is no task"):
            asking.find_task(ledger.tree, text)


def untouched_volume(ledger: Ledger) -> bool:
    """Whether no task has the volume."""
    disk = ledger.read("disk")
    return disk is not None and disk.task is None and disk.state is VolumeState.READY
