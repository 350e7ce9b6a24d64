"""Long work beside a service: one piece per key, and every end is heard of once."""

import pytest

from pvc.core.service import JobEnd, Jobs
from pvc.testing.runtime import SimProcess, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def process(world: World) -> SimProcess:
    return world.process("hv1")


def test_of_one_key_only_one_job_runs_at_a_time(world: World, process: SimProcess) -> None:
    jobs = Jobs(process, process.signal())
    assert jobs.start("a", lambda: process.sleep(5)) is True
    assert jobs.start("a", lambda: process.sleep(5)) is False
    assert jobs.start("b", lambda: process.sleep(5)) is True
    world.run_for(1)
    assert (jobs.running("a"), jobs.running("b"), jobs.running("c"), jobs.count()) == (True, True, False, 2)
    world.run_for(5)
    assert len(jobs.ended()) == 2
    assert (jobs.running("a"), jobs.count()) == (False, 0)
    assert jobs.start("a", lambda: None) is True


def test_an_end_wakes_the_service_and_is_told_once(world: World, process: SimProcess) -> None:
    wake = process.signal()
    jobs = Jobs(process, wake)
    woken: list[float] = []

    def service() -> None:
        wake.wait(None)
        woken.append(world.time)

    process.spawn("service", service)
    jobs.start("a", lambda: process.sleep(5))
    world.run_for(4)
    assert woken == [] and jobs.ended() == []
    world.run_for(2)
    assert woken == [5.0]
    assert jobs.ended() == [JobEnd("a", None)]
    assert jobs.ended() == []


def test_an_error_ends_only_its_job_and_reaches_the_service(world: World, process: SimProcess) -> None:
    jobs = Jobs(process, process.signal())
    error = ValueError("on purpose")

    def fail() -> None:
        raise error

    jobs.start("a", fail)
    jobs.start("b", lambda: None)
    world.run_for(1)
    assert jobs.ended() == [JobEnd("a", error), JobEnd("b", None)]
    assert world.failures == []


def test_an_exit_ends_only_its_job_and_reaches_the_service(world: World, process: SimProcess) -> None:
    jobs = Jobs(process, process.signal())
    jobs.start("a", lambda: exit(3))
    world.run_for(1)
    assert [str(end.error) for end in jobs.ended()] == ["SystemExit(3)"]


def test_a_job_runs_until_its_end_has_been_told(world: World, process: SimProcess) -> None:
    jobs = Jobs(process, process.signal())
    jobs.start("a", lambda: None)
    world.run_for(1)
    assert (jobs.running("a"), jobs.start("a", lambda: None)) == (True, False)
    assert jobs.ended() == [JobEnd("a", None)]
    assert (jobs.running("a"), jobs.start("a", lambda: None)) == (False, True)


def test_when_its_end_is_told_a_job_no_longer_counts_as_running(world: World, process: SimProcess) -> None:
    wake = process.signal()
    jobs = Jobs(process, wake)
    seen: list[tuple[bool, int]] = []

    def service() -> None:
        while wake.wait(None):
            told = len(jobs.ended())
            seen.append((jobs.running("a"), told))

    process.spawn("service", service)
    jobs.start("a", lambda: process.sleep(1))
    world.run_for(5)
    process.kill()
    assert seen == [(False, 1)]
