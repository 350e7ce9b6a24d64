"""The console's commands in a real lab: a person at a terminal, real serial lines."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.core.process import Finished, SystemProcesses
from pvc.lab.cluster import Lab
from pvc.lab.shape import Shape
from tests.lab.cluster import RealCluster

pytestmark = pytest.mark.lab

VMS = ["vm1", "vm2", "vm3"]
TYPIST = Path(__file__).with_name("typist.py")
CTRL_BRACKET, CTRL_C = "\x1d", "\x03"


@pytest.fixture(scope="module")
def cluster(labs_directory: Path) -> Iterator[RealCluster]:
    lab = Lab("console", Shape(nodes=2, vms=3, vm_args="rate=5"), directory=labs_directory)
    try:
        lab.up()
        yield RealCluster(lab)
    finally:
        lab.down()


def sit_at(cluster: RealCluster, script: list[tuple[str, str]], *words: str) -> Finished:
    """Run `pvc` on the client, on a terminal; type what the script says when its words are seen."""
    command = cluster.lab.enter(["pvc", *words])
    return SystemProcesses().run([sys.executable, str(TYPIST), json.dumps(script), *command], timeout=120)


def test_a_person_types_on_the_console_is_answered_and_leaves_with_ctrl_bracket(cluster: RealCluster) -> None:
    script = [(r"vm1 \d+", "hello there\r"), ("vm1 heard: hello there", CTRL_BRACKET)]
    done = sit_at(cluster, script, "console", "vm1")
    assert done.code == 0, done.stdout
    assert "vm1 runs on hv1; leave its console with Ctrl-]" in done.stdout
    assert cluster.copies()["vm1"] == ["hv1"]
    cluster.wait("the log has it too", lambda: "vm1 heard: hello there" in cluster.ok("vm", "log", "vm1"))


def test_a_console_that_cannot_be_reached_says_what_to_correct(cluster: RealCluster, tmp_path: Path) -> None:
    config = tmp_path / "pvc.yaml"
    config.write_text("consolelog: {console_uri: 'qemu+tcp://{address}:9/system'}\n")
    done = sit_at(cluster, [], "--config", str(config), "console", "vm1")
    assert done.code == 1 and "correct consolelog.console_uri" in done.stdout, done.stdout


def test_a_terminal_shows_several_vms_in_colour_until_ctrl_c(cluster: RealCluster) -> None:
    script = [("vm1[^$]*vm2[^$]*vm3[^$]*\n", CTRL_C)]
    done = sit_at(cluster, script, "vm", "log", "-f", "vm1", "vm2", "vm3")
    assert "\x1b[36mvm1 |\x1b[0m vm1 " in done.stdout
    assert "Traceback" not in done.stdout


def test_a_page_goes_through_the_pager(cluster: RealCluster) -> None:
    done = sit_at(cluster, [("last output", "q")], "vm", "log", "-n", "5", "vm1")
    assert done.code == 0, done.stdout
    assert re.search(r"vm1 \d+", done.stdout)


def test_a_reader_that_has_had_enough_ends_the_following_without_a_word(cluster: RealCluster) -> None:
    done = cluster.lab.run(["sh", "-c", "pvc vm log -f vm1 vm3 | head -n 1"])
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr and "Error" not in done.stderr


def test_a_whole_node_is_followed_while_a_vm_comes_and_one_goes(cluster: RealCluster, tmp_path: Path) -> None:
    output = tmp_path / "node"
    follower = cluster.begin(output, "vm", "log", "-f", "--node", "hv1")
    try:
        cluster.wait("both speak", lambda: {"vm1", "vm3"} <= _speakers(output))
        cluster.ok("vm", "migrate", "vm2", "hv1")
        cluster.wait("the one that came speaks", lambda: "vm2" in _speakers(output))
        cluster.ok("vm", "migrate", "vm1", "hv2")
        cluster.wait("the one that went is let go", lambda: "vm1: moved from hv1 to hv2" in output.read_text())
        before = output.read_text().count("vm3 | ")
        cluster.wait("the one that stays goes on", lambda: output.read_text().count("vm3 | ") > before + 10)
        told = output.read_text()
    finally:
        follower.signal(15)
        follower.wait(10)
        cluster.go_home(VMS)
    lines = told.splitlines()[:-1]
    arrived = next(line for line in lines if line.startswith("vm2 "))  # it may have come in the middle of a line
    wrong = [line for line in lines if line != arrived and not re.match(r"--- |(vm\d) [|>] \1 ", line)]
    assert wrong == []
    assert "vm1 | " not in told.partition("vm1: moved from hv1 to hv2")[2], "what vm1 printed on hv2 is not of hv1"


def test_a_follower_outlives_zookeeper_and_misses_nothing(cluster: RealCluster, tmp_path: Path) -> None:
    output, notices = tmp_path / "cut", tmp_path / "notices"
    follower = cluster.follow(output, notices, "vm1")
    try:
        cluster.wait("it speaks", lambda: len(_numbers(output)) > 5)
        cluster.lab.kill("zookeeper", "zk1")
        cluster.wait("the loss is told", lambda: "no connection to the cluster" in notices.read_text())
        cluster.lab.start("zookeeper", "zk1")
        cluster.wait("so is the return", lambda: "connected to the cluster again" in notices.read_text())
        seen = len(_numbers(output))
        cluster.wait("it goes on", lambda: len(_numbers(output)) > seen + 20)
    finally:
        follower.signal(15)
        follower.wait(10)
    numbers = _numbers(output)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_the_log_of_a_dead_node_says_how_old_it_is(cluster: RealCluster) -> None:
    cluster.lab.kill("node", "hv2")
    try:
        cluster.wait("its session is over", lambda: not cluster.node("hv2")["alive"])
        done = cluster.pvc("vm", "log", "vm2", "-n", "3")
        assert len(done.stdout.splitlines()) in (3, 4)  # the last one may have been cut off
        assert re.search(r"node hv2, which writes this log, does not answer; last output \d+ s ago", done.stderr)
    finally:
        cluster.lab.start("node", "hv2")
        cluster.wait_alive("hv2")
        cluster.wait("the VMs run again", lambda: cluster.all_once(VMS))


def _speakers(output: Path) -> set[str]:
    return set(re.findall(r"^(vm\d) \|", output.read_text(errors="replace"), re.MULTILINE))


def _numbers(output: Path) -> list[int]:
    return [int(n) for n in re.findall(r"^vm1 (\d+) .*\n", output.read_text(errors="replace"), re.MULTILINE)]
