"""Secrets in libvirt's XML, and when the hypervisor is told of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from xml.etree import ElementTree as tree

import pytest

from pvc.core.context import Context
from pvc.core.hookspecs import hookimpl
from pvc.core.storage import HypervisorSecret
from pvc.plugins.hypervisor.secretxml import element
from pvc.testing.cluster import SimCluster

ONE = HypervisorSecret("11111111-2222-3333-4444-555555555555", "ceph", "client.<one>", b"QVFCd29uZGVyZnVs")


class Wants:
    """A plugin that wants secrets."""

    def __init__(self, say: Callable[[], Sequence[Any]]) -> None:
        self._say = say

    @hookimpl
    def pvc_hypervisor_secrets(self, context: Context) -> Sequence[HypervisorSecret]:
        return self._say()


class Site(SimCluster):
    """One node with a plugin that wants `secrets`."""

    def __init__(self) -> None:
        self.secrets: list[HypervisorSecret] = []
        super().__init__(1, plugins=("wants",), ready=lambda _node: {"wants": Wants(lambda: self.secrets)})
        self.start()

    @property
    def known(self) -> dict[str, HypervisorSecret]:
        return self.nodes["hv1"].host.known_secrets

    def told(self, seconds: float) -> int:
        """How often the hypervisor is told of a secret in so many seconds."""
        before = self.nodes["hv1"].host.calls["define_secret"]
        self.run(seconds)
        return self.nodes["hv1"].host.calls["define_secret"] - before


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as cluster:
        yield cluster


def test_a_definition_holds_no_value_and_is_kept_in_memory_and_shown_to_nobody() -> None:
    for usage, part in (("ceph", "name"), ("iscsi", "target"), ("volume", "volume")):
        text = element(HypervisorSecret(ONE.uuid, usage, ONE.name, ONE.value))
        root = tree.fromstring(text)
        assert (root.get("ephemeral"), root.get("private"), root.findtext("uuid")) == ("yes", "yes", ONE.uuid)
        assert root.findtext(f"usage[@type='{usage}']/{part}") == ONE.name
        assert ONE.value.decode() not in text
    assert ONE.value.decode() not in repr(ONE)


def test_a_secret_that_is_wanted_is_defined_once_and_again_when_its_value_changes(site: Site) -> None:
    assert site.told(30) == 0 and site.nodes["hv1"].host.calls["secrets"] == 0  # nobody wants any: nothing is asked
    site.secrets = [ONE]
    assert site.told(30) == 1 and site.known == {ONE.uuid: ONE}
    assert site.told(30) == 0
    site.secrets = [HypervisorSecret(ONE.uuid, ONE.usage, ONE.name, b"another")]
    assert site.told(30) == 1 and site.known[ONE.uuid].value == b"another"


def test_a_daemon_that_was_started_anew_defines_again_what_may_have_changed_meanwhile(site: Site) -> None:
    site.secrets = [ONE]
    site.run(10)
    site.restart_daemon("hv1")
    assert site.told(30) == 1


def test_a_secret_that_is_wanted_no_more_stays_for_the_vms_that_run(site: Site) -> None:
    site.secrets = [ONE]
    site.run(10)
    site.secrets = []
    site.run(30)
    assert site.known == {ONE.uuid: ONE}


def test_one_that_libvirt_does_not_take_is_reported_and_the_others_are_defined(site: Site) -> None:
    odd = HypervisorSecret("99999999-2222-3333-4444-555555555555", "tape", "x", b"key of the tape")
    site.secrets = [odd, ONE]
    site.run(60)
    assert site.known == {ONE.uuid: ONE}
    (finding,) = [finding for finding in site.health("hv1") if finding.source == "hypervisor"]
    assert "is of the kind tape; libvirt knows volume, ceph, iscsi" in finding.text
    assert sum("of the kind tape" in line for line in site.log.lines) == 1
    assert "key of the tape" not in "\n".join(site.log.lines)
    site.secrets = [ONE]
    site.run(30)
    assert [finding for finding in site.health("hv1") if finding.source == "hypervisor"] == []
