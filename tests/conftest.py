"""For all tests: nothing that a test started goes on after it."""

import threading
from collections.abc import Iterator

import pytest

PATIENCE = 10.0
"""Seconds in which a thread must end that its test has told to."""


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread.name} outlived the test"
