"""Both Debian packages on a Debian system: what is there, and that it works."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import pvc
from pvc.core.process import SystemProcesses
from pvc.core.pvcd import BAD_CONFIGURATION
from pvc.core.threads import ThreadRuntime
from pvc.testing.zookeeper import ZooKeeperServer, free_port
from tests.packages.conftest import ROOT
from tests.packages.debian import PATIENCE, Debian, until

pytestmark = pytest.mark.packages

EXAMPLE = "/usr/share/doc/pvc-node/examples/pvc.yaml.example"
SCHEMA = "/usr/share/pvc/pvc.schema.json"
UNIT = "/lib/systemd/system/pvcd.service"
PYTHON = "/usr/lib/pvc/bin/python3"
MOST_EXPOSED = 50
"""Tenths of systemd's measure of what a service could do to the system; a unit without any precaution has 96."""

EXPECTED = {
    "pvc-client": {
        "/usr/bin/pvc",
        "/usr/share/bash-completion/completions/pvc",
        "/usr/share/zsh/vendor-completions/_pvc",
        "/usr/share/fish/vendor_completions.d/pvc.fish",
        "/etc/pvc/conf.d",
        SCHEMA,
        "/usr/share/doc/pvc-client/copyright",
        "/usr/share/doc/pvc-client/changelog.gz",
    },
    "pvc-node": {"/usr/sbin/pvcd", UNIT, EXAMPLE, "/usr/share/doc/pvc-node/copyright"},
}
FISH = {"XDG_CONFIG_HOME": "/tmp/fish", "XDG_DATA_HOME": "/tmp/fish"}
"""Where fish keeps what it learns."""

LIKE_ITS_SERVICE = """
for directory in /usr /etc /boot; do mount --bind $directory $directory; mount -o remount,bind,ro $directory; done
echo $$ > /tmp/pvcd.pid
exec setpriv --no-new-privs --bounding-set=-sys_boot,-sys_ptrace,-sys_rawio,-mac_admin,-lease \
    pvcd --config /etc/pvc/pvc.yaml
"""
"""Starts the daemon with the system's own directories read-only, as systemd does."""


@pytest.fixture
def zookeeper(tmp_path: Path) -> Iterator[ZooKeeperServer]:
    server = ZooKeeperServer(SystemProcesses(), ThreadRuntime(), tmp_path / "zookeeper", free_port())
    server.start()
    yield server
    server.stop()


MANUAL = {"pvc-client": {"pvc.1", "pvc.yaml.5"}, "pvc-node": {"pvcd.8"}}


@pytest.mark.parametrize("package", MANUAL)
def test_the_manual_pages_that_this_checkout_makes_are_installed(package: str, debian: Debian, workshop: Path) -> None:
    made = {path.name for path in (workshop / "tree" / "man").glob("*")}
    files = debian.check("dpkg", "--listfiles", package).splitlines()
    pages = {path.rpartition("/")[2].removesuffix(".gz") for path in files if path.startswith("/usr/share/man/man")}
    assert pages - {"man1", "man5", "man8"} == MANUAL[package] <= made


@pytest.mark.parametrize("package", EXPECTED)
def test_every_file_is_where_debian_wants_it_unchanged_and_roots(package: str, debian: Debian) -> None:
    files = debian.check("dpkg", "--listfiles", package).split("\n")
    assert EXPECTED[package] - set(files) == set()
    assert debian.check("dpkg", "--verify", package) == ""
    listed = debian.check("sh", "-c", f"dpkg -L {package} | xargs stat --format='%U:%G %a %n'").splitlines()
    assert [line for line in listed if not line.startswith("root:root ")] == []
    assert [line for line in listed if int(line.split()[1], 8) & 0o022 and "777" not in line] == []


def test_the_package_brings_no_configuration_of_its_own(debian: Debian) -> None:
    assert debian.check("find", "/etc/pvc") == "/etc/pvc\n/etc/pvc/conf.d\n"


def test_the_programs_say_their_version(debian: Debian) -> None:
    assert debian.check("pvc", "--version") == f"pvc {pvc.__version__}\n"
    assert debian.check("pvcd", "--version") == f"pvcd {pvc.__version__}\n"
    package = debian.check("dpkg-query", "--show", "--showformat=${Version}", "pvc-node")
    assert package.partition("~")[0] == pvc.__version__


def test_the_example_is_in_order(debian: Debian) -> None:
    assert "in order; node hv1" in debian.check("pvc", "config", "check", EXAMPLE)


def test_editors_find_the_schema_that_the_example_names(debian: Debian) -> None:
    assert debian.read(EXAMPLE).partition("\n")[0] == f"# yaml-language-server: $schema={SCHEMA}"
    assert debian.read(SCHEMA) == (ROOT / "pvc" / "pvc.schema.json").read_text()


def test_a_plugin_can_be_begun_from_the_package(debian: Debian) -> None:
    debian.check("pvc", "plugin", "new", "lamp", "--directory", "/tmp/lamp")
    code = "import sys; sys.path.insert(0, '/tmp/lamp/src'); import pvc_lamp.plugin, pvc_lamp.service, pvc_lamp.cli"
    debian.check(PYTHON, "-I", "-c", code)
    debian.check("rm", "-r", "/tmp/lamp")


def test_only_the_libraries_of_the_package_and_debians_libvirt_are_used(debian: Debian) -> None:
    code = (
        "import sys, libvirt, inotify_simple, pyroute2, typer, yaml, kazoo, msgspec\n"
        "libvirt.getVersion()\n"
        "print({m.__file__.rsplit('/site-packages/')[0] for m in (libvirt, typer, yaml, kazoo, msgspec)}, "
        "[p for p in sys.path if 'dist-packages' in p])"
    )
    environment = {"PYTHONPATH": "/usr/lib/python3/dist-packages"}
    assert debian.check(PYTHON, "-I", "-c", code, environment=environment) == "{'/usr/lib/pvc/lib/python3.11'} []\n"
    owner = debian.check("sh", "-c", "dpkg -S $(realpath /usr/lib/pvc/lib/python3.11/site-packages/libvirt.py)")
    assert owner.startswith("python3-libvirt:")


@pytest.mark.parametrize("program", ["pvc", "pvcd"])
def test_what_the_caller_has_in_its_environment_is_not_loaded(program: str, debian: Debian) -> None:
    debian.write("/tmp/strange/yaml.py", "raise SystemExit('somebody else's code')")
    debian.check(program, "--version", environment={"PYTHONPATH": "/tmp/strange"})


def test_everything_is_compiled_so_that_the_command_starts_fast(debian: Debian) -> None:
    def count(suffix: str) -> int:
        return len(debian.check("find", "/usr/lib/pvc", "-path", f"*/site-packages/*.{suffix}").splitlines())

    assert count("py") == count("pyc") > 500


def test_a_plugin_that_an_administrator_installs_is_found(debian: Debian) -> None:
    place = "/usr/local/lib/pvc/plugins/window-1.0.dist-info"
    debian.write(f"{place}/METADATA", "Metadata-Version: 2.1\nName: window\nVersion: 1.0\n")
    debian.write(f"{place}/entry_points.txt", "[pvc.plugins]\nwindow = window\n")
    try:
        listed = json.loads(debian.check("pvc", "plugin", "list", "--format", "json"))
    finally:
        debian.check("rm", "-r", "/usr/local/lib/pvc")
    assert ("window", "1.0") in {(row["name"], row["version"]) for row in listed}


def test_systemd_takes_the_unit_without_a_complaint(debian: Debian) -> None:
    done = debian.run("systemd-analyze", "verify", "--man=no", UNIT)
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


def test_the_service_could_do_little_harm(debian: Debian) -> None:
    debian.check("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", UNIT)


def test_the_service_is_enabled_and_waits_for_a_configuration(debian: Debian) -> None:
    assert debian.check("readlink", "/etc/systemd/system/multi-user.target.wants/pvcd.service").strip() == UNIT
    assert "ConditionPathExists=/etc/pvc/pvc.yaml\n" in debian.read(UNIT)


def test_bash_completes_commands(debian: Debian) -> None:
    script = (
        "source /usr/share/bash-completion/completions/pvc; COMP_WORDS=(pvc node fl) COMP_CWORD=2; "
        "$(complete -p pvc | sed 's/.*-F \\([^ ]*\\).*/\\1/') pvc; echo ${COMPREPLY[@]}"
    )
    assert debian.check("bash", "--norc", "-c", script) == "flush\n"


def test_fish_completes_commands(debian: Debian) -> None:
    offered = debian.check("fish", "-c", "complete --do-complete 'pvc node fl'", environment=FISH)
    assert [line.split("\t")[0] for line in offered.splitlines()] == ["flush"]


def test_zsh_completes_commands_at_the_first_tab(debian: Debian) -> None:
    typed = [
        ["% |# ", "autoload -Uz compinit; compinit -u -D; PS1='rea''dy> '\n"],
        ["ready> ", "pvc node fl\t"],
        ["ush ", "\x15exit\n"],  # clears the line; an interrupt may come before zsh is ready for it
    ]
    typist = [sys.executable, str(ROOT / "tests" / "lab" / "typist.py"), json.dumps(typed)]
    zsh = debian.inside("zsh", "-f", "-i", environment={"TERM": "dumb"})
    done = SystemProcesses().run([*typist, *zsh], timeout=PATIENCE * 2)
    assert "not seen" not in done.stdout, done.stdout


def test_the_daemon_refuses_a_bad_configuration(debian: Debian) -> None:
    debian.write("/tmp/bad.yaml", "node: hv1\nzookeper: 1\n")
    done = debian.run("pvcd", "--config", "/tmp/bad.yaml")
    assert done.code == BAD_CONFIGURATION
    assert "did you mean 'zookeeper'?" in done.stderr


def test_the_daemon_runs_with_the_system_read_only_and_keeps_systemd_informed(
    debian: Debian, zookeeper: ZooKeeperServer
) -> None:
    debian.write(
        "/etc/pvc/pvc.yaml", f"node: hv1\nzookeeper: {{hosts: ['{zookeeper.host}']}}\nroles: {{hypervisor: true}}\n"
    )
    debian.check("pvc", "init")
    name = f"pvc-packages-{zookeeper.port}"
    told: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}")
        systemd.settimeout(PATIENCE)

        def listen() -> None:
            with suppress(TimeoutError):
                while b"STOPPING=1" not in told:
                    told.append(systemd.recv(64))

        listener = ThreadRuntime().spawn("systemd", listen)  # all the time: what nobody fetches is soon refused
        environment = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "1000000"}
        daemon = debian.start("unshare", "--mount", "sh", "-ec", LIKE_ITS_SERVICE, environment=environment)
        try:
            until(lambda: told.count(b"WATCHDOG=1") >= 3 and b"READY=1" in told, lambda: f"systemd is told {told}")
            until(lambda: "libvirt" in debian.check("pvc", "node", "info", "hv1"), lambda: "no word of libvirt")
        finally:
            debian.check("sh", "-c", "kill -TERM $(cat /tmp/pvcd.pid)")
            code = daemon.wait(PATIENCE)
        assert listener.join(PATIENCE * 2) and b"STOPPING=1" in told, told
    debian.check("rm", "/etc/pvc/pvc.yaml")
    log = (debian.packages / "output.log").read_text()
    assert code == 0, log
    assert "VMs keep running" in log
    assert "ModuleNotFoundError" not in log and "Read-only" not in log
