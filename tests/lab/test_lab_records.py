"""Records of processes, waiting with a deadline, and reading what the product prints."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pvc.core.process import Finished, Running, SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab import pidfile
from pvc.lab.deadline import wait_until
from pvc.lab.errors import LabError
from pvc.lab.product import Product
from pvc.lab.together import do_together
from tests.lab.guests import Pings, pings_from


@pytest.fixture
def sleeper() -> Iterator[Running]:
    running = SystemProcesses().start(["sleep", "60"], output=Path(os.devnull))
    yield running
    running.signal(signal.SIGKILL)
    running.wait(10)


def process_of(running: Running) -> pidfile.Process:
    process = pidfile.recorded(Path(f"/proc/{running.pid}/stat"))
    assert process
    return process


def test_a_name_with_blanks_and_brackets_does_not_confuse_a_record() -> None:
    line = "42 (a) b (c)) S 1 42 42 0 -1 4194560 79 0 1 0 0 0 0 0 20 0 1 0 110711 2654208"
    assert pidfile.from_stat(line) == (pidfile.Process(42, 110711), "S")
    assert pidfile.from_stat("rubbish") is None


def test_a_process_is_known_by_its_start_time_too(sleeper: Running) -> None:
    process = process_of(sleeper)
    other = pidfile.Process(process.pid, process.started - 1)
    assert pidfile.state(process)
    assert pidfile.state(other) is None
    assert not pidfile.send(other, signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_zombie_counts_as_ended(sleeper: Running) -> None:
    process = process_of(sleeper)
    assert pidfile.send(process, signal.SIGKILL)
    wait_until(ThreadRuntime(), 10, lambda: pidfile.state(process))
    assert Path(f"/proc/{process.pid}").exists(), "nobody has reaped it yet"
    assert not pidfile.send(process, signal.SIGKILL)


def test_waiting_in_vain_says_what_is_missing_and_quotes_the_log(tmp_path: Path) -> None:
    log = tmp_path / "pvcd.log"
    log.write_text("".join(f"line {n}\n" for n in range(20)))
    with pytest.raises(LabError, match=r"it is not there, even after 0.1 s; see .*pvcd.log, which ends") as caught:
        wait_until(ThreadRuntime(), 0.1, lambda: "it is not there", log=log)
    assert "line 19" in str(caught.value) and "line 3\n" not in str(caught.value)


def answering(code: int, stdout: str, stderr: str = "") -> Product:
    return Product(lambda command: Finished(code, stdout, stderr))


def test_a_node_counts_when_the_cluster_sees_it_alive() -> None:
    product = answering(0, '[{"name": "hv1", "alive": true}, {"name": "hv2", "alive": false}]')
    assert product.missing_nodes(["hv1", "hv2", "hv3"]) == ["hv2", "hv3"]


def test_vms_are_read_with_their_states() -> None:
    assert answering(0, '[{"name": "vm1", "state": "running"}]').vms() == {"vm1": "running"}


def test_a_command_of_the_product_that_fails_is_quoted() -> None:
    with pytest.raises(LabError, match="`pvc init` ended with code 3: no server"):
        answering(3, "", "no server").init()


def test_output_that_is_no_json_is_an_error() -> None:
    with pytest.raises(LabError, match="printed no JSON"):
        answering(0, "hv1 ready").missing_nodes(["hv1"])


def test_works_are_done_a_few_at_a_time_and_all_of_them() -> None:
    done: list[int] = []
    do_together(ThreadRuntime(), [partial(done.append, n) for n in range(9)], 3, 10)
    assert sorted(done) == list(range(9))


def test_the_first_work_that_fails_ends_it_and_is_raised() -> None:
    done: list[int] = []

    def fail() -> None:
        raise LabError("no room")

    with pytest.raises(LabError, match="no room"):
        do_together(ThreadRuntime(), [partial(done.append, 1), fail, partial(done.append, 2)], 1, 10)
    assert done == [1]


def test_lost_pings_are_told_by_outage_and_the_gap_reaches_from_answer_to_answer() -> None:
    pings = Pings(pings_from("0 1000000 200\n1 1010000 -1\n2 1020000 -1\n3 1030000 1500\n4 1040000 -1\n5 1050000 90\n"))
    assert [ping.number for ping in pings.lost] == [1, 2, 4]
    assert [[ping.number for ping in run] for run in pings.outages] == [[1, 2], [4]]
    assert pings.longest_gap == pytest.approx(0.03)
    assert str(pings) == "6 pings, 3 lost (2 from number 1, 1 from number 4), longest gap 30 ms, slowest answer 2 ms"
    assert Pings(pings_from("0 1000000 -1\n")).longest_gap == float("inf")
