"""`pvc cluster roll` on a simulated cluster: what it does and where it stops, and that it may be killed anywhere."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pvc.cli.exits import CANCELLED, DETACHED, FAILED, INCOMPLETE, OPERATION_FAILED, TIMED_OUT, USAGE
from pvc.core import keys
from pvc.core.coordination import Op, Put
from pvc.core.model import Node, NodeState
from pvc.core.records import decode
from pvc.core.rolls import Roll, RollState, read_driver, read_roll
from tests.cli.conftest import Keyboard, Said

STRIDE = 1 if os.environ.get("PVC_EVERY_CALL") == "1" else 13
"""Of the transactions of everybody at which the client is killed, how many are tried: one in so many."""


class Site:
    """A cluster, a command that notes for which node it ran, and what was wrong at any transaction."""

    def __init__(self, keyboard: Keyboard, directory: Path) -> None:
        self.keyboard = keyboard
        self.cluster = keyboard.cluster
        self.notes = directory / "notes"
        self.command = f"echo $PVC_NODE >> {self.notes}"
        self.problems: list[str] = []
        self.out: set[str] = set()
        self.begun: list[str] = []
        """Nodes for which the command was begun, and that were empty then."""
        self.written: list[tuple[str, RollState]] = []
        self.cluster.on_commit(self._committed)

    def ran(self) -> list[str]:
        """The nodes for which the command ran, in order."""
        return self.notes.read_text().split() if self.notes.exists() else []

    def roll(self) -> Roll:
        found = read_roll(self.cluster.client)
        assert found is not None
        return found[0]

    def state(self, node: str) -> RollState:
        return next(entry.state for entry in self.roll().nodes if entry.name == node)

    def no_roll(self) -> bool:
        return read_roll(self.cluster.client) is None

    def type(self, *words: str, stdin: str | None = None, tty: bool = False) -> Said:
        return self.keyboard.type("cluster", "roll", *words, stdin=stdin, tty=tty)

    def begin(self, *words: str, stdin: str | None = None, tty: bool = False) -> Said:
        return self.keyboard.begin("cluster", "roll", *words, stdin=stdin, tty=tty)

    def roll_over(self, *words: str) -> Said:
        return self.type("--run", self.command, "--yes", *words)

    def until(self, node: str, state: RollState) -> None:
        """Let time pass until the roll has come to a state with a node."""
        assert self.cluster.run_until(lambda: not self.no_roll() and self.state(node) is state, 600.0)

    def all_is_well(self) -> None:
        """Every node is in service, every VM at home, and nothing was wrong on the way."""
        self.cluster.settle()
        assert self.problems == []
        assert self.no_roll()
        for number in range(6):
            assert self.cluster.where()[f"vm{number + 1}"] == f"hv{number % 3 + 1}"
        assert all(self.cluster.node(name).state is NodeState.READY for name in self.cluster.nodes)

    def _committed(self, session: str, ops: Sequence[Op], created: tuple[str, ...]) -> None:
        for op in ops:
            if isinstance(op, Put) and op.path in [keys.node(name) for name in self.cluster.nodes]:
                node = decode(Node, op.data, op.path)
                (self.out.discard if node.state is NodeState.READY else self.out.add)(node.name)
                if len(self.out) > 1:
                    self.problems.append(f"{sorted(self.out)} are out of service at once")
            if isinstance(op, Put) and op.path == keys.roll():
                self._recorded(decode(Roll, op.data, op.path))

    def _recorded(self, roll: Roll) -> None:
        for entry in roll.nodes:
            if (entry.name, entry.state) in self.written[-1:] or entry.state is RollState.WAITING:
                continue
            if (entry.name, entry.state) not in self.written:
                self.written.append((entry.name, entry.state))
            if entry.state is RollState.RUNNING and entry.name in self.cluster.where().values():
                self.problems.append(f"the command begins on {entry.name}, where VMs are")


@pytest.fixture
def site(keyboard: Keyboard, tmp_path: Path) -> Iterator[Site]:
    yield Site(keyboard, tmp_path)


def test_a_roll_takes_one_node_after_the_other_and_brings_everything_home(site: Site) -> None:
    said = site.roll_over("--reason", "new kernel")
    assert said.code == 0, said
    assert site.ran() == ["hv1", "hv2", "hv3"]
    site.all_is_well()
    heads = [line for line in said.out.splitlines() if line.startswith("hv2 (2 of 3): ")]
    assert [head.partition(": ")[2] for head in heads] == [
        "flush",
        f"run {site.command}",
        "wait until it is well",
        "unflush",
    ]
    assert "flush hv2: done: hv2 is flushed: 2 VMs moved, none left" in said.out
    assert said.out.splitlines()[-1].startswith("the roll is done: 3 nodes in ")
    assert site.cluster.operation("hv2").reason == "new kernel"
    assert [state.value for node, state in site.written if node == "hv2"] == [
        "flushing",
        "flushed",
        "running",
        "ran",
        "unflushing",
        "done",
    ]


def test_only_the_named_nodes_are_touched_and_in_their_order(site: Site) -> None:
    before = site.cluster.node("hv2")
    assert site.roll_over("--nodes", "hv3,hv1").code == 0
    assert site.ran() == ["hv3", "hv1"]
    assert site.cluster.node("hv2") == before
    site.all_is_well()


def test_a_command_is_told_the_address_of_its_node(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "address"
    assert site.type("--nodes", "hv2", "--run", f"echo $PVC_NODE_ADDRESS > {out}", "--yes").code == 0
    assert out.read_text().strip() == site.cluster.node("hv2").address


def test_a_dry_run_shows_the_order_and_touches_nothing(site: Site) -> None:
    commits = site.cluster.ensemble.commits
    said = site.type("--run", "reboot", "--dry-run")
    assert said.code == 0
    assert said.out.splitlines()[0] == "1. hv1: flush (2 VMs now), run reboot, wait until it is well, unflush"
    assert len(said.out.splitlines()) == 3
    assert site.cluster.ensemble.commits == commits


def test_a_roll_asks_before_it_begins(site: Site) -> None:
    said = site.type("--run", site.command)
    assert said.code == FAILED and "--yes" in said.err
    said = site.type("--run", site.command, stdin="n\n", tty=True)
    assert said.code == 1 and site.no_roll()
    assert site.type("--nodes", "hv1", "--run", site.command, stdin="y\n", tty=True).code == 0
    assert site.ran() == ["hv1"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--run", "true", "--pause"),
        ("--resume", "--abandon"),
        ("--resume", "--run", "true"),
        ("--resume", "--settle", "3"),
        ("--abandon", "--force"),
    ],
)
def test_words_that_contradict_each_other_are_refused(site: Site, words: tuple[str, ...]) -> None:
    assert site.type(*words).code == USAGE


def test_everything_that_stands_against_a_roll_is_said_at_once_and_before_anything_moves(site: Site) -> None:
    site.keyboard.type("node", "flush", "hv2", "--wait")
    site.cluster.kill_daemon("hv3")
    site.cluster.run(20.0)
    said = site.roll_over("--nodes", "hv1,hv2,hv3,hv9")
    assert said.code == FAILED
    assert "hv2 is flushed (the last flush was by" in said.err
    assert "the daemon of hv3 does not answer" in said.err
    assert "there is no node 'hv9'; did you mean hv" in said.err
    assert site.no_roll() and site.cluster.node("hv1").state is NodeState.READY


def test_another_node_out_of_service_stands_against_a_roll_unless_it_is_forced(site: Site) -> None:
    site.keyboard.type("node", "flush", "hv3", "--wait")
    said = site.roll_over()
    assert said.code == FAILED and "hv3 is flushed" in said.err and "--force" in said.err
    said = site.roll_over("--force")
    assert said.code == 0, said
    assert "other nodes are out of service: hv3" in said.err
    assert site.ran() == ["hv1", "hv2"]
    assert site.cluster.node("hv3").state is NodeState.FLUSHED


def test_a_command_that_fails_stops_the_roll_with_its_node_still_flushed(site: Site) -> None:
    said = site.type("--run", f"{site.command}; test $PVC_NODE != hv2", "--yes")
    assert said.code == OPERATION_FAILED
    assert "hv2 (2 of 3, flushed, the command ended with 1): stopped: the command ended with code 1" in said.err
    assert "--resume" in said.err and "--abandon" in said.err
    assert site.cluster.node("hv2").state is NodeState.FLUSHED
    assert site.ran() == ["hv1", "hv2"]
    assert [entry.state.value for entry in site.roll().nodes] == ["done", "running", "waiting"]


@pytest.mark.parametrize("answer, ran", [("again", ["hv1", "hv1"]), ("done", ["hv1"]), ("stop", ["hv1"])])
def test_a_person_decides_about_a_command_that_failed(site: Site, tmp_path: Path, answer: str, ran: list[str]) -> None:
    mended = tmp_path / "mended"
    command = f"{site.command}; test -e {mended}"
    assert site.type("--nodes", "hv1", "--run", command, "--yes").code == OPERATION_FAILED
    mended.touch()
    assert site.type("--resume").code == FAILED  # nobody can answer
    commits = site.cluster.operation("hv1")
    said = site.type("--resume", stdin=f"what\n{answer}\n", tty=True)
    assert said.code == (FAILED if answer == "stop" else 0), said
    assert "it ended with code 1" in said.err
    assert site.ran() == ran
    assert (site.cluster.operation("hv1") == commits) is (answer == "stop")
    if answer != "stop":
        site.all_is_well()


def test_an_incomplete_flush_stops_the_roll_with_its_code_and_a_resumed_one_tries_again(site: Site) -> None:
    vm = site.cluster.define("stuck", "hv2", policy="keep")
    site.cluster.settle()
    said = site.roll_over()
    assert said.code == INCOMPLETE
    assert "hv2 (2 of 3, flushing): stopped: its flush ended incomplete" in said.err and "stuck" in said.err
    assert site.ran() == ["hv1"]
    assert site.type("--resume").code == INCOMPLETE
    assert site.keyboard.type("vm", "stop", vm.name, "--yes").code == 0
    assert site.keyboard.type("vm", "undefine", vm.name, "--yes").code == 0
    said = site.type("--resume")
    assert said.code == 0, said
    assert site.ran() == ["hv1", "hv2", "hv3"]
    site.all_is_well()


def test_a_node_that_somebody_has_flushed_after_all_is_not_flushed_again(site: Site) -> None:
    vm = site.cluster.define("stuck", "hv1", policy="keep")
    site.cluster.settle()
    assert site.roll_over("--nodes", "hv1").code == INCOMPLETE
    site.keyboard.type("vm", "stop", vm.name, "--yes")
    site.keyboard.type("vm", "undefine", vm.name, "--yes")
    assert site.keyboard.type("node", "flush", "hv1", "--wait", "--reason", "by hand").code == 0
    said = site.type("--resume")
    assert said.code == 0, said
    assert "hv1 (1 of 1): is flushed" in said.out and "hv1 (1 of 1): flush\n" not in said.out
    assert site.ran() == ["hv1"]


def test_a_cancelled_flush_stops_the_roll_with_its_code(site: Site) -> None:
    roll = site.begin("--run", site.command, "--yes")
    site.until("hv1", RollState.FLUSHING)
    site.cluster.run(0.5)
    assert site.keyboard.type("node", "cancel", "hv1").code == 0
    assert site.cluster.run_until(roll.has_ended)
    assert roll.code == CANCELLED and "cancelled by" in roll.err
    assert site.type("--resume").code == 0
    site.all_is_well()


def test_an_unflush_that_leaves_vms_behind_stops_the_roll(site: Site) -> None:
    roll = site.begin("--nodes", "hv1,hv2", "--run", site.command, "--yes")
    site.until("hv1", RollState.RAN)
    assert site.keyboard.type("node", "info", "hv1").code == 0
    site.cluster.run_until(lambda: site.state("hv1") is RollState.UNFLUSHING)
    assert site.keyboard.type("node", "cancel", "hv1", "--now").code == 0
    assert site.cluster.run_until(roll.has_ended)
    assert roll.code == CANCELLED
    assert "hv1 (1 of 2, unflushing): stopped: its unflush ended cancelled" in roll.err
    assert site.type("--resume").code == 0
    assert site.ran() == ["hv1", "hv2"]
    site.all_is_well()


def test_a_roll_stops_before_the_next_node_when_an_earlier_one_dies(site: Site) -> None:
    def die(session: str, ops: Sequence[Op], created: tuple[str, ...]) -> None:
        if (("hv2", RollState.DONE) in site.written) and site.cluster.nodes["hv1"].sessions:
            site.cluster.nodes["hv1"].sessions.pop(0).expire()

    site.cluster.on_commit(die)
    roll = site.begin("--run", site.command, "--yes")
    assert site.cluster.run_until(roll.has_ended, 300.0)
    assert roll.code == OPERATION_FAILED
    assert "hv3 (3 of 3, waiting): stopped: other nodes are out of service: the daemon of hv1" in roll.err
    assert site.cluster.node("hv3").state is NodeState.READY
    assert site.type("--resume", "--force").code == 0
    assert site.ran() == ["hv1", "hv2", "hv3"]


def test_a_node_that_somebody_else_takes_out_of_service_is_not_taken_for_the_rolls_own(site: Site) -> None:
    roll = site.begin("--run", site.command, "--yes", "--nodes", "hv1,hv2", "--force")
    site.until("hv1", RollState.RAN)
    assert site.keyboard.type("node", "flush", "hv2", "--wait").code == 0
    assert site.cluster.run_until(roll.has_ended, 100.0)
    assert roll.code == OPERATION_FAILED
    assert "hv2 is flushed" in roll.err and "not by this roll" in roll.err
    assert site.ran() == ["hv1"]


def test_a_node_whose_daemon_goes_after_the_command_is_waited_for(site: Site) -> None:
    roll = site.begin("--run", site.command, "--yes", "--nodes", "hv1")
    site.until("hv1", RollState.RAN)
    site.cluster.power_off("hv1")
    site.cluster.run(300.0)
    assert site.state("hv1") is RollState.RAN and roll.code is None
    assert "hv1: not yet: the daemon of hv1 does not answer" in roll.out
    site.cluster.power_on("hv1")
    assert site.cluster.run_until(lambda: roll.code == 0, 300.0)
    site.all_is_well()


def test_a_node_whose_daemon_registers_anew_has_to_settle_anew(site: Site) -> None:
    roll = site.begin("--run", site.command, "--yes", "--nodes", "hv1")
    site.until("hv1", RollState.RAN)
    assert roll.session is not None
    roll.session.delay = lambda: 1.0  # what it hears of is over when it looks
    site.cluster.run(12.0)
    site.cluster.lose_session("hv1")
    site.cluster.run(12.0)
    assert site.state("hv1") is RollState.RAN
    assert site.cluster.run_until(lambda: roll.code == 0, 300.0)
    site.all_is_well()


def test_a_node_that_does_not_become_well_stops_the_roll_still_flushed(site: Site) -> None:
    roll = site.begin("--run", site.command, "--yes", "--nodes", "hv1", "--health-timeout", "100")
    site.until("hv1", RollState.RAN)
    site.cluster.power_off("hv1")
    assert site.cluster.run_until(roll.has_ended, 200.0)
    assert roll.code == TIMED_OUT
    assert "not well 100 s after the command: the daemon of hv1 does not answer" in roll.err
    assert site.cluster.node("hv1").state is NodeState.FLUSHED
    site.cluster.power_on("hv1")
    assert site.type("--resume").code == 0
    assert site.ran() == ["hv1"]
    site.all_is_well()


def test_a_node_with_a_critical_finding_is_not_taken_back(site: Site) -> None:
    roll = site.begin("--run", site.command, "--yes", "--nodes", "hv1", "--health-timeout", "100")
    site.until("hv1", RollState.RAN)
    site.cluster.nodes["hv1"].host.down()
    assert site.cluster.run_until(roll.has_ended, 200.0)
    assert roll.code == TIMED_OUT and "hv1 has critical findings" in roll.err
    assert site.cluster.node("hv1").state is NodeState.FLUSHED


def test_a_node_that_is_to_reboot_is_not_taken_back_before(site: Site) -> None:
    roll = site.begin("--run", site.command, "--yes", "--nodes", "hv1", "--reboots")
    site.until("hv1", RollState.RAN)
    site.cluster.run(100.0)
    assert "hv1: not yet: hv1 has not rebooted" in roll.out
    site.cluster.restart_daemon("hv1")
    site.cluster.run(100.0)
    assert site.state("hv1") is RollState.RAN
    site.cluster.power_off("hv1")
    site.cluster.power_on("hv1")
    assert site.cluster.run_until(lambda: roll.code == 0, 300.0)
    site.all_is_well()


def test_a_pause_waits_for_enter_and_needs_somebody_to_press_it(site: Site) -> None:
    said = site.type("--pause", "--yes")
    assert said.code == FAILED and "--pause needs somebody" in said.err and site.no_roll()
    said = site.type("--pause", "--yes", stdin="\n\n\n", tty=True)
    assert said.code == 0, said
    assert said.out.count("do your work, then press Enter") == 3
    site.all_is_well()


def test_a_pause_that_nobody_ended_is_begun_again(site: Site) -> None:
    said = site.type("--pause", "--yes", "--nodes", "hv1", stdin="", tty=True)
    assert said.code == FAILED and "nobody is there" in said.err
    assert site.cluster.node("hv1").state is NodeState.FLUSHED
    said = site.type("--resume", stdin="\n", tty=True)
    assert said.code == 0, said
    site.all_is_well()


def test_there_is_one_roll_and_a_second_is_told_who_where_and_how_to_go_on(site: Site) -> None:
    site.begin("--run", site.command, "--yes")
    site.until("hv1", RollState.RAN)
    said = site.roll_over()
    assert said.code == FAILED
    for words in ("a roll by", "at hv1 (1 of 3): still flushed", f"process {os.getpid()}", "--resume", "--abandon"):
        assert words in said.err, said


@pytest.mark.parametrize("word", ["--resume", "--abandon"])
def test_a_roll_that_is_driven_is_neither_resumed_nor_abandoned(site: Site, word: str) -> None:
    roll = site.begin("--run", site.command, "--yes")
    site.until("hv1", RollState.FLUSHING)
    driver = read_driver(site.cluster.client)
    assert driver is not None
    said = site.type(word)
    assert said.code == FAILED
    assert f"driven by {driver[0].by}, process {driver[0].pid}, which is alive" in said.err
    assert site.cluster.run_until(lambda: roll.code == 0, 300.0)
    site.all_is_well()


def test_an_abandoned_roll_is_forgotten_and_says_what_it_leaves_out_of_service(site: Site) -> None:
    assert site.type("--run", f"{site.command}; test $PVC_NODE != hv2", "--yes").code == OPERATION_FAILED
    said = site.type("--abandon")
    assert said.code == 0, said
    assert site.no_roll()
    assert "hv2: flushed, the command ended with 1; hv2 is flushed" in said.out
    assert "take it back with `pvc node unflush hv2`" in said.out
    assert "hv1: done\n" in said.out and "hv3: waiting\n" in said.out
    assert site.cluster.node("hv2").state is NodeState.FLUSHED
    assert site.type("--resume").code == FAILED
    assert site.type("--abandon").code == FAILED


def test_the_status_tells_of_an_unfinished_roll(site: Site) -> None:
    assert site.keyboard.type("status", "--format", "json").rows["roll"] is None
    site.type("--run", f"{site.command}; test $PVC_NODE != hv2", "--yes")
    row = site.keyboard.type("status", "--format", "json").rows
    assert row["roll"].startswith("hv2 (2 of 3): flushed, the command ended with 1, stopped: the command ended")
    assert "; begun by " in row["roll"]
    site.cluster.ensemble.on_commit.clear()
    site.cluster.client.commit([Put(keys.roll(), b"junk")])
    row = site.keyboard.type("status", "--format", "json").rows
    assert row["roll"] is None and any("/roll" in text for text in row["unreadable_records"])


def test_ctrl_c_detaches_and_says_how_to_go_on(site: Site) -> None:
    roll = site.begin("--run", site.command, "--yes")
    site.until("hv1", RollState.FLUSHING)
    site.keyboard.interrupt(roll)
    assert site.cluster.run_until(roll.has_ended, 10.0)
    assert roll.code == DETACHED
    assert "hv1 (1 of 3, flushing): detached" in roll.err and "--resume" in roll.err
    said = site.type("--resume")
    assert said.code == 0, said
    assert "waiting" not in said.err  # the session was closed, nobody drives
    assert site.ran() == ["hv1", "hv2", "hv3"]
    site.all_is_well()


def test_a_roll_outlives_a_loss_of_zookeeper_and_of_its_session(site: Site) -> None:
    roll = site.begin("--run", site.command, "--yes")
    site.until("hv1", RollState.FLUSHING)
    site.cluster.ensemble.stop()
    site.cluster.run(60.0)
    site.cluster.ensemble.start()
    site.until("hv2", RollState.RAN)
    assert roll.session is not None
    roll.session.expire()
    site.cluster.run(5.0)
    roll.session.resume()
    assert site.cluster.run_until(lambda: roll.code == 0, 600.0), roll
    assert site.ran() == ["hv1", "hv2", "hv3"]
    site.all_is_well()


def test_a_driver_whose_place_was_taken_touches_nothing_more(site: Site) -> None:
    first = site.begin("--run", site.command, "--yes")
    site.until("hv1", RollState.RAN)
    assert first.session is not None
    first.session.expire()
    second = site.begin("--resume")
    site.cluster.run(2.0)
    first.session.resume()
    assert site.cluster.run_until(lambda: None not in (first.code, second.code), 600.0)
    assert (first.code, second.code) == (FAILED, 0), (first, second)
    assert "driven by" in first.err
    assert site.ran() == ["hv1", "hv2", "hv3"]
    site.all_is_well()


def test_a_lost_answer_does_not_repeat_anything(site: Site) -> None:
    for commit in range(8):  # it begins, and takes six steps; the end has no answer to lose here
        for arrived in (True, False):
            roll = site.begin("--run", site.command, "--yes", "--nodes", "hv2")
            seen = _Counter(site, commit, lambda: None)
            site.cluster.run_until(seen.is_over, 200.0)
            if roll.session is not None and roll.code is None:
                roll.session.lose_next_commit(arrived)
            assert site.cluster.run_until(roll.has_ended, 600.0)
            seen.end()
            assert roll.code == 0, (commit, arrived, roll)
            assert site.ran() == ["hv2"]
            site.notes.unlink()
    site.all_is_well()


def test_a_client_that_is_killed_after_any_of_its_transactions_is_resumed(site: Site) -> None:
    kills = 0
    while _killed_and_resumed(site, kills, own=True):
        kills += 1
    assert kills >= 2 + 2 * 6  # it begins and ends the roll, and takes six steps with each node


def test_a_client_that_is_killed_while_others_write_is_resumed(site: Site) -> None:
    kills = 0
    while _killed_and_resumed(site, kills, own=False):
        kills += STRIDE
    assert kills > 3 * STRIDE


def _killed_and_resumed(site: Site, after: int, *, own: bool) -> bool:
    """Roll over two nodes, kill the client after so many transactions, resume; whether it came to the kill."""
    roll = site.begin("--run", site.command, "--yes", "--nodes", "hv1,hv2")
    seen = _Counter(site, after, lambda: site.keyboard.kill(roll), own=own)
    ended = site.cluster.run_until(lambda: seen.reached or roll.code is not None, 600.0)
    assert ended
    seen.end()
    if roll.code is not None:
        assert roll.code == 0
    elif not site.no_roll():
        said = site.type("--resume", "--yes")
        assert said.code == 0, (after, said)
    assert list(dict.fromkeys(site.ran())) == ["hv1", "hv2"], after
    assert len(site.ran()) <= 3, after
    site.all_is_well()
    site.notes.unlink()
    return roll.code is None


class _Counter:
    """Does something once, right after a number of transactions."""

    def __init__(self, site: Site, after: int, then: Callable[[], None], *, own: bool = True) -> None:
        self._left = after
        self._then = then
        self._own = own
        self._observers = site.cluster.ensemble.on_commit
        self.reached = False
        self._observers.append(self)

    def is_over(self) -> bool:
        """Whether it has been done."""
        return self.reached

    def end(self) -> None:
        """Count no more."""
        self._observers.remove(self)

    def __call__(self, session: str, ops: Sequence[Op], created: tuple[str, ...]) -> None:
        ours = any(op.path in (keys.roll(), keys.roll_driver()) for op in ops)
        if self.reached or (self._own and not ours):
            return
        if self._left == 0:
            self.reached = True
            self._then()
        self._left -= 1
