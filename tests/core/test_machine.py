"""This machine and its processes, as Linux tells."""

import os
from dataclasses import replace
from pathlib import Path

from pvc.core.machine import LinuxMachine
from pvc.core.process import SystemProcesses

machine = LinuxMachine()


def test_this_process_is_not_gone() -> None:
    me = machine.this_process()
    assert me.pid == os.getpid()
    assert me.boot and me.started
    assert machine.is_gone(me) is False


def test_a_process_that_ended_is_gone(tmp_path: Path) -> None:
    running = SystemProcesses().start(["true"], output=tmp_path / "out")
    assert running.wait(10) == 0
    assert machine.is_gone(replace(machine.this_process(), pid=running.pid, started="1")) is True


def test_a_recycled_process_number_does_not_pass_for_the_process_that_had_it() -> None:
    assert machine.is_gone(replace(machine.this_process(), started="1")) is True


def test_of_a_process_of_another_boot_or_machine_nothing_is_known() -> None:
    me = machine.this_process()
    assert machine.is_gone(replace(me, boot="another", started="1")) is False
    assert machine.is_gone(replace(me, boot="", started="1")) is False


def test_the_identity_stays_the_same() -> None:
    assert machine.identity() == LinuxMachine().identity()
