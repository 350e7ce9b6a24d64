"""Running services: order, retries, containment, and the end."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise

import pytest

from pvc.core.coordination import Check, Clash, Conflict, Disconnected
from pvc.core.lifecycle import CONFLICTS_IN_A_ROW, HUNG_AFTER, LONGEST_PAUSE, Lifecycle, ServiceState
from pvc.core.model import Severity
from pvc.core.runtime import Ended
from pvc.testing.runtime import SimProcess, World

log = logging.getLogger("test.lifecycle")


class Scripted:
    """A service that does what the test says at each step and remembers when it was stepped."""

    def __init__(
        self,
        world: World,
        process: SimProcess,
        name: str,
        after: Sequence[str] = (),
        does: Callable[[int], float] = lambda _number: 100.0,
    ) -> None:
        self.name = name
        self.after = tuple(after)
        self.wake = process.signal()
        self.steps: list[float] = []
        self.stopped = 0
        self._world = world
        self._does = does

    def step(self) -> float:
        self.steps.append(self._world.time)
        return self._does(len(self.steps))

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def process(world: World) -> SimProcess:
    return world.process("hv1")


def started(process: SimProcess, *services: Scripted) -> Lifecycle:
    lifecycle = Lifecycle(services, process, log)
    lifecycle.start()
    return lifecycle


def failing_until(
    number: int, error: Callable[[], Exception] = lambda: ValueError("on purpose")
) -> Callable[[int], float]:
    def step(count: int) -> float:
        if count < number:
            raise error()
        return 100.0

    return step


def sleeping(process: SimProcess, seconds: float) -> Callable[[int], float]:
    def step(_number: int) -> float:
        process.sleep(seconds)
        return 100.0

    return step


def gaps(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def test_a_service_is_stepped_when_its_pause_is_over_or_it_is_woken(world: World, process: SimProcess) -> None:
    one = Scripted(world, process, "one", does=lambda _n: 10.0)
    started(process, one)
    world.run_for(25)
    assert one.steps == [0.0, 10.0, 20.0]
    one.wake.set()
    world.run_for(1)
    assert one.steps == [0.0, 10.0, 20.0, 25.0]


def test_a_service_waits_for_those_it_comes_after(world: World, process: SimProcess) -> None:
    late = Scripted(world, process, "late", after=("early",))
    early = Scripted(world, process, "early", does=sleeping(process, 3.0))
    started(process, late, early)
    world.run_for(2.5)
    assert (early.steps, late.steps) == ([0.0], [])
    world.run_for(2.0)
    assert late.steps == [3.0]


def test_a_name_that_is_not_there_is_not_waited_for(world: World, process: SimProcess) -> None:
    one = Scripted(world, process, "one", after=("nobody",))
    started(process, one)
    world.run_for(1)
    assert one.steps == [0.0]


def test_a_failing_service_is_retried_with_growing_pauses_up_to_a_limit(world: World, process: SimProcess) -> None:
    one = Scripted(world, process, "one", does=failing_until(100))
    lifecycle = started(process, one)
    world.run_for(400)
    assert gaps(one.steps)[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert max(gaps(one.steps)) == LONGEST_PAUSE
    (finding,) = lifecycle.findings()
    assert finding.severity is Severity.WARNING
    assert "on purpose" in finding.text


def test_events_do_not_turn_a_failing_service_into_a_busy_loop(world: World, process: SimProcess) -> None:
    one = Scripted(world, process, "one", does=failing_until(100))
    started(process, one)
    for _ in range(100):
        one.wake.set()
        world.run_for(0.1)
    assert len(one.steps) <= 4


def test_one_failing_service_does_not_disturb_another(world: World, process: SimProcess) -> None:
    bad = Scripted(world, process, "bad", does=failing_until(100))
    good = Scripted(world, process, "good", after=("bad",), does=lambda _n: 10.0)
    started(process, bad, good)
    world.run_for(100)
    assert len(good.steps) >= 9
    assert world.failures == []


def test_a_service_that_recovers_is_fine_again_and_its_next_failure_starts_small(
    world: World, process: SimProcess
) -> None:
    def step(count: int) -> float:
        if count in (1, 2, 3, 5):
            raise ValueError("on purpose")
        return 1.0

    one = Scripted(world, process, "one", does=step)
    lifecycle = started(process, one)
    world.run_for(8.5)
    assert gaps(one.steps) == [1.0, 2.0, 4.0, 1.0]
    assert len(lifecycle.findings()) == 1
    world.run_for(5)
    assert lifecycle.findings() == []
    assert [(s.state, s.failures) for s in lifecycle.status()] == [(ServiceState.RUNNING, 0)]


def test_a_lost_connection_is_weather_and_no_failure(
    world: World, process: SimProcess, caplog: pytest.LogCaptureFixture
) -> None:
    one = Scripted(world, process, "one", does=failing_until(6, lambda: Disconnected("away")))
    lifecycle = started(process, one)
    with caplog.at_level(logging.WARNING):
        world.run_for(3)
        assert lifecycle.findings() == []
        world.run_for(10)
    assert gaps(one.steps) == [1.0] * 5
    assert caplog.messages == []


def test_who_comes_after_a_service_waits_until_the_cluster_was_reached(world: World, process: SimProcess) -> None:
    early = Scripted(world, process, "early", does=failing_until(4, lambda: Disconnected("away")))
    late = Scripted(world, process, "late", after=("early",))
    started(process, early, late)
    world.run_for(10)
    assert late.steps[0] == early.steps[3] == 3.0


def conflict() -> Conflict:
    return Conflict(Check("/x"), Clash.CHANGED)


def test_a_refused_write_means_looking_again_at_once(world: World, process: SimProcess) -> None:
    one = Scripted(world, process, "one", does=failing_until(4, conflict))
    lifecycle = started(process, one)
    world.run_for(1)
    assert one.steps == [0.0] * 4
    assert lifecycle.findings() == []


def test_a_write_that_is_always_refused_becomes_a_failure_and_no_busy_loop(world: World, process: SimProcess) -> None:
    one = Scripted(world, process, "one", does=failing_until(10_000, conflict))
    lifecycle = started(process, one)
    world.run_for(60)
    assert len(one.steps) <= CONFLICTS_IN_A_ROW + 10
    assert "changed" in lifecycle.findings()[0].text


def test_stop_ends_every_service_once_and_wakes_those_that_wait(world: World, process: SimProcess) -> None:
    services = [
        Scripted(world, process, "waits"),
        Scripted(world, process, "fails", does=failing_until(100)),
        Scripted(world, process, "never began", after=("slow",)),
        Scripted(world, process, "slow", does=sleeping(process, 2.0)),
    ]
    lifecycle = started(process, *services)
    world.run_for(1)
    process.spawn("stop", lifecycle.stop)
    world.run_for(10)
    assert [service.stopped for service in services] == [1, 1, 1, 1]
    assert {status.state for status in lifecycle.status()} == {ServiceState.STOPPED}
    before = [len(service.steps) for service in services]
    world.run_for(100)
    assert [len(service.steps) for service in services] == before


def test_a_service_that_does_not_end_is_left_behind_and_named(
    world: World, process: SimProcess, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = Scripted(world, process, "stuck", does=sleeping(process, 1000.0))
    lifecycle = started(process, stuck)
    world.run_for(1)
    ended: list[float] = []

    def stop() -> None:
        lifecycle.stop()
        ended.append(world.time)

    process.spawn("stop", stop)
    world.run_for(20)
    assert ended and ended[0] < 10
    assert "stuck did not stop within" in caplog.text
    process.kill()


def test_a_service_that_stays_in_one_step_hangs_until_the_step_ends(world: World, process: SimProcess) -> None:
    one = Scripted(world, process, "one", does=sleeping(process, 2 * HUNG_AFTER))
    lifecycle = started(process, one)
    world.run_for(HUNG_AFTER - 1)
    assert lifecycle.hung() == []
    world.run_for(2)
    assert lifecycle.hung() == ["one"]
    (finding,) = lifecycle.findings()
    assert finding.severity is Severity.WARNING
    assert finding.source == "service one"
    world.run_for(HUNG_AFTER)
    assert lifecycle.hung() == []


def test_a_service_that_waits_or_fails_for_long_does_not_hang(world: World, process: SimProcess) -> None:
    waiting = Scripted(world, process, "waiting", does=lambda _n: 10 * HUNG_AFTER)
    failing = Scripted(world, process, "failing", does=failing_until(100))
    blocked = Scripted(world, process, "blocked", after=("failing",))
    lifecycle = started(process, waiting, failing, blocked)
    world.run_for(5 * HUNG_AFTER)
    assert lifecycle.hung() == []


def test_a_service_whose_task_has_died_hangs_but_one_that_was_stopped_does_not(
    world: World, process: SimProcess
) -> None:
    def die(_number: int) -> float:
        raise Ended

    lifecycle = started(process, Scripted(world, process, "one", does=die), Scripted(world, process, "two"))
    with suppress(Ended):
        world.run_for(1)
    world.run_for(1)
    assert lifecycle.hung() == ["one"]
    process.spawn("end", lifecycle.stop)
    world.run_for(30)
    assert lifecycle.hung() == ["one"]
