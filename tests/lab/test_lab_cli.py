"""The lab's commands, run as programs: exit codes pass through, mistakes are one line."""

import json
import sys
from pathlib import Path

import pytest

from pvc.core.process import Finished, SystemProcesses
from pvc.lab.cluster import Lab
from tests.lab.conftest import DEADLINE

COMMAND = [str(Path(sys.executable).with_name("pvc")), "lab"]


def lab_command(lab: Lab, *words: str) -> Finished:
    return SystemProcesses().run([*COMMAND, *words], timeout=DEADLINE, env={"PVC_LAB_DIR": str(lab.state.labs)})


@pytest.mark.lab
def test_exec_passes_arguments_output_and_exit_code_through(bare_lab: Lab) -> None:
    done = lab_command(bare_lab, "exec", "--name", "bare", "--node", "hv2", "sh", "-c", "hostname; exit 7")
    assert (done.code, done.stdout) == (7, "hv2\n")


@pytest.mark.lab
def test_exec_goes_to_the_client_that_knows_the_cluster(bare_lab: Lab) -> None:
    done = lab_command(bare_lab, "exec", "--name", "bare", "--", "sh", "-c", "hostname; echo $PVC_ZOOKEEPER")
    assert (done.code, done.stdout) == (0, "client\nzk1:2181\n")


@pytest.mark.lab
def test_up_again_says_that_nothing_is_missing(bare_lab: Lab) -> None:
    done = lab_command(bare_lab, "up", "--name", "bare", "--nodes", "2", "--bare")
    assert (done.code, done.stdout) == (0, "lab bare is up already, nothing is missing\n")


@pytest.mark.lab
def test_status_is_a_table_for_people_and_json_for_programs(bare_lab: Lab) -> None:
    assert "libvirtd" in lab_command(bare_lab, "status", "--name", "bare").stdout
    rows = json.loads(lab_command(bare_lab, "status", "--name", "bare", "--format", "json").stdout)
    shown = {(row["host"], row["process"], row["state"]) for row in rows}
    assert {("zk1", "zookeeper", "running"), ("hv1", "libvirtd", "running")} <= shown


@pytest.mark.lab
def test_logs_show_what_a_daemon_said(bare_lab: Lab) -> None:
    assert "libvirt version" in lab_command(bare_lab, "logs", "hv1", "--name", "bare").stdout
    assert "clientPort" in lab_command(bare_lab, "logs", "zk1", "--of", "zookeeper", "--name", "bare").stdout


@pytest.mark.lab
def test_a_lab_that_is_down_is_one_line_of_advice(bare_lab: Lab) -> None:
    done = lab_command(bare_lab, "status", "--name", "none")
    assert (done.code, done.stderr) == (1, "pvc: lab none is down; bring it up with `pvc lab up --name none`\n")


@pytest.mark.lab
def test_without_root_one_line_says_so(bare_lab: Lab) -> None:
    command = ["setpriv", "--reuid=65534", "--clear-groups", *COMMAND, "up"]
    done = SystemProcesses().run(command, timeout=DEADLINE)
    assert done.code == 1
    assert done.stderr == "pvc: a lab needs root: it makes namespaces and runs libvirtd; use sudo\n"
