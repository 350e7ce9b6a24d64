"""pvc.yaml and the files of conf.d as one configuration: order, merging, and which file and line is blamed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.core.config.document import Document, parse
from pvc.core.config.explain import explained
from pvc.core.config.layers import MOST_FILES, collect, laid_over, unread
from pvc.core.config.problems import ConfigError
from pvc.core.config.validation import validate
from pvc.plugins.hypervisor.schema import SCHEMA


class Directory:
    """A directory of configuration files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.main = path / "pvc.yaml"
        self.folder = path / "conf.d"

    def write(self, main: str | None = None, **beside: str) -> None:
        """Write the main file, and files of conf.d by name without .yaml."""
        if main is not None:
            self.main.write_text(main)
        for name, text in beside.items():
            self.folder.mkdir(exist_ok=True)
            (self.folder / f"{name}.yaml").write_text(text)

    def read(self) -> Document:
        return collect(None, {}, self.main)

    def complaints(self) -> list[str]:
        """What is wrong, with the directory left out of it."""
        with pytest.raises(ConfigError) as caught:
            validate(self.read(), {"hypervisor": SCHEMA}, ("hypervisor",), host_name="x")
        return str(caught.value).replace(f"{self.path}/", "").splitlines()


@pytest.fixture
def here(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_later_files_win_mappings_are_merged_and_lists_replaced(here: Directory) -> None:
    here.write(
        "node: a\nzookeeper:\n  hosts: [x, y]\n  root: /one\nhypervisor:\n  migration: {bandwidth: 1, parallel: 4}\n",
        b10="zookeeper:\n  root: /two\n",
        a20="zookeeper:\n  root: /three\n  hosts: [z]\nhypervisor: {migration: {bandwidth: 9}}\n",
    )
    document = here.read()
    assert document.values == {
        "node": "a",
        "zookeeper": {"hosts": ["z"], "root": "/two"},
        "hypervisor": {"migration": {"bandwidth": 9, "parallel": 4}},
    }
    assert [Path(file).name for file in document.files] == ["pvc.yaml", "a20.yaml", "b10.yaml"]
    assert document.path == str(here.main)


def test_what_one_file_denies_another_cannot_allow_by_denying_something_else(here: Directory) -> None:
    here.write("node: a\ndeny_plugins: [gold]\n", more="deny_plugins:\n  - silver\n  - 3\n")
    document = here.read()
    assert document.values["deny_plugins"] == ["gold", "silver", 3]
    assert [document.place(("deny_plugins", index)) for index in range(3)] == [
        (str(here.main), 2),
        (str(here.folder / "more.yaml"), 2),
        (str(here.folder / "more.yaml"), 3),
    ]
    assert here.complaints() == ["conf.d/more.yaml:3: deny_plugins[2]: found 3 (number); allowed: text"]


def test_every_key_knows_its_own_file_and_line(here: Directory) -> None:
    here.write("node: a\nzookeeper:\n  hosts: [x, y, z]\n  root: /one\n", more="\n\nzookeeper:\n  hosts:\n  - u\n")
    document = here.read()
    more = str(here.folder / "more.yaml")
    assert document.place(("node",)) == (str(here.main), 1)
    assert document.place(("zookeeper", "root")) == (str(here.main), 4)
    assert document.place(("zookeeper", "hosts")) == (more, 4)
    assert document.place(("zookeeper", "hosts", 0)) == (more, 5)
    assert document.origin(("zookeeper", "hosts", 2)) is None
    assert document.place(("nothing",)) == (str(here.main), None)


def test_the_origin_of_every_value_is_explained(here: Directory) -> None:
    here.write("node: a\nzookeeper:\n  root: /one\n", more="zookeeper:\n  hosts: [u]\n")
    document = here.read()
    config = validate(document, {}, (), host_name="x")
    told = {each.key: each.origin for each in explained(config, document, {("zookeeper", "root"): "the option"})}
    assert told["node"] == f"{here.main}:1"
    assert told["zookeeper.hosts"] == f"{here.folder}/more.yaml:2"
    assert told["zookeeper.root"] == "the option"
    assert told["zookeeper.user"] == "default"
    unnamed = validate(Document(), {}, (), host_name="x")
    assert explained(unnamed, Document(), {})[0].origin == "default, the short host name"


def test_problems_name_the_file_they_are_in_and_come_in_the_order_of_reading(here: Directory) -> None:
    here.write(
        "zookeeper:\n  session_timeout: soon\nhypervisor:\n  memory: 0\n",
        a="\nhypervisor:\n  placement:\n    selector: men\n",
        b="hypervisor: {uri: 5}\nnod: x\n",
    )
    assert [line.split(": ")[:2] for line in here.complaints()] == [
        ["pvc.yaml:2", "zookeeper.session_timeout"],
        ["pvc.yaml:4", "hypervisor.memory"],
        ["conf.d/a.yaml:4", "hypervisor.placement.selector"],
        ["conf.d/b.yaml:1", "hypervisor.uri"],
        ["conf.d/b.yaml:2", "nod"],
    ]


def test_a_key_twice_in_one_file_is_wrong_and_in_two_files_an_override(here: Directory) -> None:
    here.write("node: a\n", a="node: b\n")
    assert here.read().values == {"node": "b"}
    here.write(b="address: x\naddress: y\n")
    assert here.complaints() == ["conf.d/b.yaml:2: address: this key appears twice, first in line 1; keep one of them"]


def test_a_wrong_value_that_a_later_file_replaces_is_no_problem(here: Directory) -> None:
    here.write("node: A\nzookeeper: 5\n", a="node: b\nzookeeper: {root: /x}\n")
    assert validate(here.read(), {}, (), host_name="x").zookeeper.root == "/x"


def test_a_heading_with_nothing_below_it_takes_nothing_away(here: Directory) -> None:
    here.write("zookeeper: {root: /x}\n", a="zookeeper:\n  #root: /y\n")
    assert validate(here.read(), {}, (), host_name="x").zookeeper.root == "/x"


def test_everything_that_cannot_be_read_is_told_at_once(here: Directory) -> None:
    here.write("a: [\n", b="x: {\n", c="node: a\n---\n", d="node: a\n")
    (here.folder / "e.yaml").mkdir()
    (here.folder / "f.yaml").symlink_to(here.path / "gone")
    os.mkfifo(here.folder / "g.yaml")
    with pytest.raises(ConfigError) as caught:
        here.read()
    assert sorted(Path(problem.file).name for problem in caught.value.problems) == [
        "b.yaml",
        "c.yaml",
        "e.yaml",
        "f.yaml",
        "g.yaml",
        "pvc.yaml",
    ]


def test_only_yaml_files_that_are_not_hidden_are_read_and_the_others_can_be_named(here: Directory) -> None:
    here.write("node: a\n", a="address: x\n")
    for name in (".hidden.yaml", "old.yaml~", "b.yml", "c.yaml.dpkg-old"):
        (here.folder / name).write_text("not: read\n")
    assert here.read().values == {"node": "a", "address": "x"}
    assert unread(here.main) == ["b.yml", "c.yaml.dpkg-old", "old.yaml~"]


def test_the_files_beside_count_without_a_main_file_too(here: Directory) -> None:
    here.write(a="node: b\n")
    document = here.read()
    assert (document.values, document.files) == ({"node": "b"}, (str(here.folder / "a.yaml"),))


def test_the_files_beside_the_file_that_was_asked_for_count(here: Directory, tmp_path: Path) -> None:
    here.write("node: a\n", a="node: b\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.yaml").write_text("node: c\n")
    assert collect(str(elsewhere / "mine.yaml"), {}, here.main).values == {"node": "c"}


def test_conf_d_that_is_no_directory_or_holds_too_much_is_told(here: Directory) -> None:
    here.write("node: a\n")
    here.folder.write_text("")
    with pytest.raises(ConfigError, match=r"conf\.d: cannot be read: Not a directory"):
        here.read()
    here.folder.unlink()
    here.write(**{f"n{number}": "" for number in range(MOST_FILES + 1)})
    with pytest.raises(ConfigError, match=f"more than {MOST_FILES} files"):
        here.read()


NAMES = st.sampled_from("abc")
SCALARS = st.integers(0, 3) | st.none() | st.lists(st.integers(0, 2), max_size=2)
TREES = st.dictionaries(
    NAMES, st.recursive(SCALARS, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=6), max_size=3
)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """What the merge has to give, without any lines."""
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        if isinstance(old, dict) and (value is None or isinstance(value, dict)):
            result[name] = merged(old, value or {})
        else:
            result[name] = value
    return result


def every_key(values: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    parts = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return {key for part, inner in parts for key in {(*path, part), *every_key(inner, (*path, part))}}


@given(st.lists(TREES, min_size=2, max_size=4))
def test_any_layers_merge_as_told_and_every_key_has_a_line_in_the_file_it_is_from(trees: list[dict[str, Any]]) -> None:
    import json

    documents = [parse(json.dumps(tree), f"f{number}") for number, tree in enumerate(trees)]
    document, expected = documents[0], trees[0]
    for above, tree in zip(documents[1:], trees[1:], strict=True):
        document, expected = laid_over(document, above), merged(expected, tree)
    assert document.values == expected
    assert set(document.lines) == every_key(expected)
    assert [dict(each.values) for each in documents] == trees
