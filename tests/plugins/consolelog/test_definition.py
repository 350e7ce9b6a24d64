"""The log element of a definition."""

import pytest

from pvc.plugins.consolelog.definition import BadXml, ConsoleFile, console_file, log_path, with_log

UUID = "11111111-2222-3333-4444-555555555555"


def domain(devices: str) -> str:
    return f"<domain type='qemu' id='7'><name>web</name><devices>{devices}</devices></domain>"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("web", "web-console.log"),
        ("web.example-1", "web.example-1-console.log"),
        ("../../etc/passwd", f"{UUID}-console.log"),
        ("two words", f"{UUID}-console.log"),
        (".hidden", f"{UUID}-console.log"),
        ("n" * 101, f"{UUID}-console.log"),
    ],
)
def test_a_file_is_named_for_its_vm_unless_the_name_is_odd(name: str, file: str) -> None:
    assert log_path("/logs/", name, UUID) == f"/logs/{file}"


def test_the_first_serial_console_gets_a_log() -> None:
    changed = with_log(domain("<serial type='pty'/><serial type='pty'/>"), "/logs/a&b.log", "off")
    assert changed is not None
    assert changed.count("<log ") == 1
    assert console_file(changed) == ConsoleFile("/logs/a&b.log", False, "7")


@pytest.mark.parametrize(
    "devices",
    [
        "<serial type='pty'><log file='/own.log' append='on'/></serial>",
        "<disk/>",
        "<console><target type='virtio'/></console>",
    ],
)
def test_a_definition_with_a_log_or_without_a_serial_console_stays_as_it_is(devices: str) -> None:
    assert with_log(domain(devices), "/logs/web.log", "off") is None


def test_a_console_that_stands_alone_gets_the_log() -> None:
    changed = with_log(domain("<console type='pty'/>"), "/logs/web.log", "on")
    assert changed is not None
    assert console_file(changed) == ConsoleFile("/logs/web.log", True, "7")


def test_everything_else_of_the_definition_stays() -> None:
    given = (
        "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><devices><serial/></devices>"
        "<qemu:commandline><qemu:arg value='-s'/></qemu:commandline></domain>"
    )
    changed = with_log(given, "/logs/web.log", "off")
    assert changed is not None
    assert '<qemu:commandline><qemu:arg value="-s" /></qemu:commandline>' in changed


@pytest.mark.parametrize("xml", ["", "<domain>", "<!DOCTYPE a [<!ENTITY b 'c'>]><domain>&b;</domain>"])
def test_xml_that_cannot_be_read_or_plays_tricks_is_refused(xml: str) -> None:
    with pytest.raises(BadXml):
        console_file(xml)
    assert with_log(xml, "/logs/web.log", "off") is None


def test_a_live_definition_without_log_has_no_file() -> None:
    assert console_file(domain("<serial type='pty'/>")) is None
