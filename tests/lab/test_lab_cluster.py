"""A whole lab: the product's own daemons and VMs, all driven through the public command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.lab.cluster import Lab
from pvc.lab.product import Product
from pvc.lab.shape import Shape

pytest.importorskip("pvc.cli.main", reason="needs the pvc command")
pytest.importorskip("pvc.core.pvcd", reason="needs the pvcd daemon")

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def whole_lab(labs_directory: Path) -> Iterator[Lab]:
    lab = Lab("whole", Shape(nodes=2, vms=4, vm_args="rate=5"), directory=labs_directory)
    try:
        assert lab.up() == ["made"]
        yield lab
    finally:
        lab.down()


def test_every_vm_runs_where_it_was_put(whole_lab: Lab) -> None:
    running = {node: sorted(whole_lab.vm_processes(node)) for node in ("hv1", "hv2")}
    assert running == {"hv1": ["vm1", "vm3"], "hv2": ["vm2", "vm4"]}
    assert Product(whole_lab.run).vms() == dict.fromkeys(("vm1", "vm2", "vm3", "vm4"), "running")


def test_up_again_starts_only_the_daemon_that_died(whole_lab: Lab) -> None:
    before = whole_lab.vm_processes("hv1")
    whole_lab.kill("pvcd", "hv1")
    assert whole_lab.up() == ["started pvcd on hv1"]
    assert whole_lab.vm_processes("hv1") == before
    assert whole_lab.up() == []


def test_a_daemon_that_is_started_again_works_when_it_is_registered_not_while_its_predecessor_still_is(
    whole_lab: Lab,
) -> None:
    log = whole_lab.log("hv1", "pvcd")
    before = log.read_text().count("node hv1: registered")
    whole_lab.kill("pvcd", "hv1")
    whole_lab.start("pvcd", "hv1")
    assert log.read_text().count("node hv1: registered") == before + 1
