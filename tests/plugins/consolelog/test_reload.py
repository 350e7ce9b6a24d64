"""The live keys of the console log's section: a reload changes how the VMs that run are published."""

from dataclasses import replace

from pvc.core.config.reference import reference
from pvc.plugins.consolelog.ring import Loss
from pvc.plugins.consolelog.schema import SCHEMA, SECTION, Settings
from tests.plugins.consolelog.world import DIRECTORY, PATH, Cluster, Reader


def print_lines(cluster: Cluster, count: int) -> None:
    for number in range(count):
        cluster.nodes["hv1"].disk.write(PATH, b"line %03d\n" % number)
        cluster.steps(0.06, 0.06)


def test_the_live_keys_are_these() -> None:
    live = [entry.path.removeprefix(f"{SECTION}.") for entry in reference({SECTION: SCHEMA}) if entry.live]
    assert live == ["lines", "bytes", "interval", "max_rate"]


def test_fewer_lines_are_kept_at_once_though_the_vm_is_silent() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    print_lines(cluster, 100)
    assert cluster.header()["lines"] == 100
    cluster.settings = replace(cluster.settings, lines=10)
    cluster.steps(0.1)
    assert 10 <= cluster.header()["lines"] <= 10 + 4


def test_more_lines_are_kept_from_then_on() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, lines=10, interval=0.05))
    cluster.start("hv1")
    print_lines(cluster, 40)
    cluster.settings = replace(cluster.settings, lines=100)
    cluster.steps(0.1)
    print_lines(cluster, 60)
    assert cluster.header()["lines"] > 60


def test_fewer_bytes_are_kept() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, bytes=65536, interval=0.05, max_rate=1 << 24))
    cluster.start("hv1")
    cluster.print(60000)
    cluster.steps(0.2)
    reader = Reader(cluster)
    reader.poll()
    assert len(reader.text()) > 40000
    cluster.settings = replace(cluster.settings, bytes=16384)
    cluster.steps(0.2)
    later = Reader(cluster)
    later.poll()
    assert 0 < len(later.text()) <= 16384


def test_a_shorter_interval_ends_a_long_wait() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, interval=60.0))
    cluster.start("hv1")
    cluster.print(10)
    cluster.steps(0.2)
    cluster.print(10)
    cluster.steps(2.0)
    before = cluster.header()["next"]
    cluster.settings = replace(cluster.settings, interval=0.05)
    cluster.steps(0.2)
    assert cluster.header()["next"] == before + 10


def test_a_longer_interval_holds_for_what_comes_later() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.print(10)
    cluster.steps(0.2)
    cluster.settings = replace(cluster.settings, interval=30.0)
    cluster.steps(0.1)
    cluster.print(10)
    cluster.steps(0.2)
    before = cluster.header()["next"]
    assert before == 20
    cluster.print(10)
    cluster.steps(20.0, 0.5)
    assert cluster.header()["next"] == before
    cluster.steps(11.0, 0.5)
    assert cluster.header()["next"] == before + 10


def test_a_flood_is_cut_at_the_new_rate() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, interval=0.05, bytes=16384, max_rate=1 << 24))
    cluster.start("hv1")
    reader = Reader(cluster)
    cluster.settings = replace(cluster.settings, max_rate=4096)
    for _ in range(20):
        cluster.print(8192)
        cluster.steps(0.1)
        reader.poll()
    assert any(gap.loss is Loss.RATE for gap in reader.gaps())
    assert len(reader.text()) < 20 * 8192 / 2
