"""`pvc storage`: pools, volumes, snapshots and tasks. The node with the role is played by the test."""

import io
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from rich.console import Console

from pvc.cli.application import Application
from pvc.cli.main import furnish
from pvc.core import keys as core
from pvc.core.config.document import parse
from pvc.core.coordination import Put
from pvc.core.model import ActualState, Finding, NodeFacts, Severity
from pvc.core.plugins import Plugins
from pvc.core.records import decode, encode
from pvc.plugins.storage import keys
from pvc.plugins.storage.commands.following import Bar, View
from pvc.plugins.storage.decide.pools import PoolState
from pvc.plugins.storage.records import Snapshot, Task, TaskKind, TaskPhase, VolumeState, read_tasks
from pvc.testing.cluster import SimCluster
from tests.cli.conftest import Keyboard, Said, Terminal, streams_put_back
from tests.plugins.storage.ledgers import GIB, Ledger

NOON = Snapshot("noon", 1_700_000_000.0, 8 * GIB)


class Desk:
    """A keyboard, and the hand that plays node stor1."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.keyboard = Keyboard(cluster, Terminal())
        self.ledger = Ledger(cluster.ensemble)
        self.ledger.volume("disk", snapshots=(NOON,))

    def type(self, *words: str) -> Said:
        """Run a command of `pvc storage` to its end."""
        return self.keyboard.type("storage", *words)

    def begin(self, *words: str) -> tuple[Said, Task]:
        """Start a command, and the task that it asks for."""
        said = self.keyboard.begin("storage", *words)
        assert self.cluster.run_until(lambda: bool(self.tasks()) or said.has_ended(), 10), said.err
        assert self.tasks(), said.err
        return said, self.tasks()[-1]

    def tasks(self) -> list[Task]:
        """The tasks in hand."""
        known = read_tasks(self.ledger.tree).values()
        return [task for task in known if task is not None and task.phase in (TaskPhase.ASKED, TaskPhase.RUNNING)]

    def write(self, task: Task, **fields: object) -> Task:
        """The task goes on."""
        task = replace(task, phase=TaskPhase.RUNNING, attempts=1, **fields)  # type: ignore[arg-type]  # checked by its type
        self.ledger.tree.commit([Put(keys.task(task.id), encode(task))])
        self.cluster.run(1)
        return task

    def end(self, said: Said, task: Task, phase: TaskPhase = TaskPhase.DONE, message: str = "") -> Said:
        """The task ends, and so does the command that follows it."""
        self.ledger.end(task, phase, message)
        assert self.cluster.run_until(said.has_ended, 10)
        return said


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A cluster with pool vms, and volume disk in it, with one snapshot."""
    with SimCluster({"hv1": {}}) as cluster:
        cluster.start()
        streams_put_back(monkeypatch)
        yield Desk(cluster)


def test_a_volume_is_made_and_its_task_followed_to_the_end(desk: Desk) -> None:
    said, task = desk.begin("volume", "add", "vms", "new", "1.5T")
    assert (task.kind, task.size) == (TaskKind.CREATE, 1536 * GIB) and not said.has_ended()
    desk.end(said, task, message="it is there")
    assert (said.code, said.out) == (0, "create vms/new: it is there\n")
    assert "warning: 1.5 TiB are more than pool vms has in all (100 GiB)" in said.err


@pytest.mark.parametrize(("phase", "code"), [(TaskPhase.FAILED, 5), (TaskPhase.CANCELLED, 4)])
def test_a_task_that_is_not_done_is_told_by_the_exit_code(desk: Desk, phase: TaskPhase, code: int) -> None:
    said, task = desk.begin("volume", "add", "vms", "new", "1G")
    desk.end(said, task, phase, "the pool is full; make room")
    assert (said.code, said.out) == (code, "")
    assert said.err == f"pvc: create vms/new: {phase.value}: the pool is full; make room\n"


def test_a_command_need_not_wait_for_its_task(desk: Desk) -> None:
    said = desk.type("volume", "add", "vms", "new", "1G", "--no-wait")
    (task,) = desk.tasks()
    assert said.code == 0
    assert f"create vms/new is asked of stor1; `pvc storage task watch {task.id}` follows it" in said.out


def test_a_wait_ends_after_its_timeout_and_the_task_goes_on(desk: Desk) -> None:
    said = desk.type("volume", "add", "vms", "new", "1G", "--timeout", "7")
    (task,) = desk.tasks()
    assert said.code == 6 and "has not ended after 7 s; it goes on" in said.err
    assert not task.cancel


def test_control_c_detaches_and_says_how_to_follow_or_end_the_task(desk: Desk) -> None:
    said, task = desk.begin("volume", "clone", "vms", "disk", "copy", "--snapshot", "noon")
    desk.cluster.run(1)
    desk.keyboard.interrupt(said)
    assert said.code == 130
    assert f"detached from clone vms/disk@noon as copy; it goes on; `pvc storage task watch {task.id}`" in said.err
    again = desk.keyboard.begin("storage", "task", "watch", task.id[:8])
    assert desk.end(again, task, message="copied").out == "clone vms/disk@noon as copy: copied\n"


def test_a_pipe_is_told_each_tenth_once_and_something_now_and_then(desk: Desk) -> None:
    said, task = desk.begin("volume", "import", "vms", "new", "/tmp/a.img", "--node", "stor1")
    for done in range(11):
        task = desk.write(task, done=done * GIB, total=40 * GIB, doing="reads the file")
    head = "import vms/new from /tmp/a.img: reads the file, "
    lines = said.out.splitlines()
    assert [line for line in lines if "10 %" in line or "20 %" in line or "25 %" in line]
    assert lines[:3] == [
        f"{head}0 %, 0 B of 40 GiB",
        f"{head}10 %, 4 GiB of 40 GiB",
        f"{head}20 %, 8 GiB of 40 GiB",
    ]
    assert len(lines) == len(set(lines)) < 6
    before = len(lines)
    desk.cluster.run(11)
    assert len(said.out.splitlines()) == before + 2
    desk.end(said, task)


def test_a_node_that_dies_is_noted_while_one_waits_for_it(desk: Desk) -> None:
    said, task = desk.begin("volume", "import", "vms", "new", "/tmp/a.img", "--node", "stor1")
    desk.write(task)
    desk.ledger.sessions["stor1"].close()
    desk.cluster.run(1)
    assert "the daemon of stor1 does not answer; it goes on when it is back" in said.out
    desk.ledger.end(task, TaskPhase.FAILED, "its node is gone")
    assert desk.cluster.run_until(said.has_ended, 10) and said.code == 5


def test_a_terminal_has_a_bar() -> None:
    drawn = io.StringIO()
    bar = Bar(Console(file=drawn, force_terminal=True, width=100))
    task = Task("id", TaskKind.IMPORT, "stor1", "me", 0.0, pool="vms", volume="new", path="/a", done=GIB, total=4 * GIB)
    with bar:
        bar.show(View(replace(task, phase=TaskPhase.RUNNING), alive=True))
        assert "import vms/new from /a" in drawn.getvalue() and "25 %, 1 GiB of 4 GiB" in drawn.getvalue()
        bar.show(View(task, alive=False))
        assert "the daemon of stor1 does not answer" in drawn.getvalue()


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (
            ("volume", "remove", "vms", "disk", "--snapshots"),
            "Destroy volume vms/disk (10 GiB) and its snapshots noon, with all that is in it?",
        ),
        (
            ("volume", "resize", "vms", "disk", "9G", "--shrink"),
            "Make volume vms/disk smaller, 9 GiB instead of 10 GiB? The last 1 GiB of its data are lost.",
        ),
        (("snapshot", "remove", "vms", "disk", "noon"), "Remove snapshot noon of volume vms/disk, made 2023-11-1"),
        (
            ("snapshot", "rollback", "vms", "disk", "noon"),
            "Roll volume vms/disk (10 GiB) back to snapshot noon, made 20",
        ),
    ],
)
def test_what_destroys_data_is_asked_for_by_name(desk: Desk, words: tuple[str, ...], question: str) -> None:
    said = desk.type(*words)
    assert said.code == 1 and question in said.err and "Nobody is there to answer; say --yes" in said.err
    assert not desk.tasks()
    said, task = desk.begin(*words, "--yes")
    assert desk.end(said, task).code == 0


def test_what_is_refused_is_refused_before_the_question(desk: Desk) -> None:
    desk.ledger.vm("web", "disk", state=ActualState.RUNNING)
    said = desk.type("volume", "remove", "vms", "disk", "--snapshots")
    assert said.code == 1 and "it is a disk of web" in said.err and "Destroy" not in said.err


def test_a_pool_is_made_of_options_and_short_ones(desk: Desk) -> None:
    said, task = desk.begin("pool", "add", "two", "--path", "/srv/two", "--format", "raw", "--option", "mount=false")
    assert task.proposed is not None
    assert task.proposed.options == {"path": "/srv/two", "format": "raw", "mount": "false"}
    desk.ledger.end(task, message="made")
    desk.cluster.run(2)
    assert not said.has_ended()
    desk.ledger.sees("stor1", two=PoolState(GIB, GIB))
    assert desk.cluster.run_until(said.has_ended, 5)
    assert (said.code, said.out) == (0, "add pool two: made\npool two can be used on stor1\n")
    said = desk.type("pool", "add", "three", "--path", "/srv/x", "--option", "path=/srv/y")
    assert (said.code, said.err) == (2, "pvc: option path is said twice; say it once\n")
    assert desk.type("pool", "add", "three", "--option", "path").code == 2


def test_a_pool_is_forgotten_after_a_question(desk: Desk) -> None:
    assert "pool vms has 1 volumes, such as disk" in desk.type("pool", "remove", "vms", "--yes").err
    desk.ledger.pool("spare", path="/srv/spare")
    said = desk.type("pool", "remove", "spare")
    assert said.code == 1 and "Forget pool spare (directory)? What is in its place stays there." in said.err
    assert desk.type("pool", "remove", "spare", "--yes").code == 0
    assert [row["name"] for row in desk.type("pool", "list", "--format", "json").rows] == ["vms"]


def test_a_pool_that_no_node_can_use_is_forgotten_with_its_volumes_after_a_question(desk: Desk) -> None:
    assert (
        "node stor1 can use pool vms; remove its volumes" in desk.type("pool", "remove", "vms", "--lost", "--yes").err
    )
    desk.ledger.sees("stor1", vms=PoolState(problem="is not mounted"))
    assert "--lost forgets them all" in desk.type("pool", "remove", "vms", "--yes").err
    for name in ("a", "b", "c"):
        desk.ledger.volume(name)
    said = desk.type("pool", "remove", "vms", "--lost")
    assert said.code == 1 and "Forget it and its 4 volumes (a, b, c, ...) for good?" in said.err
    assert len(desk.type("volume", "list", "vms", "--format", "json").rows) == 4
    assert desk.type("pool", "remove", "vms", "--lost", "--yes").code == 0
    assert desk.type("pool", "list", "--format", "json").rows == []


def test_pools_are_listed_with_their_room_and_where_they_can_be_used(desk: Desk) -> None:
    desk.ledger.node("stor2")
    desk.ledger.sees("stor2", vms=PoolState(problem="is not mounted"))
    (row,) = desk.type("pool", "list", "--format", "json").rows
    assert row == {
        "name": "vms",
        "backend": "directory",
        "total": 100 * GIB,
        "free": 40 * GIB,
        "used_percent": 60,
        "volumes": 1,
        "usable_on": ["stor1"],
        "not_on": ["stor2: cannot use pool vms: is not mounted"],
    }
    assert "100 GiB  40 GiB  60" in desk.type("pool", "list").out
    info = desk.type("pool", "info", "vms", "--format", "json").rows
    assert info["options"] == {"path": "/srv/vms"} and info["promised"] == 10 * GIB
    assert info["nodes"][1]["problem"] == "cannot use pool vms: is not mounted"
    assert "did you mean vms" in desk.type("pool", "info", "vm").err


def test_status_shows_pools_tasks_and_findings_of_nodes_that_live(desk: Desk) -> None:
    desk.type("volume", "add", "vms", "new", "1G", "--no-wait")
    path = core.node_facts("stor1")
    znode = desk.ledger.tree.get(path)
    assert znode is not None
    finding = Finding("storage", Severity.WARNING, "pool vms is nearly full")
    facts = replace(decode(NodeFacts, znode.data, path), findings=(finding, Finding("other", Severity.OK, "")))
    desk.ledger.tree.commit([Put(path, encode(facts))])
    row = desk.type("status", "--format", "json").rows
    assert [pool["name"] for pool in row["pools"]] == ["vms"]
    assert [(task["what"], task["standing"]) for task in row["tasks"]] == [("create vms/new", "waits for node stor1")]
    assert row["findings"] == [{"node": "stor1", "severity": "warning", "text": "pool vms is nearly full"}]
    assert "create vms/new" in desk.type("status").out
    desk.ledger.sessions["stor1"].close()
    row = desk.type("status", "--format", "json").rows
    assert row["findings"] == [] and row["pools"][0]["not_on"] == ["stor1: is dead"]


def test_volumes_are_listed_with_their_vms(desk: Desk) -> None:
    desk.ledger.vm("web", "disk", state=ActualState.RUNNING)
    desk.ledger.volume("half", state=VolumeState.REMOVING)
    rows = desk.type("volume", "list", "--format", "json").rows
    assert [(row["name"], row["state"], row["vms"]) for row in rows] == [
        ("disk", "ready", ["web"]),
        ("half", "removing", []),
    ]
    assert (rows[0]["size"], rows[0]["snapshots"]) == (10 * GIB, 1)
    assert "vms   disk  10 GiB  qcow2   ready" in desk.type("volume", "list", "vms").out
    info = desk.type("volume", "info", "vms", "disk", "--format", "json").rows
    assert info["vms"] == [{"vm": "web", "state": "running", "node": "stor1"}]
    assert info["snapshots"][0] == {"name": "noon", "created": NOON.created, "size": 8 * GIB, "protected": False}
    assert [row["name"] for row in desk.type("snapshot", "list", "vms", "disk", "--format", "json").rows] == ["noon"]
    assert "there is no pool 'x'" in desk.type("volume", "list", "x").err


def test_records_that_cannot_be_read_hide_no_others(desk: Desk) -> None:
    desk.ledger.volume("bad")
    tree = desk.ledger.tree
    tree.commit([Put(keys.volume("vms", "bad"), b"{")])
    said = desk.type("volume", "list", "--format", "json")
    assert [row["name"] for row in said.rows] == ["disk"] and "volume vms/bad cannot be read" in said.err
    said = desk.type("volume", "info", "vms", "bad")
    assert said.code == 1 and "holds no valid record" in said.err


def test_tasks_are_listed_and_ended(desk: Desk) -> None:
    desk.type("volume", "add", "vms", "new", "1G", "--no-wait")
    (row,) = desk.type("task", "list", "--format", "json").rows
    assert (row["what"], row["phase"], row["node"]) == ("create vms/new", "asked", "stor1")
    said = desk.type("task", "cancel", row["id"][:6])
    assert (said.code, said.out) == (0, "create vms/new is cancelled\n")
    assert desk.type("task", "list", "--format", "json").rows == []
    (row,) = desk.type("task", "list", "--all", "--format", "json").rows
    assert row["phase"] == "cancelled" and "before anybody had begun" in row["standing"]
    assert desk.type("task", "watch", row["id"]).code == 4
    assert desk.ledger.read("new") is None


def test_a_file_of_another_node_is_named_from_the_root(desk: Desk) -> None:
    said = desk.type("volume", "import", "vms", "new", "a.img", "--node", "stor1")
    assert said.code == 1 and "name a file from the root of the node" in said.err
    said = desk.type("volume", "export", "vms", "disk", "/tmp/a.img")
    assert said.code == 1 and "this machine is no node with the storage role; say with --node" in said.err
    said, task = desk.begin("volume", "export", "vms", "disk", "/tmp/a.img", "--node", "stor1", "--format", "raw")
    assert (task.path, task.format, task.bound) == ("/tmp/a.img", "raw", True)
    assert desk.end(said, task).code == 0


def test_bad_sizes_are_refused_on_the_spot(desk: Desk) -> None:
    for text in ("many", "1.2345678K", "0"):
        said = desk.type("volume", "add", "vms", "new", text)
        assert said.code == 1 and said.err.startswith("pvc: ") and not desk.tasks()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("pvc storage volume info v", "vms"),
        ("pvc storage volume info vms d", "disk"),
        ("pvc storage snapshot rollback vms d", "disk"),
    ],
)
def test_pools_and_their_volumes_are_completed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, offered: str
) -> None:
    session = desk.cluster.ensemble.connect("shell")
    plugins = Plugins(logging.getLogger("pvc.test"))
    plugins.load(["storage"])
    document, runtime = parse("node: x\n", "pvc.yaml"), desk.cluster.client_process
    application = furnish(Application(runtime, document, plugins, connect=lambda _config: session))
    monkeypatch.setenv("_PVC_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit):
        application.app(prog_name="pvc")
    assert capsys.readouterr().out.split() == [offered]
