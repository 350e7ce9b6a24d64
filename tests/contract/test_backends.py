"""The same tests on every backend of volumes: each promise of `pvc.core.storage.Backend`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pvc.testing.storagecontract import *  # noqa: F403  (the tests)
from tests.contract.storages import Storage, directory_of_qcow2, directory_of_raw, fake, plain_fake

STORAGES = [fake, plain_fake, directory_of_qcow2, directory_of_raw, pytest.param("rbd", marks=pytest.mark.ceph)]
"""Makers of storages, or the names of fixtures that are one."""


@pytest.fixture(params=STORAGES, ids=lambda make: make if isinstance(make, str) else make.__name__)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    make: Callable[[Path], Storage] | str = request.param
    made: Storage = request.getfixturevalue(make) if isinstance(make, str) else make(tmp_path)
    return made
