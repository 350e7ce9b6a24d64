"""The texts of a lab's Ceph cluster: no process is started here."""

from pathlib import Path

from pvc.lab.cephtexts import Place, Plan, conf_text, keyring_text, keys_to_make, osd_text, osds_in

PLACES = (Place("hv1", "10.77.2.1"), Place("hv2", "10.77.2.2"))
PLAN = Plan(Path("/lab/ceph"), Place("zk1", "10.77.1.1"), PLACES, "f5")


def test_clients_find_the_monitor_by_both_protocols() -> None:
    assert "\tmon host = [v2:10.77.1.1:3300,v1:10.77.1.1:6789]\n" in conf_text(PLAN)


def test_each_osd_has_the_address_of_its_host_which_is_where_crush_puts_it() -> None:
    assert osds_in(conf_text(PLAN)) == dict(enumerate(PLACES))


def test_an_osd_that_was_added_later_is_found_again() -> None:
    later = Place("hv3", "10.77.2.3")
    assert osds_in(conf_text(PLAN) + osd_text(7, later)) == {**dict(enumerate(PLACES)), 7: later}


def test_there_are_as_many_copies_as_osds_up_to_three() -> None:
    def copies(count: int) -> int:
        return Plan(Path("/x"), PLACES[0], PLACES[:1] * count, "f5").copies

    assert [copies(count) for count in (1, 2, 3, 5)] == [1, 2, 3, 3]


def test_virtual_machines_have_a_client_that_may_use_images_only() -> None:
    caps = {entity: dict(caps) for entity, _, caps in keys_to_make(Path("/lab"))}
    assert caps["client.libvirt"] == {"mon": "profile rbd", "osd": "profile rbd", "mgr": "profile rbd"}
    assert keyring_text("osd.0", "AQ==") == "[osd.0]\n\tkey = AQ==\n"
