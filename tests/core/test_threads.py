"""The real runtime, and the inbox on it."""

import logging
from functools import partial

import pytest

from pvc.core.runtime import Inbox
from pvc.core.threads import ThreadRuntime

PATIENCE = 10.0


def test_a_signal_that_was_set_is_seen_once() -> None:
    signal = ThreadRuntime().signal()
    signal.set()
    signal.set()
    assert signal.wait(0) is True
    assert signal.wait(0) is False


def test_a_signal_wakes_who_waits_for_it() -> None:
    runtime = ThreadRuntime()
    asked, answered = runtime.signal(), runtime.signal()

    def answer() -> None:
        if asked.wait(PATIENCE):
            answered.set()

    task = runtime.spawn("answer", answer)
    asked.set()
    assert answered.wait(PATIENCE)
    assert task.join(PATIENCE)
    assert not task.alive()


def test_join_gives_up_in_time_and_says_so() -> None:
    runtime = ThreadRuntime()
    end = runtime.signal()

    def wait() -> None:
        end.wait(PATIENCE)

    task = runtime.spawn("patient", wait)
    assert task.join(0.01) is False
    assert task.alive()
    end.set()
    assert task.join(PATIENCE) is True


def test_a_task_bears_its_name_and_its_error_is_logged_and_contained(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    with caplog.at_level(logging.ERROR):
        task = ThreadRuntime().spawn("careless", fail)
        assert task.join(PATIENCE)
    assert task.name == "careless"
    assert "task careless ended by an error" in caplog.text
    assert "on purpose" in caplog.text


def test_clocks_go_forward_and_identifiers_differ() -> None:
    runtime = ThreadRuntime()
    before = runtime.monotonic()
    runtime.sleep(0.001)
    assert runtime.monotonic() > before
    assert runtime.now() > 1_600_000_000
    assert len({runtime.new_id() for _ in range(100)}) == 100


def test_a_mutex_lets_one_in_at_a_time() -> None:
    runtime = ThreadRuntime()
    mutex = runtime.mutex()
    inside, leave, entered = runtime.signal(), runtime.signal(), runtime.signal()

    def first() -> None:
        with mutex:
            inside.set()
            leave.wait(PATIENCE)

    def second() -> None:
        with mutex:
            entered.set()

    one = runtime.spawn("first", first)
    assert inside.wait(PATIENCE)
    two = runtime.spawn("second", second)
    assert entered.wait(0.05) is False
    leave.set()
    assert entered.wait(PATIENCE)
    assert one.join(PATIENCE) and two.join(PATIENCE)


def test_an_inbox_gives_all_events_in_order_once_and_wakes() -> None:
    signal = ThreadRuntime().signal()
    inbox: Inbox[int | None] = Inbox(signal)
    for event in (1, None, 3):
        inbox.put(event)
    assert signal.wait(0)
    assert inbox.drain() == [1, None, 3]
    assert inbox.drain() == []


def test_no_event_is_lost_when_many_put_at_once() -> None:
    runtime = ThreadRuntime()
    wake = runtime.signal()
    inbox: Inbox[int] = Inbox(wake)

    def put(first: int) -> None:
        for event in range(first, first + 100):
            inbox.put(event)

    tasks = [runtime.spawn(f"putter {i}", partial(put, 100 * i)) for i in range(4)]
    taken: list[int] = []
    while len(taken) < 400 and wake.wait(PATIENCE):
        taken += inbox.drain()
    assert sorted(taken) == list(range(400))
    assert all(task.join(PATIENCE) for task in tasks)
