"""What is done about a migration that takes long."""

from dataclasses import replace

import pytest

from pvc.plugins.hypervisor.decide.ladder import (
    AllowDowntime,
    GiveUp,
    SwitchToPostCopy,
    advice,
    deadline,
    next_rung,
    rung_in_words,
)
from pvc.plugins.hypervisor.host import MigrationProgress
from pvc.plugins.hypervisor.settings import MigrationSettings

SETTINGS = MigrationSettings(
    uri="qemu+tcp://{address}/system",
    parallel=1,
    retries=2,
    bandwidth=None,
    downtime=(0.3, 0.6, 1.2),
    auto_converge=True,
    post_copy=False,
    connections=1,
    tls=False,
    deadline_per_gib=60.0,
)


def after(seconds: float) -> MigrationProgress:
    return MigrationProgress(seconds, 100, 50, 10, None, None, 1)


@pytest.mark.parametrize(
    ("memory", "seconds"), [(128, 60.0), (1024, 60.0), (1536, 90.0), (8192, 480.0)], ids=lambda value: str(value)
)
def test_the_deadline_grows_with_memory_and_less_than_one_gib_counts_as_one(memory: int, seconds: float) -> None:
    assert deadline(memory, SETTINGS) == seconds


@pytest.mark.parametrize(
    ("elapsed", "rung", "expected"),
    [
        (0.0, 0, None),
        (9.9, 0, None),
        (10.0, 0, AllowDowntime(0.6, 1)),
        (10.0, 1, None),
        (20.0, 1, AllowDowntime(1.2, 2)),
        (25.0, 0, AllowDowntime(1.2, 2)),
        (30.0, 2, None),
        (59.9, 2, None),
        (60.0, 2, GiveUp("did not end within 60 s (60 s per GiB)")),
        (600.0, 0, GiveUp("did not end within 60 s (60 s per GiB)")),
    ],
)
def test_the_rungs_of_a_small_vm(elapsed: float, rung: int, expected: object) -> None:
    assert next_rung(after(elapsed), 1024, rung, SETTINGS, post_copy_begun=False) == expected


def test_post_copy_is_the_last_rung_where_it_is_allowed_and_only_there() -> None:
    allowed = replace(SETTINGS, post_copy=True)
    assert next_rung(after(59.0), 1024, 2, allowed, post_copy_begun=False) is None
    assert next_rung(after(60.0), 1024, 2, allowed, post_copy_begun=False) == SwitchToPostCopy()
    assert isinstance(next_rung(after(60.0), 1024, 2, SETTINGS, post_copy_begun=False), GiveUp)


def test_once_in_post_copy_nothing_is_ever_aborted() -> None:
    allowed = replace(SETTINGS, post_copy=True)
    assert [next_rung(after(t), 1024, 2, allowed, post_copy_begun=True) for t in (0.0, 60.0, 1e6)] == [None] * 3


def test_with_a_single_downtime_there_is_nothing_to_climb() -> None:
    single = replace(SETTINGS, downtime=(0.3,))
    assert [next_rung(after(t), 1024, 0, single, post_copy_begun=False) for t in (0.0, 30.0, 59.0)] == [None] * 3


def test_climbing_ends_whatever_the_pace() -> None:
    rung, seen = 0, []
    for second in range(0, 120, 7):
        step = next_rung(after(second), 4096 // 4, rung, SETTINGS, post_copy_begun=False)
        if isinstance(step, AllowDowntime):
            rung = step.rung
            seen.append(step.seconds)
        if isinstance(step, GiveUp):
            break
    else:
        raise AssertionError("never gave up")
    assert seen == [0.6, 1.2]


@pytest.mark.parametrize(
    ("rung", "post_copy", "given_up", "words"),
    [
        (0, False, False, "downtime 0.3 s"),
        (2, False, False, "downtime 1.2 s"),
        (2, True, False, "post-copy"),
        (2, False, True, "aborting"),
    ],
)
def test_a_rung_has_a_short_name(rung: int, post_copy: bool, given_up: bool, words: str) -> None:
    assert rung_in_words(SETTINGS, rung, post_copy=post_copy, given_up=given_up) == words


def test_the_advice_does_not_name_post_copy_where_it_was_refused() -> None:
    assert "pvc vm set web hypervisor.migration.post_copy=true" in advice("web", "")
    assert "post_copy=true" not in advice("web", "not enabled") and "(not enabled)" in advice("web", "not enabled")
