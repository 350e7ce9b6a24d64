"""From YAML text to settings or to every problem at once."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pvc.core.config.document import parse
from pvc.core.config.explain import as_mapping
from pvc.core.config.problems import ConfigError
from pvc.core.config.schema import PluginSchemaError
from pvc.core.config.settings import Config, ZooKeeperSettings
from pvc.core.config.switches import enabled_plugins
from pvc.core.config.validation import validate

KNOWN = ("hypervisor", "storage", "flushlock", "consolelog", "gold")

GOLD: Mapping[str, Any] = {
    "uri": {
        "type": "string",
        "default": "gold://{node}/x",
        "check_with": "uri_template",
        "meta": {"placeholders": ("node",)},
    },
    "memory": {"type": "integer", "coerce": "mebibytes", "min": 1, "default": 512, "meta": {"unit": "MiB"}},
    "buffer": {"type": "integer", "coerce": "octets", "default": 4096},
    "interval": {"type": "number", "min": 0.1, "max": 60, "default": 0.5, "meta": {"unit": "s"}},
    "policy": {"type": "string", "allowed": ["live", "shutdown", "keep"], "default": "live"},
    "tag": {"type": "string", "regex": "[a-z]+", "default": "a", "nullable": True},
    "features": {"type": "list", "allowed": ["a", "b"], "default": []},
    "migration": {
        "type": "dict",
        "schema": {
            "bandwidth": {"type": "integer", "min": 0, "default": 0},
            "steps": {"type": "list", "schema": {"type": "integer"}, "maxlength": 3, "default": [1]},
        },
    },
    "disks": {
        "type": "list",
        "default": [],
        "schema": {
            "type": "dict",
            "schema": {"name": {"type": "string", "required": True}, "size": {"type": "integer", "default": 1}},
        },
    },
    "limits": {
        "type": "dict",
        "default": {},
        "keysrules": {"type": "string", "regex": "[a-z]+"},
        "valuesrules": {"type": "integer"},
    },
    "either": {"anyof": [{"type": "integer", "min": 5}, {"type": "string", "allowed": ["all"]}], "default": "all"},
    "pair": {"type": "list", "items": [{"type": "string"}, {"type": "integer"}], "default": ["a", 1]},
    "cert": {"type": "string", "dependencies": "key", "excludes": "plain"},
    "key": {"type": "string", "empty": False},
    "plain": {"type": "boolean"},
    "groups": {"type": "list", "contains": ["x"], "default": ["x"]},
    "never": {"type": "string", "forbidden": ["root"], "default": "pvc"},
}


def checked(text: str, **schemas: Mapping[str, Any]) -> Config:
    return validate(parse(text, "pvc.yaml"), schemas, KNOWN, host_name="hv9.example.org")


def complaints(text: str, **schemas: Mapping[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        checked(text, **schemas)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(caught.value.problems)
    return lines


def complaint(text: str, **schemas: Mapping[str, Any]) -> str:
    (line,) = complaints(text, **schemas)
    return line


def gold(text: str) -> str:
    """The one complaint about a line of the section `gold`."""
    line = complaint(f"gold:\n  {text}\n", gold=GOLD)
    assert line.startswith("pvc.yaml:2: gold."), line
    return line.removeprefix("pvc.yaml:2: gold.")


def test_an_empty_file_gives_all_defaults() -> None:
    config = checked("", gold=GOLD)
    assert config.node == "hv9"
    assert config.address is None
    assert config.zookeeper == ZooKeeperSettings()
    assert config.roles == {"hypervisor": True, "networking": False, "storage": False}
    assert config.plugins == {"flushlock": True, "consolelog": True, "gold": False}
    assert config.section("gold")["migration"] == {"bandwidth": 0, "steps": [1]}
    assert config.section("gold")["memory"] == 512
    assert config.enabled() == ("hypervisor", "flushlock", "consolelog")


def test_defaults_are_not_shared_between_configurations() -> None:
    checked("", gold=GOLD).section("gold")["disks"].append("x")
    assert checked("", gold=GOLD).section("gold")["disks"] == []


def test_all_problems_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = """\
node: HV1
zookeper: {}
zookeeper:
  hosts: []
  root: pvc
roles:
  networking: "False"
  hypervisor: 1
plugins: {flushlok: true}
gold:
  migration:
    bandwith: 5
  interval: "5"
node: hv2
"""
    assert complaints(text, gold=GOLD) == [
        'pvc.yaml:1: node: found "HV1" (text); use lower-case letters, digits and inner dashes, 63 characters at most',
        "pvc.yaml:2: zookeper: unknown key; did you mean 'zookeeper'?",
        "pvc.yaml:4: zookeeper.hosts: found an empty list; allowed: a list of: "
        'text such as "hv1:2181", "10.0.0.1" or "[fd00::1]:2181" (not empty)',
        'pvc.yaml:5: zookeeper.root: found "pvc" (text); '
        "use an absolute path below the top, such as /pvc, without a slash at its end",
        'pvc.yaml:7: roles.networking: found "False" (text); allowed: true or false without quotes',
        "pvc.yaml:8: roles.hypervisor: found 1 (number); allowed: true or false without quotes",
        "pvc.yaml:9: plugins.flushlok: no such plugin is installed; allowed: consolelog, flushlock, gold; "
        "did you mean 'flushlock'?",
        "pvc.yaml:12: gold.migration.bandwith: unknown key; did you mean 'bandwidth'?",
        'pvc.yaml:13: gold.interval: found "5" (text); allowed: a number from 0.1 to 60 s; '
        "write the number without quotes",
        "pvc.yaml:14: node: this key appears twice, first in line 1; keep one of them",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("interval: true", "interval: found true (boolean); allowed: a number from 0.1 to 60 s"),
        ("interval: 61", "interval: found 61 (number); allowed: a number from 0.1 to 60 s"),
        ("interval: .nan", 'interval: found ".nan" (text); allowed: a number from 0.1 to 60 s'),
        ("interval:", "interval: found nothing (null); allowed: a number from 0.1 to 60 s"),
        ("interval: [1]", "interval: found a list; allowed: a number from 0.1 to 60 s"),
        ("memory: true", "found true (boolean)"),
        ("memory: 0", "memory: found 0 (number)"),
        ("memory: 1.5", "memory: found 1.5 (number); allowed: a whole number of MiB, or text"),
        ('memory: "512"', "write a number without quotes"),
        ("memory: 512MB", "one of the units"),
        ("memory: 512K", "no whole number of MiB"),
        ("policy: lve", "found \"lve\" (text); allowed: one of live, shutdown, keep; did you mean 'live'?"),
        ("features: [a, c]", "features: found a list; allowed: a list of a, b"),
        ("features: [{a: 1}]", "features: found a list; allowed: a list of a, b"),
        ('tag: "abc\\n"', 'tag: found "abc\\n" (text); allowed: text matching [a-z]+'),
        ("migration: [1]", "migration: found a list; allowed: a mapping (key: value)"),
        ("migration: 5", "migration: found 5 (number); allowed: a mapping (key: value)"),
        ("migration: {steps: {type: string}}", "migration.steps: found a mapping; allowed: a list of: a whole number"),
        ("migration: {steps: [1, x]}", 'migration.steps[1]: found "x" (text); allowed: a whole number'),
        ("migration: {steps: [1, 2, 3, 4]}", "migration.steps: found a list; allowed: a list of: a whole number (at"),
        ("disks: [{size: 2}]", "disks[0].name: a required key is missing; allowed: text"),
        ("disks: [{name: a, sise: 2}]", "disks[0].sise: unknown key; did you mean 'size'?"),
        ("disks: {name: a}", "disks: found a mapping; allowed: a list of: a mapping"),
        ("disks: [[]]", "disks[0]: found an empty list; allowed: a mapping"),
        ("limits: {a: x}", 'limits.a: found "x" (text); allowed: a whole number'),
        ("limits: {A: 1}", 'limits.A: found "A" (text); allowed: text matching [a-z]+'),
        ("either: 3", "either: found 3 (number); allowed: a whole number of at least 5 or one of all"),
        ("pair: [a, b]", 'pair[1]: found "b" (text); allowed: a whole number'),
        ("pair: [a]", "pair: found a list; allowed: a list"),
        ("cert: a", 'cert: found "a" (text); it needs key as well'),
        ("{cert: a, key: b, plain: true}", 'cert: found "a" (text); it cannot stand beside plain'),
        ('key: ""', 'key: found "" (text); allowed: text (not empty)'),
        ("groups: [y]", "groups: found a list; allowed: a list with x"),
        ("never: root", 'never: found "root" (text); allowed: text not root'),
        ("uri: word", "use a URI"),
        ("uri: a://{address}", "known placeholders are {node}"),
        ("uri: a://{node.x}", "known placeholders are {node}"),
        ("uri: a://{node", "a brace has no partner"),
        ("unlike_any_other: 1", "unlike_any_other: unknown key; allowed: buffer, cert"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed(text: str, message: str) -> None:
    assert message in gold(text)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("memory: 1024", "memory", 1024),
        ("memory: 512M", "memory", 512),
        ("memory: 4GiB", "memory", 4096),
        ("memory: 2 TiB", "memory", 2 << 20),
        ("buffer: 64K", "buffer", 65536),
        ("buffer: 10", "buffer", 10),
        ("interval: 2", "interval", 2),
        ("tag:", "tag", None),
        ("migration:", "migration", {"bandwidth": 0, "steps": [1]}),
        ("migration: {steps: []}", "migration", {"bandwidth": 0, "steps": []}),
        ("disks: [{name: a}]", "disks", [{"name": "a", "size": 1}]),
        ("limits: {a: 1}", "limits", {"a": 1}),
        ("either: 5", "either", 5),
    ],
)
def test_a_right_value_is_taken(text: str, key: str, value: object) -> None:
    assert checked(f"gold:\n  {text}\n", gold=GOLD).section("gold")[key] == value


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("hv1", "hv1:2181"),
        ("hv1.example.org:99", "hv1.example.org:99"),
        ("10.0.0.1", "10.0.0.1:2181"),
        ("[fd00::1]", "[fd00::1]:2181"),
        ("[fd00::1]:65535", "[fd00::1]:65535"),
    ],
)
def test_a_zookeeper_host_has_a_port_in_the_end(host: str, taken: str) -> None:
    assert checked(f"zookeeper: {{hosts: ['{host}']}}").zookeeper.hosts == (taken,)


@pytest.mark.parametrize(
    "host",
    ["", ":2181", "hv1:", "hv1:0", "hv1:65536", "fd00::1", "[hv1]:1", "[]:1", "a b", "hv1:1x", "hv1:2181\\n", "a,b"],
)
def test_a_bad_zookeeper_host_is_refused_at_its_line(host: str) -> None:
    told = complaint(f'zookeeper:\n  hosts:\n  - hv1\n  - "{host}"\n')
    assert told.startswith("pvc.yaml:4: zookeeper.hosts[1]: found ")
    assert complaint("zookeeper:\n  hosts: [2181]\n").startswith("pvc.yaml:2: zookeeper.hosts[0]: found 2181 (number)")


@pytest.mark.parametrize("root", ["/", "pvc", "/a/", "//a", "/a/../b", "/a\\n", ""])
def test_a_root_that_is_no_absolute_path_is_refused(root: str) -> None:
    assert "use an absolute path" in complaint(f'zookeeper: {{root: "{root}"}}')


@pytest.mark.parametrize("name", ["-a", "a-", "a_b", "a.b", "", "a\\n", "a" * 64, "é"])
def test_a_node_name_that_does_not_fit_the_tree_is_refused(name: str) -> None:
    assert complaint(f'node: "{name}"').startswith("pvc.yaml:1: node: found")


@pytest.mark.parametrize(
    ("host_name", "node"),
    [("hv1", "hv1"), ("HV1.example.org", "hv1"), ("my_host", "my-host"), ("", "localhost"), ("a" * 99, "a" * 63)],
)
def test_the_default_name_is_the_short_host_name_made_to_fit(host_name: str, node: str) -> None:
    assert validate(parse("", "f"), {}, KNOWN, host_name=host_name).node == node


@given(st.text())
def test_the_default_name_is_always_a_name_that_may_be_configured(host_name: str) -> None:
    node = validate(parse("", "f"), {}, KNOWN, host_name=host_name).node
    assert checked(f'node: "{node}"').node == node


def test_credentials_come_in_pairs() -> None:
    assert "set both user and password_file" in complaint("zookeeper:\n  user: pvc\n")
    both = checked("zookeeper: {user: pvc, password_file: /etc/pvc/secret}").zookeeper
    assert (both.user, both.password_file) == ("pvc", "/etc/pvc/secret")
    assert "zookeeper.user" in complaint("zookeeper: {user: 'a:b', password_file: /etc/pvc/secret}")


def test_the_section_of_a_plugin_that_is_off_is_not_read() -> None:
    config = checked("roles: {hypervisor: true}\nstorage: [anything, {at: all}]\ngold: {memory: wrong}\n")
    assert config.sections == {}
    assert complaint("silver: {}\n") == (
        "pvc.yaml:1: silver: unknown key; allowed: address, deny_plugins, node, plugins, roles, zookeeper"
    )


def test_a_section_with_nothing_below_its_heading_has_its_defaults() -> None:
    assert as_mapping(checked("gold:\nroles:\n", gold=GOLD)) == as_mapping(checked("", gold=GOLD))


def test_a_message_is_one_line_that_cannot_steer_a_terminal() -> None:
    assert complaint('"a\\x9b\\x85\\u2028": 1\nnode: hv1\n').startswith('pvc.yaml:1: "a\\x9b\\x85\\u2028": unknown key')
    assert 'found "\\u001b[2J\\x7f" (text)' in complaint('node: "\\e[2J\\x7f"')


def test_a_role_without_its_plugin_and_a_role_among_plugins_are_refused() -> None:
    assert complaint("roles:\n  networking: true\n") == (
        "pvc.yaml:2: roles.networking: this role is not installed; install the plugin networking, "
        "or set roles.networking: false"
    )
    assert "it is a role: set roles.storage" in complaint("plugins: {storage: true}")


def test_a_denied_plugin_is_off_whatever_else_is_said() -> None:
    config = checked("deny_plugins: [gold, not_installed]\nplugins: {gold: true}\n")
    assert (config.plugins["gold"], config.enabled()) == (False, ("hypervisor", "flushlock", "consolelog"))


def test_enabled_plugins_are_those_plainly_on_and_installed() -> None:
    text = (
        "roles: {storage: true, networking: true, hypervisor: 'true'}\nplugins: {gold: yes, consolelog: no, lost: true}"
    )
    assert enabled_plugins(parse(text, "f"), KNOWN) == ("storage", "gold", "flushlock")
    assert enabled_plugins(parse("roles: [x]\nplugins: {hypervisor: true}\n", "f"), ("hypervisor", "gold")) == (
        "hypervisor",
    )
    assert enabled_plugins(parse("deny_plugins: [flushlock, gold]\nplugins: {gold: true}", "f"), KNOWN) == (
        "hypervisor",
        "consolelog",
    )
    assert enabled_plugins(parse("", "f"), KNOWN) == ("hypervisor", "flushlock", "consolelog")


@pytest.mark.parametrize(
    ("section", "schema"),
    [
        ("node", {}),
        ("gold", {"a": {"type": "no-such-type"}}),
        ("gold", {"a": {"coerce": "no_such_coercion"}}),
        ("gold", {"a": {"check_with": "no_such_check"}}),
        ("gold", {"a": {"no_such_rule": 1}}),
    ],
)
def test_a_faulty_schema_is_told_with_the_name_of_its_plugin(section: str, schema: Mapping[str, Any]) -> None:
    with pytest.raises(PluginSchemaError, match=f"plugin {section}: .* set plugins.{section} to false"):
        checked("", **{section: schema})


def test_a_plugin_without_settings_has_an_empty_section() -> None:
    assert checked("gold: {}\n", gold={}).section("gold") == {}
    assert complaint("gold: {a: 1}\n", gold={}) == "pvc.yaml:1: gold.a: unknown key; allowed: no keys at all"


def test_what_is_shown_reads_back_as_the_same_settings() -> None:
    config = checked("node: a\ngold: {memory: 4GiB, disks: [{name: x}]}\nzookeeper: {hosts: [b]}", gold=GOLD)
    shown = yaml.safe_dump(as_mapping(config), sort_keys=False)
    assert checked(shown, gold=GOLD) == config


def answers(text: str) -> None:
    """A configuration, or an error whose every line names the file; never anything else."""
    try:
        config = checked(text, gold=GOLD)
    except ConfigError as error:
        assert error.problems
        assert all(line.startswith("pvc.yaml") for line in str(error).splitlines())
        str(error).encode()
    else:
        assert isinstance(config, Config)
        str(yaml.safe_dump(as_mapping(config)))


MARKS = tuple(":-[]{},!|>'\"\\#?~=@`é\n\t\r\x00\x85\ufeff ")
PHRASES = (
    "\n- ",
    "\n  ",
    ": ",
    "a: ",
    "&a ",
    "*a",
    "!!int ",
    "|\n",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "<<: ",
    "\ngold: ",
)
WORDS = ("node", "zookeeper", "hosts", "roles", "disks", "0x", "1", "2001-01-99", "\\ud800", "\\UFFFFFFFF")
YAML_BITS = st.sampled_from((*MARKS, *PHRASES, *WORDS))


@given(st.one_of(st.text(), st.lists(YAML_BITS, max_size=25).map("".join)))
def test_any_text_is_a_configuration_or_a_located_error(text: str) -> None:
    answers(text)


KEYS = st.one_of(
    st.sampled_from(["node", "address", "zookeeper", "hosts", "root", "user", "roles", "hypervisor", "plugins", *GOLD]),
    st.sampled_from(["gold", "flushlock", "bandwidth", "steps", "name", "type", "schema"]),
    st.text(max_size=4),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
SECTION = st.fixed_dictionaries({}, optional=dict.fromkeys(GOLD, VALUES))
DOCUMENTS = st.one_of(
    st.dictionaries(KEYS, VALUES, max_size=5),
    st.fixed_dictionaries({"gold": SECTION}, optional={"zookeeper": VALUES, "roles": VALUES, "plugins": VALUES}),
)


@given(DOCUMENTS)
def test_any_structure_is_a_configuration_or_a_located_error(values: dict[str, Any]) -> None:
    answers(yaml.safe_dump(values))
