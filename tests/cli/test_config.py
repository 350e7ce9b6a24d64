"""`pvc config`: what it prints, where it prints it, and its exit codes."""

import json
from pathlib import Path

import pytest

from tests.cli.test_main import pvc

MAIN = """\
node: hv1
zookeeper:
  hosts: [a, b]
  user: pvc
  password: {file: SECRET}
roles: {hypervisor: true}
storage: {anything: goes}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "10-more.yaml").write_text("hypervisor: {migration: {bandwidth: 50}}\n")
    (tmp_path / "conf.d" / "old.yml").write_text("x: y\n")
    path = tmp_path / "pvc.yaml"
    path.write_text(MAIN.replace("SECRET", str(secret)))
    return path


def test_check_says_which_files_were_read_and_what_was_passed_over(file: Path) -> None:
    done = pvc("config", "check", str(file))
    assert done.code == 0
    assert done.stdout.splitlines()[:2] == [f"read {file}", f"read {file.parent}/conf.d/10-more.yaml"]
    assert f"{file}: in order; node hv1, plugins hypervisor" in done.stdout
    assert done.stderr.splitlines() == [
        f"pvc: {file}:7: storage: not read, because roles.storage is off",
        "pvc: conf.d/old.yml: not read, because its name does not end in .yaml",
    ]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A directory in which a plugin `lamp` is installed that cannot be imported, and `bulb` that has no settings."""
    place = tmp_path / "plugins"
    for name, code in (("lamp", "import no_such_socket"), ("bulb", "")):
        information = place / f"{name}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[pvc.plugins]\n{name} = pvc_{name}\n")
        (place / f"pvc_{name}.py").write_text(code)
    return place


def test_check_fails_for_a_plugin_that_pvcd_would_leave_out_and_says_why_once(file: Path, broken: Path) -> None:
    file.write_text("node: hv1\nplugins: {lamp: true, bulb: true}\nlamp: {a: 1}\nbulb: {a: 1}\n")
    for words in (("config", "check", str(file)), ("--config", str(file), "config", "check")):
        done = pvc(*words, PYTHONPATH=str(broken))
        assert done.code == 1
        assert done.stderr.count("No module named 'no_such_socket'") == 1
        assert "Traceback" not in done.stderr
        assert f"{file}: pvcd would run without lamp, and refuse every flush of this node" in done.stderr
        assert f"{file}:3: lamp: not read, because the plugin cannot be loaded" in done.stderr
        assert f"{file}:4: bulb: not read, because the plugin has no settings" in done.stderr
    assert pvc("config", "show", str(file), PYTHONPATH=str(broken)).code == 0


def test_show_has_what_is_denied_and_check_says_whose_section_is_not_read_for_that(file: Path) -> None:
    file.write_text("node: hv1\ndeny_plugins: [flushlock]\nflushlock: {concurrent: 2}\n")
    assert "deny_plugins:\n- flushlock" in pvc("config", "show", str(file)).stdout
    assert f"{file}:3: flushlock: not read, because deny_plugins names it" in pvc("config", "check", str(file)).stderr


def test_check_fails_and_names_the_file_that_is_wrong(file: Path) -> None:
    (file.parent / "conf.d" / "20-wrong.yaml").write_text("\nnod: hv2\n")
    for words in (("config", "check", str(file)), ("--config", str(file), "config", "check")):
        done = pvc(*words)
        assert (done.code, done.stdout) == (1, "")
        assert done.stderr == f"pvc: {file.parent}/conf.d/20-wrong.yaml:2: nod: unknown key; did you mean 'node'?\n"


def test_check_of_a_file_in_use_that_cannot_be_read_at_all_fails(file: Path) -> None:
    file.write_text("node: [\n")
    done = pvc("--config", str(file), "config", "check")
    assert done.code == 1 and f"{file}:2: not valid YAML" in done.stderr


def test_check_on_the_node_reads_the_secrets_and_shows_none(file: Path) -> None:
    done = pvc("config", "check", "--node", str(file))
    assert done.code == 0 and "hunter2" not in done.stdout + done.stderr
    (file.parent / "secret").chmod(0o644)
    assert pvc("config", "check", str(file)).code == 0
    done = pvc("config", "check", "--node", str(file))
    assert done.code == 1
    assert f"{file}:5: zookeeper.password: {file.parent}/secret is open to every user of this host" in done.stderr
    assert "chmod o=" in done.stderr and "hunter2" not in done.stderr


def test_show_gives_the_origin_of_every_value(file: Path) -> None:
    done = pvc("--config", str(file), "config", "show", "--origin", "--format", "json", PVC_ZOOKEEPER="c:1,d:2/other")
    rows = {row["key"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)}
    assert rows["node"] == ("hv1", f"{file}:1")
    assert rows["address"] == (None, "default")
    assert rows["hypervisor.migration.bandwidth"] == (50, f"{file.parent}/conf.d/10-more.yaml:1")
    assert rows["zookeeper.hosts"] == (["c:1", "d:2"], "environment PVC_ZOOKEEPER")
    assert rows["zookeeper.root"] == ("/other", "environment PVC_ZOOKEEPER")
    assert rows["zookeeper.password.file"] == (f"{file.parent}/secret", f"{file}:5")
    assert "hunter2" not in done.stdout
    done = pvc("--config", str(file), "--zookeeper", "e:1", "config", "show", "--origin")
    hosts = next(line for line in done.stdout.splitlines() if line.startswith("zookeeper.hosts"))
    assert hosts.split("  ")[-1].strip() == "option --zookeeper" and '["e:1"]' in hosts


def test_the_reference_is_tables_or_a_json_schema() -> None:
    done = pvc("config", "reference")
    assert done.stdout.startswith("## Top level\n") and "| `hypervisor.migration.bandwidth` | null |" in done.stdout
    schema = json.loads(pvc("config", "reference", "--format", "json-schema").stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "bandwidth" in schema["properties"]["hypervisor"]["properties"]["migration"]["properties"]
