"""The life of the Debian packages on a system: installed, upgraded, removed, purged."""

import pytest

from tests.packages.debian import Debian, until

pytestmark = pytest.mark.packages

CONFIGURATION = "node: hv7\n# by hand\n"
SYSTEMCTL = """\
#!/bin/sh
case "$*" in
--root=*) exec /usr/bin/systemctl.real "$@" ;;
*is-enabled*) echo enabled ;;
*is-active* | *daemon-reload*) ;;
*) echo "$@" >> /tmp/systemctl.log ;;
esac
"""
"""Stands in for systemd, which does not run here: links units as it does, writes down which it is asked to act upon."""

BOOKS = (
    "/var/lib/dpkg/",
    "/var/lib/apt/",
    "/var/lib/systemd/deb-systemd-helper-enabled/",
    "/var/log/apt/",
    "/var/log/dpkg.log",
    "/var/log/alternatives.log",
    "/var/cache/",
    "/etc/ld.so.cache",
)
"""What dpkg and apt, and the triggers of other packages, write about what they do."""


def prepared(debian: Debian) -> None:
    """Let maintainer scripts believe that systemd runs and may be asked to start services."""
    debian.write("/run/systemd/system/here", "")
    debian.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 0\n", mode=0o755)
    debian.check("cp", "/usr/bin/systemctl", "/usr/bin/systemctl.real")
    debian.write("/usr/bin/systemctl", SYSTEMCTL, mode=0o755)


def asked(debian: Debian) -> list[str]:
    """What systemd was asked to do since the last look, without options."""
    log = debian.packages / "systemctl.log"
    said = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [" ".join(word for word in line.split() if not word.startswith("-")) for line in said]


def test_a_life_from_installation_to_purge(fresh_debian: Debian) -> None:
    debian = fresh_debian
    prepared(debian)
    before = debian.changes()

    debian.install()
    assert asked(debian) == ["start pvcd.service"]
    debian.write("/etc/pvc/pvc.yaml", CONFIGURATION)
    debian.write("/etc/pvc/zookeeper.password", "secret\n", mode=0o600)

    debian.check("cp", "/bin/sleep", "/tmp/qemu-system-x86_64")
    vm = debian.start("/tmp/qemu-system-x86_64", "infinity")
    until(lambda: debian.run("pidof", "qemu-system-x86_64").code == 0, lambda: "the stand-in of a VM did not start")
    debian.install()
    assert asked(debian) == ["restart pvcd.service"]
    assert vm.poll() is None
    assert debian.read("/etc/pvc/pvc.yaml") == CONFIGURATION
    assert "/etc/pvc/pvc.yaml: in order; node hv7" in debian.check("pvc", "config", "check")

    debian.check("dpkg", "--remove", "pvc-node", "pvc-client")
    assert asked(debian) == ["stop pvcd.service"]
    assert vm.poll() is None
    assert debian.read("/etc/pvc/pvc.yaml") == CONFIGURATION
    assert debian.run("test", "-e", "/usr/lib/pvc").code == 1

    debian.check("dpkg", "--purge", "pvc-node", "pvc-client")
    left = {path for path in debian.changes() - before if not path.startswith(BOOKS)}
    assert left == set()
    assert debian.run("dpkg", "--status", "pvc-node").code == 1
    vm.signal(9)
    vm.wait()


def test_the_client_alone_installs_without_the_node_and_its_libraries(fresh_debian: Debian) -> None:
    (client,) = fresh_debian.packages.glob("pvc-client_*.deb")
    fresh_debian.check("dpkg", "--install", f"/tmp/{client.name}")
    assert "Usage: pvc" in fresh_debian.check("pvc", "--help")
    assert "hypervisor" in fresh_debian.check("pvc", "plugin", "list")
    missing = "import importlib.util as u; print(u.find_spec('libvirt'), u.find_spec('inotify_simple'))"
    assert fresh_debian.check("/usr/lib/pvc/bin/python3", "-I", "-c", missing) == "None None\n"
    assert fresh_debian.run("pvcd", "--version").code == 127


def test_purging_the_node_leaves_the_configuration_to_the_client(fresh_debian: Debian) -> None:
    fresh_debian.install()
    fresh_debian.write("/etc/pvc/pvc.yaml", CONFIGURATION)
    fresh_debian.check("dpkg", "--purge", "pvc-node")
    assert fresh_debian.read("/etc/pvc/pvc.yaml") == CONFIGURATION
    assert "in order" in fresh_debian.check("pvc", "config", "check")
