"""What becomes of tasks, as tables: which are begun with, what is left to do, what the records say at the end."""

from dataclasses import replace

import pytest

from pvc.core.model import Severity
from pvc.core.storage import Image, Room
from pvc.plugins.storage.decide.pools import PoolState, findings, state_of
from pvc.plugins.storage.decide.tasks import (
    KEPT,
    SPREAD,
    Need,
    Outcome,
    View,
    begun,
    may_be_own,
    need,
    new_size,
    next_tasks,
    records_after,
    superfluous,
    titled,
    why_void,
)
from pvc.plugins.storage.records import Snapshot, Task, TaskKind, TaskPhase, Volume, VolumeState

TASK = Task("t", TaskKind.CREATE, "hv1", "tester", 100.0, pool="fast", volume="a", size=10)
HERE = View("hv1", [TASK], free=4, pools={"fast"}, usable={"fast"})
THERE = replace(HERE, me="hv2", away={"hv1": 10.0}, patience=10.0)
RUNNING = replace(TASK, phase=TaskPhase.RUNNING, attempts=1, doing="making the image")
BOUND = replace(TASK, bound=True)
FLAG = replace(TASK, kind=TaskKind.SET_FLAG, pool="", volume="")
OSD = replace(BOUND, kind=TaskKind.REMOVE_OSD, pool="", volume="")


@pytest.mark.parametrize(
    ("why", "view", "begins"),
    [
        ("it is asked for here", HERE, True),
        ("it runs and has no ticket: an earlier life of this node was at it", replace(HERE, tasks=[RUNNING]), True),
        ("its ticket is of another session", replace(HERE, tasks=[RUNNING], taken={"t"}), False),
        ("its ticket is this session's, and no job is at it", replace(HERE, tasks=[RUNNING], mine={"t"}), True),
        ("a job is at it", replace(HERE, tasks=[RUNNING], mine={"t"}, busy={"t"}), False),
        ("it has ended", replace(HERE, tasks=[replace(TASK, phase=TaskPhase.DONE)]), False),
        ("this node has enough to do", replace(HERE, free=0), False),
        ("its pool cannot be used here, but it was asked for here", replace(HERE, usable=()), True),
        ("its node is away", THERE, True),
        ("its node is away, and it is bound to it", replace(THERE, tasks=[BOUND]), False),
        ("it is bound, but only its end is wanted", replace(THERE, tasks=[replace(BOUND, cancel=True)]), True),
        ("its node is there", replace(THERE, away={}), False),
        ("its node is away, but not for long", replace(THERE, away={"hv1": 9.9}), False),
        ("others come first", replace(THERE, rank=1), False),
        ("others come first, and have not taken it", replace(THERE, rank=1, away={"hv1": 10.0 + SPREAD}), True),
        ("its node is away, and so is the pool", replace(THERE, usable=()), False),
        ("its pool has been given up", replace(THERE, pools=(), usable=()), True),
        ("so it has, and only its node could do it", replace(THERE, tasks=[BOUND], pools=(), usable=()), True),
        ("so it has, but its node is there", replace(THERE, away={}, pools=(), usable=()), False),
        ("it is bound, and of no pool", replace(THERE, tasks=[OSD], pools=(), kinds={OSD.kind}), False),
        ("only its end is wanted", replace(THERE, tasks=[replace(OSD, cancel=True)], kinds={OSD.kind}), True),
        (
            "its end is wanted, and this node does not reach Ceph",
            replace(THERE, tasks=[replace(OSD, cancel=True)]),
            False,
        ),
        ("its pool is yet to be by that node", replace(THERE, tasks=[replace(BOUND, kind=TaskKind.ADD_POOL)]), False),
        ("its pool is yet to be", replace(THERE, tasks=[replace(TASK, kind=TaskKind.ADD_POOL)], usable=()), True),
        ("it is about Ceph", replace(THERE, tasks=[FLAG], usable=(), kinds={TaskKind.SET_FLAG}), True),
        ("it is about Ceph, which this node does not reach", replace(THERE, tasks=[FLAG]), False),
        ("its ticket is left", replace(THERE, tasks=[RUNNING], taken={"t"}), False),
    ],
)
def test_which_tasks_a_node_begins_with(why: str, view: View, begins: bool) -> None:
    assert next_tasks(view) == (["t"] if begins else []), why


def test_the_oldest_tasks_come_first() -> None:
    tasks = [replace(TASK, id=id, requested=at) for id, at in (("b", 2.0), ("c", 3.0), ("a", 1.0))]
    assert next_tasks(replace(HERE, tasks=tasks, free=2)) == ["a", "b"]


IMAGE = Image(10, "raw")
OLD, NEW = {"a": IMAGE, "b": None}, {"a": None, "b": IMAGE}


@pytest.mark.parametrize(
    ("kind", "images", "first", "again"),
    [
        ("create", {"a": None}, Need.DO, Need.DO),
        ("create", {"a": IMAGE}, Need.REFUSE, Need.NOTHING),
        ("create", {"a": Image(11, "raw")}, Need.REFUSE, Need.REFUSE),
        ("import", {"a": IMAGE}, Need.REFUSE, Need.NOTHING),
        ("clone", OLD, Need.DO, Need.DO),
        ("clone", {"a": IMAGE, "b": IMAGE}, Need.REFUSE, Need.NOTHING),
        ("rename", OLD, Need.DO, Need.DO),
        ("rename", NEW, Need.REFUSE, Need.NOTHING),
        ("rename", {"a": IMAGE, "b": IMAGE}, Need.REFUSE, Need.DO),
        ("remove", {"a": IMAGE}, Need.DO, Need.DO),
        ("remove", {"a": None}, Need.NOTHING, Need.NOTHING),
        ("resize", {"a": Image(9, "raw")}, Need.DO, Need.DO),
        ("resize", {"a": IMAGE}, Need.NOTHING, Need.NOTHING),
        ("snapshot", {"a": IMAGE}, Need.DO, Need.DO),
        ("snapshot", {"a": Image(10, "raw", snapshots=("s",))}, Need.REFUSE, Need.NOTHING),
        ("remove snapshot", {"a": IMAGE}, Need.NOTHING, Need.NOTHING),
        ("remove snapshot", {"a": Image(10, "raw", snapshots=("s",))}, Need.DO, Need.DO),
        ("roll back", {"a": Image(10, "raw", snapshots=("s",))}, Need.DO, Need.DO),
        ("export", {"a": IMAGE}, Need.DO, Need.DO),
    ],
)
def test_what_is_left_to_do(kind: str, images: dict[str, Image | None], first: Need, again: Need) -> None:
    task = replace(TASK, kind=TaskKind(kind), new="b", snapshot="s")
    assert (need(task, images, own=False), need(task, images, own=True)) == (first, again)


@pytest.mark.parametrize(
    ("attempts", "doing", "own"),
    [(1, "", False), (1, "making the image", False), (2, "", False), (2, "making the image", True)],
)
def test_an_image_is_a_tasks_own_only_if_an_earlier_attempt_got_as_far_as_to_look_for_it(
    attempts: int, doing: str, own: bool
) -> None:
    assert may_be_own(replace(TASK, attempts=attempts, doing=doing)) == own


MAKING = Volume("a", 10, task="t")
READY = replace(MAKING, state=VolumeState.READY, format="qcow2", snapshots=(Snapshot("s", 1.0, 10),))
GOING = replace(READY, state=VolumeState.REMOVING)
FAILED = Outcome(TaskPhase.FAILED, "why")


@pytest.mark.parametrize(
    ("why", "before", "outcome", "after"),
    [
        ("nothing was made", MAKING, replace(FAILED, images={"a": None}), None),
        ("the image is somebody else's", MAKING, replace(FAILED, images={"a": IMAGE}, untouched=True), None),
        ("nothing was begun, nothing is known", MAKING, replace(FAILED, untouched=True), None),
        ("it may be there", MAKING, FAILED, replace(MAKING, task=None)),
        ("it is there", MAKING, replace(FAILED, images={"a": Image(7, "raw")}), replace(MAKING, task=None)),
        ("it was not touched", GOING, replace(FAILED, untouched=True), replace(READY, task=None)),
        (
            "it was refused, but its snapshots went",
            GOING,
            replace(FAILED, untouched=True, images={"a": IMAGE}),
            replace(READY, task=None, snapshots=()),
        ),
        ("half of it may be gone", GOING, replace(FAILED, images={"a": IMAGE}), replace(GOING, task=None)),
        ("it is gone", GOING, replace(FAILED, images={"a": None}), None),
        ("nothing is known of it", READY, FAILED, replace(READY, task=None)),
        (
            "it has another size",
            READY,
            replace(FAILED, images={"a": Image(9, "raw")}),
            replace(READY, task=None, size=9),
        ),
    ],
)
def test_what_a_failed_task_leaves(why: str, before: Volume, outcome: Outcome, after: Volume | None) -> None:
    assert records_after(TASK, {"a": before}, outcome, 5.0) == {"a": after}, why


@pytest.mark.parametrize(
    ("why", "before", "outcome", "after"),
    [
        ("half of it was gone before", GOING, replace(FAILED, untouched=True), replace(GOING, task=None)),
        (
            "nobody has finished it, and it may be there",
            MAKING,
            replace(FAILED, untouched=True),
            replace(MAKING, task=None),
        ),
        ("what was never finished is there", MAKING, replace(FAILED, images={"a": IMAGE}), replace(MAKING, task=None)),
        ("what was never finished is not there", MAKING, replace(FAILED, images={"a": None}), None),
    ],
)
def test_what_a_failed_removal_leaves_of_what_was_half_a_volume_before(
    why: str, before: Volume, outcome: Outcome, after: Volume | None
) -> None:
    task = begun(replace(TASK, kind=TaskKind.REMOVE), "hv1", 2.0, volume=before)
    assert records_after(task, {"a": before}, outcome, 5.0) == {"a": after}, why


def test_a_removal_knows_from_its_first_attempt_on_whether_half_of_the_volume_was_gone_before() -> None:
    removal = replace(TASK, kind=TaskKind.REMOVE)
    first = begun(removal, "hv1", 2.0, volume=READY)
    assert not first.again and not begun(first, "hv2", 3.0, volume=GOING).again
    later = begun(removal, "hv1", 2.0, volume=GOING)
    assert later.again and begun(later, "hv2", 3.0, volume=GOING).again
    assert not begun(replace(removal, kind=TaskKind.RESIZE), "hv1", 2.0, volume=GOING).again


def test_records_of_other_tasks_are_left_alone() -> None:
    others = {"a": replace(READY, task="other"), "b": replace(MAKING, name="b", task=None)}
    task = replace(TASK, kind=TaskKind.CLONE, new="b")
    assert records_after(task, others, Outcome(TaskPhase.DONE, "", {"a": IMAGE, "b": IMAGE}), 5.0) == {}
    assert records_after(task, others, FAILED, 5.0) == {}
    assert "does not wait for this task" in why_void(task, others)
    assert why_void(replace(task, kind=TaskKind.SET_FLAG), {}) == ""


def test_a_renamed_volume_takes_its_snapshots_with_it() -> None:
    task = replace(TASK, kind=TaskKind.RENAME, new="b")
    after = records_after(task, {"a": READY}, Outcome(TaskPhase.DONE, "", {"a": None, "b": Image(10, "qcow2")}), 5.0)
    assert after == {"a": None, "b": replace(READY, name="b", task=None)}


def test_only_the_last_ended_tasks_are_kept() -> None:
    ended = [replace(TASK, id=f"t{n}", phase=TaskPhase.DONE, finished=float(n)) for n in range(1, KEPT + 3)]
    assert superfluous([*ended, replace(TASK, requested=0.0)]) == ["t1", "t2"]


@pytest.mark.parametrize(
    ("task", "title"),
    [
        (TASK, "task create fast/a"),
        (replace(TASK, kind=TaskKind.CLONE, snapshot="s", new="b"), "task clone fast/a@s to b"),
        (replace(TASK, kind=TaskKind.ADD_POOL, volume=""), "task add pool fast"),
        (replace(TASK, kind=TaskKind.ADD_OSD, pool="", volume="", path="/dev/sdb"), "task add osd /dev/sdb"),
        (replace(TASK, kind=TaskKind.REMOVE_OSD, pool="", volume="", osd=3), "task remove osd osd.3"),
        (replace(TASK, kind=TaskKind.SET_FLAG, pool="", volume="", flag="noout"), "task set flag noout"),
    ],
)
def test_how_a_task_is_called(task: Task, title: str) -> None:
    assert titled(task) == title


@pytest.mark.parametrize(
    ("look", "state"),
    [
        (Room(9_999_999, 1_239_999), PoolState(9_999_999, 1_230_000)),
        (Room(10, -3, "two copies are missing"), PoolState(10, 0, warning="two copies are missing")),
        ("is not mounted", PoolState(problem="is not mounted")),
    ],
)
def test_what_is_published_of_a_pool(look: Room | str, state: PoolState) -> None:
    assert state_of(look) == state


@pytest.mark.parametrize(
    ("state", "severity", "text"),
    [
        (PoolState(1000, 101), None, ""),
        (PoolState(), None, ""),
        (PoolState(1000, 100), Severity.WARNING, "pool p is full to 90 %"),
        (PoolState(1000, 500, warning="slow"), Severity.WARNING, "pool p: slow"),
        (PoolState(problem="is not mounted"), Severity.CRITICAL, "pool p cannot be used: is not mounted"),
    ],
)
def test_what_is_wrong_with_a_pool(state: PoolState, severity: Severity | None, text: str) -> None:
    found = findings({"p": state}, 90)
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    assert all(text in finding.text for finding in found)


@pytest.mark.parametrize(
    ("why", "kind", "phase", "before", "after", "size"),
    [
        ("it has grown", TaskKind.RESIZE, TaskPhase.DONE, 10, 20, 20),
        ("it has grown, though the task failed", TaskKind.RESIZE, TaskPhase.FAILED, 10, 15, 15),
        ("it is shown once more", TaskKind.RESIZE, TaskPhase.DONE, 10, 10, 10),
        ("nothing has happened", TaskKind.RESIZE, TaskPhase.FAILED, 10, 10, None),
        ("it has become smaller", TaskKind.RESIZE, TaskPhase.DONE, 10, 5, None),
        ("it was somebody else's doing", TaskKind.SNAPSHOT, TaskPhase.DONE, 10, 20, None),
    ],
)
def test_vms_are_to_see_the_size_of_a_volume_that_was_resized(
    why: str, kind: TaskKind, phase: TaskPhase, before: int, after: int, size: int | None
) -> None:
    old, new = replace(READY, size=before), replace(READY, size=after)
    assert new_size(replace(TASK, kind=kind), {"a": old}, {"a": new}, Outcome(phase, "")) == size, why
    assert new_size(replace(TASK, kind=kind), {"a": old}, {}, Outcome(phase, "")) is None
