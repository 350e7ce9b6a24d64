"""Fixtures for tests of plugins. pytest loads this wherever pvc is installed: it imports nothing until one is used."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pvc.testing.cluster import SimCluster
    from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
    from pvc.testing.hypervisor import FakeFabric
    from pvc.testing.runtime import SimProcess, World

pytest.register_assert_rewrite("pvc.testing.storagecontract")


@contextmanager
def _needing_greenlet() -> Iterator[None]:
    """Around the imports of what runs on simulated time."""
    try:
        yield
    except ImportError as error:
        raise pytest.UsageError(f"{error}: the fixtures of pvc need more: pip install 'pvc[testing]'") from error


class MakeCluster(Protocol):
    """The type of the fixture `pvc_cluster`."""

    def __call__(
        self,
        nodes: int | Sequence[str] = 3,
        *,
        plugins: Sequence[str] | Mapping[str, Callable[[], object]] = (),
        config: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> "SimCluster":
        """A started cluster, taken down after the test.

        `plugins` are switched on beside the flush lock: installed ones by name, or for each name what makes the object.
        Not consolelog: it waits for the kernel, on real time.
        `config` is every node's pvc.yaml, but for the node's name and what is switched on.
        """


@pytest.fixture
def pvc_cluster() -> Iterator[MakeCluster]:
    """Makes simulated clusters: real daemons on simulated hosts and simulated time."""
    with ExitStack() as closing:

        def make(
            nodes: int | Sequence[str] = 3,
            *,
            plugins: Sequence[str] | Mapping[str, Callable[[], object]] = (),
            config: Mapping[str, Any] | None = None,
            seed: int = 0,
        ) -> "SimCluster":
            with _needing_greenlet():
                from pvc.testing.cluster import SimCluster

            names = [f"hv{number + 1}" for number in range(nodes)] if isinstance(nodes, int) else nodes
            makers = plugins if isinstance(plugins, Mapping) else {}
            cluster = SimCluster(
                {name: dict(config or {}) for name in names},
                seed=seed,
                plugins=tuple(dict.fromkeys(("flushlock", *plugins))),
                ready=lambda _node: {name: maker() for name, maker in makers.items()},
            )
            closing.callback(cluster.close)
            cluster.start()
            return cluster

        yield make


@pytest.fixture
def pvc_world() -> "World":
    """Simulated time: `run_for` and `run_until` let it pass."""
    with _needing_greenlet():
        from pvc.testing.runtime import World

    return World()


@pytest.fixture
def pvc_runtime(pvc_world: "World") -> "SimProcess":
    """The `Runtime` of one simulated process."""
    return pvc_world.process("test")


@pytest.fixture
def pvc_ensemble(pvc_world: "World") -> Iterator["FakeEnsemble"]:
    """A ZooKeeper ensemble in memory, with the tree of a new cluster."""
    with _needing_greenlet():
        from pvc.core.tree import tree_ops
        from pvc.testing.coordinator import FakeEnsemble

    ensemble = FakeEnsemble(pvc_world.process("ensemble"))
    ensemble.connect("init").commit(tree_ops())
    yield ensemble
    ensemble.close()


@pytest.fixture
def pvc_coordinator(pvc_ensemble: "FakeEnsemble") -> "FakeCoordinator":
    """A session with that ensemble."""
    return pvc_ensemble.connect("test")


@pytest.fixture
def pvc_fabric(pvc_world: "World") -> "FakeFabric":
    """Simulated hosts that run VMs and migrate them: `host(name)` gives each its hypervisor."""
    with _needing_greenlet():
        from pvc.testing.hypervisor import FakeFabric

    return FakeFabric(pvc_world.process("fabric"))
