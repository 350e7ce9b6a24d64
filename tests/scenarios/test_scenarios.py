"""Every scenario directory beside this file, played on simulated time and compared with its golden log.

`PVC_ACCEPT_LOGS=1 pytest tests/scenarios` rewrites the logs: read the difference before it is committed.
"""

import os
from pathlib import Path

import pytest

from pvc.testing.scenario import load, play

HERE = Path(__file__).parent
DIRECTORIES = sorted(path.parent for path in HERE.glob("*/steps.yml"))


@pytest.mark.parametrize("directory", DIRECTORIES, ids=[directory.name for directory in DIRECTORIES])
def test_scenario(directory: Path) -> None:
    scenario = load(directory)
    log = play(scenario)
    if os.environ.get("PVC_ACCEPT_LOGS") == "1":
        scenario.golden.write_text(log)
    assert log == scenario.golden.read_text()
