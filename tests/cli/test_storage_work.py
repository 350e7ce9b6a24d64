"""`pvc storage` with daemons that do the work: simulated nodes on a simulated storage."""

from collections.abc import Iterator

import pytest

from pvc.plugins.storage.records import read_tasks
from pvc.testing.cluster import SimCluster
from pvc.testing.ledger import unaccounted
from pvc.testing.storage import FakeContents
from tests.cli.conftest import Keyboard, Said, Terminal, streams_put_back

GIB = 1024**3


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    """Two nodes with the role, and pool vms."""
    role = {"roles": {"storage": True}}
    with SimCluster({"hv1": role, "hv2": role, "hv3": {}}) as cluster:
        cluster.start()
        cluster.settle()
        streams_put_back(monkeypatch)
        keyboard = Keyboard(cluster, Terminal())
        said = pvc(keyboard, "pool", "add", "vms", "--backend", "fake")
        assert (said.code, said.err) == (0, "")
        assert said.out == "add pool vms: pool vms can be used\npool vms can be used on hv1, hv2\n"
        yield keyboard
        assert unaccounted(cluster) == []


def pvc(keyboard: Keyboard, *words: str) -> Said:
    """Run a command of `pvc storage` to its end."""
    return keyboard.type("storage", *words)


def volumes(keyboard: Keyboard) -> dict[str, tuple[int, str, int]]:
    """Size, state and number of snapshots of each volume."""
    rows = pvc(keyboard, "volume", "list", "--format", "json").rows
    return {row["name"]: (row["size"], row["state"], row["snapshots"]) for row in rows}


def test_a_volume_lives_through_all_that_can_be_asked_of_it(keyboard: Keyboard) -> None:
    for words in (
        "volume add vms disk 2G",
        "snapshot add vms disk noon",
        "volume clone vms disk copy --snapshot noon",
        "volume resize vms disk 3G",
        "volume resize vms disk 2G --shrink --yes",
        "snapshot protect vms disk noon",
        "snapshot protect vms disk noon --off",
        "snapshot rollback vms disk noon --yes",
        "volume export vms disk /tmp/disk.raw --node hv2 --format raw",
        "volume import vms again /tmp/disk.raw --node hv2",
        "volume rename vms again other",
    ):
        said = pvc(keyboard, *words.split())
        assert said.code == 0, (words, said.err)
    assert said.out == "rename vms/again as other: vms/again is vms/other now\n"
    assert volumes(keyboard) == {
        "copy": (2 * GIB, "ready", 0),
        "disk": (2 * GIB, "ready", 1),
        "other": (2 * GIB, "ready", 0),
    }
    assert "copy share its data" in pvc(keyboard, "volume", "remove", "vms", "disk", "--snapshots", "--yes").err
    for name in ("copy", "other", "disk"):
        said = pvc(keyboard, "volume", "remove", "vms", name, "--snapshots", "--yes")
        assert said.code == 0, said.err
    assert volumes(keyboard) == {}
    assert pvc(keyboard, "pool", "remove", "vms", "--yes").code == 0


def test_a_new_pool_tells_which_nodes_cannot_use_it(keyboard: Keyboard) -> None:
    keyboard.cluster.storage.spoil("is not mounted", node="hv2")
    said = pvc(keyboard, "pool", "add", "two", "--backend", "fake", "--node", "hv1")
    assert said.code == 0 and "pool two can be used on hv1\n" in said.out
    assert "warning: hv2 cannot use pool two: " in said.err and "is not mounted" in said.err
    keyboard.cluster.storage.spoil("", node="hv2")
    keyboard.cluster.storage.hang(node="hv2", pool="three")
    said = pvc(keyboard, "pool", "add", "three", "--backend", "fake", "--node", "hv1")
    assert said.code == 0, said.err
    keyboard.cluster.storage.hang(False, node="hv2", pool="three")


def test_what_the_node_finds_wrong_is_what_the_command_says(keyboard: Keyboard) -> None:
    said = pvc(keyboard, "volume", "import", "vms", "new", "/tmp/none.raw", "--node", "hv1")
    assert said.code == 5 and "import vms/new from /tmp/none.raw: failed: " in said.err
    assert volumes(keyboard) == {}
    said = pvc(keyboard, "pool", "add", "tape", "--backend", "tape")
    assert said.code == 5 and "tape" in said.err
    assert pvc(keyboard, "pool", "list", "--format", "json").rows[0]["name"] == "vms"


def test_an_import_tells_how_far_it_is_and_ends_when_it_is_told_to(keyboard: Keyboard) -> None:
    cluster = keyboard.cluster
    cluster.storage.files["hv1", "/tmp/big.raw"] = FakeContents(20 * GIB, "big")
    cluster.storage.slow(4.0)
    said = keyboard.begin("storage", "volume", "import", "vms", "big", "/tmp/big.raw", "--node", "hv1")
    assert cluster.run_until(lambda: " 30 %, 6 GiB of 20 GiB" in said.out, 60), said.out
    (task,) = [task for task in read_tasks(cluster.client).values() if task is not None and task.volume]
    assert "will end" in pvc(keyboard, "task", "cancel", task.id).out
    assert cluster.run_until(said.has_ended, 60)
    assert said.code == 4 and "import vms/big from /tmp/big.raw: cancelled" in said.err
    assert volumes(keyboard) == {}
