"""A simulated cluster whose nodes do nothing but keep volumes."""

from collections.abc import Iterator
from typing import Any

import pytest

from pvc.core.storage import Feature
from pvc.plugins.storage.records import TaskPhase
from pvc.testing.cluster import SimCluster
from pvc.testing.storage import FakeContents
from tests.plugins.storage.asked import FILE, done

STORAGE: dict[str, Any] = {"roles": {"hypervisor": False, "storage": True}}


@pytest.fixture(params=["dated", "undated"])
def cluster(request: pytest.FixtureRequest) -> Iterator[SimCluster]:
    """Three storage nodes and the pool `fast`; every part of a call to the storage takes no time."""
    with SimCluster(dict.fromkeys(("hv1", "hv2", "hv3"), STORAGE)) as cluster:
        if request.param == "undated":
            cluster.storage.features -= {Feature.DATED}
        cluster.start()
        assert done(cluster, "add pool", pool="fast").phase is TaskPhase.DONE
        cluster.run(1)
        for node in cluster.nodes:
            cluster.storage.files[node, FILE] = FakeContents(1000, "file")
        yield cluster
