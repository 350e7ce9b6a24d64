"""The same tests on every backend of volumes: each promise of `pvc.core.storage.Backend`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pvc.testing.storagecontract import *  # noqa: F403  (the tests)
from tests.contract.storages import Storage, directory_of_qcow2, directory_of_raw, fake, plain_fake

STORAGES = [fake, plain_fake, directory_of_qcow2, directory_of_raw]


@pytest.fixture(params=STORAGES, ids=lambda make: make.__name__)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    make: Callable[[Path], Storage] = request.param
    return make(tmp_path)
