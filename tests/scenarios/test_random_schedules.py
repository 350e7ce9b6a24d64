"""Random clusters under random faults and requests: no promise may break, and after healing everything comes to rest.

`PVC_SEEDS=2000` tries more seeds than usual, `PVC_SEED=17` replays one and prints its log.
"""

import os

import pytest

from tests.scenarios.schedules import make_schedule, play

USUAL = 100
TOGETHER = 10
"""Seeds in one test, so that a thousand seeds are not a thousand lines."""


def _batches() -> list[range]:
    if "PVC_SEED" in os.environ:
        seed = int(os.environ["PVC_SEED"])
        return [range(seed, seed + 1)]
    seeds = int(os.environ.get("PVC_SEEDS", USUAL))
    return [range(first, min(first + TOGETHER, seeds)) for first in range(0, seeds, TOGETHER)]


@pytest.mark.parametrize("seeds", _batches(), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_no_promise_breaks_whatever_fails_when(seeds: range) -> None:
    failed: list[str] = []
    for seed in seeds:
        played = play(make_schedule(seed))
        if len(seeds) == 1:
            print("\n".join(played.lines))
        if played.problems:
            failed.append(f"PVC_SEED={seed} replays it: " + "\n  ".join(played.problems))
    assert not failed, "\n".join(failed)


def test_the_same_seed_gives_the_same_log() -> None:
    assert play(make_schedule(3)).lines == play(make_schedule(3)).lines
