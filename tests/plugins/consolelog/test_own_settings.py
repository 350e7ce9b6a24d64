"""Settings of one VM's own: `lines`, `bytes` and `max_rate` in its record, taken up while it runs."""

from typing import Any

from pvc.core import keys as core_keys
from pvc.core.config.overrides import per_vm_keys
from pvc.core.coordination import Put
from pvc.core.model import Vm, VmState
from pvc.core.records import encode
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.ring import Loss
from pvc.plugins.consolelog.schema import SCHEMA, SECTION, Settings
from tests.plugins.consolelog.world import DIRECTORY, NAME, PATH, UUID, Cluster, Reader


def own(cluster: Cluster, **options: Any) -> None:
    """Write the VM's record with settings of its own."""
    record = Vm(UUID, NAME, VmState.RUNNING, "hv1", 64, 1, options={f"{SECTION}.{k}": v for k, v in options.items()})
    cluster.admin.commit([Put(core_keys.vm(UUID), encode(record))])


def print_lines(cluster: Cluster, count: int) -> None:
    for number in range(count):
        cluster.nodes["hv1"].disk.write(PATH, b"line %03d\n" % number)
        cluster.steps(0.06, 0.06)


def blocks(cluster: Cluster) -> int:
    return len(cluster.admin.children(keys.console(UUID)) or ())


def test_bounds_and_rate_can_be_set_per_vm() -> None:
    assert per_vm_keys({SECTION: SCHEMA}) == ["consolelog.lines", "consolelog.bytes", "consolelog.max_rate"]


def test_a_vm_keeps_as_many_lines_as_its_own_setting_says() -> None:
    cluster = Cluster()
    own(cluster, lines=20)
    cluster.start("hv1")
    print_lines(cluster, 100)
    assert 20 <= cluster.header()["lines"] <= 20 + 4


def test_a_ring_that_is_made_smaller_is_trimmed_at_once_though_its_vm_is_silent() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    print_lines(cluster, 100)
    assert cluster.header()["lines"] == 100
    own(cluster, lines=10)
    cluster.steps(0.1)
    assert 10 <= cluster.header()["lines"] <= 10 + 4
    assert blocks(cluster) == cluster.header()["number"] - cluster.header()["first_number"]
    before = cluster.ensemble.commits
    cluster.steps(40.0, 1.0)
    assert cluster.ensemble.commits == before


def test_a_ring_that_is_made_larger_keeps_more_from_then_on() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, lines=10, interval=0.05))
    cluster.start("hv1")
    print_lines(cluster, 30)
    assert cluster.header()["lines"] <= 14
    own(cluster, lines=50, bytes=32768)
    print_lines(cluster, 100)
    assert 50 <= cluster.header()["lines"] <= 54


def test_bytes_of_its_own_bound_a_ring() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, bytes=65536, interval=0.05))
    cluster.start("hv1")
    for _ in range(40):
        cluster.print(2000)
        cluster.steps(0.06, 0.06)
    assert cluster.header()["bytes"] > 32768
    own(cluster, bytes=16384)
    cluster.steps(0.2)
    assert cluster.header()["bytes"] <= 16384


def test_a_rate_of_its_own_caps_a_vm() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, bytes=16384, interval=0.05))
    own(cluster, max_rate=4096)
    reader = Reader(cluster)
    reader.poll()
    cluster.start("hv1")
    for _ in range(20):
        cluster.print(20_000)
        cluster.steps(0.06, 0.06)
        reader.poll()
    assert {gap.loss for gap in reader.gaps()} == {Loss.RATE}
    assert len(reader.text()) < 16384 + 20 * 0.06 * 4096 * 2 + 20 * 32
    assert reader.place() == cluster.printed


def test_what_cannot_be_used_is_reported_once_and_left_out() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, lines=10, interval=0.05))
    own(cluster, lines="many", directory="/etc", bytes=20000)
    cluster.start("hv1")
    print_lines(cluster, 30)
    warnings = cluster.nodes["hv1"].warnings
    assert len(warnings) == 1 and "consolelog.lines" in warnings[0] and "consolelog.directory" in warnings[0]
    assert 10 <= cluster.header()["lines"] <= 14


def test_a_record_that_is_garbage_leaves_the_settings_as_they_are() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, lines=10, interval=0.05))
    cluster.admin.commit([Put(core_keys.vm(UUID), b"junk")])
    cluster.start("hv1")
    print_lines(cluster, 30)
    assert len(cluster.nodes["hv1"].warnings) == 1
    assert 10 <= cluster.header()["lines"] <= 14


def test_a_change_that_no_watch_told_of_is_found_later() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    print_lines(cluster, 50)
    session = cluster.nodes["hv1"].session
    assert session is not None
    session.lose_events(1)
    own(cluster, lines=10)
    cluster.steps(1.0)
    assert cluster.header()["lines"] == 50
    cluster.steps(340.0, 10.0)
    assert cluster.header()["lines"] <= 14
