"""Reading YAML: bounded, located, without surprises; and where the file is looked for."""

from pathlib import Path

import pytest

from pvc.core.config.document import (
    DEEPEST,
    LARGEST_FILE,
    MOST_VALUES,
    Document,
    find_config,
    parse,
    read,
)
from pvc.core.config.problems import ConfigError


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "pvc.yaml")
    return str(caught.value)


def test_every_key_and_list_entry_has_its_line() -> None:
    document = parse("a:\n  b: 1\n\n  c:\n    - x\n    - y\nd: {e: 2,\n  f: 3}\n", "pvc.yaml")
    assert document.values == {"a": {"b": 1, "c": ["x", "y"]}, "d": {"e": 2, "f": 3}}
    assert document.lines == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 4,
        ("a", "c", 0): 5,
        ("a", "c", 1): 6,
        ("d",): 7,
        ("d", "e"): 7,
        ("d", "f"): 8,
    }
    assert document.line(("a", "missing")) == 1
    assert document.line(("missing",)) is None


@pytest.mark.parametrize("text", ["", "# only remarks\n", "---\n", "~\n"])
def test_an_empty_file_is_an_empty_document(text: str) -> None:
    assert parse(text, "pvc.yaml").values == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "pvc.yaml:1: not a mapping"),
        ("\nword\n", "pvc.yaml:2: not a mapping"),
        ("a: 1\n---\nb: 2\n", "pvc.yaml:2: a second document"),
        ("a:\n\tb: 1\n", "pvc.yaml:2: a tab; indent with spaces"),
        ("a: 1\nb: [1,\n", "pvc.yaml:3: not valid YAML"),
        ("a: 1\nb: 'x\n", "pvc.yaml:3: not valid YAML"),
        ("a: 1\n b: 2\n", "pvc.yaml:2: not valid YAML"),
        ("a: 1\nb: !!python/object:os.system x\n", "pvc.yaml:2: a tag (!)"),
        ("a: 1\nb: !secret x\n", "pvc.yaml:2: a tag (!)"),
        ("a: !!str 1\n", "pvc.yaml:1: a tag (!)"),
        ("a: 1\nb: \x07\n", "pvc.yaml:2: a character that text may not contain"),
        ("a: 1\nb: *nowhere\n", "pvc.yaml:2: an alias (*) whose anchor (&) is nowhere above"),
        ("a: &a\n  b: *a\n", "pvc.yaml:1: an alias (*) inside of what it stands for"),
        ('a: "\\UFFFFFFFF"\n', "pvc.yaml:1: an escape (\\) in quoted text that stands for no character"),
    ],
)
def test_what_is_not_one_plain_mapping_is_refused_with_its_line(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_deep_nesting_is_refused_before_it_costs_anything() -> None:
    assert "nested deeper" in refusal("a: " + "[" * 100_000)
    assert "nested deeper" in refusal("a: " + "{a: " * 100_000)
    block = "\n".join(" " * depth + "a:" for depth in range(DEEPEST + 5))
    assert f"pvc.yaml:{DEEPEST}: nested deeper" in refusal(block)


def test_an_alias_bomb_is_refused() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases (*) included" in refusal("\n".join(lines))


def test_an_ordinary_alias_stands_for_its_value() -> None:
    assert parse("a: &x [1, 2]\nb: *x\n", "f").values == {"a": [1, 2], "b": [1, 2]}


def test_too_many_values_are_refused() -> None:
    assert f"more than {MOST_VALUES} values" in refusal("a: [" + "1," * (MOST_VALUES + 1) + "]")


def test_a_key_that_appears_twice_is_a_problem_that_names_both_lines() -> None:
    document = parse("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "pvc.yaml")
    assert [str(problem) for problem in document.problems] == [
        "pvc.yaml:4: b.c: this key appears twice, first in line 3; keep one of them",
        "pvc.yaml:5: a: this key appears twice, first in line 1; keep one of them",
    ]
    assert document.values == {"a": 1, "b": {"c": 1}}


def test_a_key_is_text_as_it_is_written() -> None:
    assert parse("on: 1\n1: 2\nno: 3\n<<: 4\n", "f").values == {"on": 1, "1": 2, "no": 3, "<<": 4}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("off", False),
        ('"yes"', "yes"),
        ("1_000", 1000),
        ("0.5", 0.5),
        ('"5"', "5"),
        ("~", None),
        ("12:30", "12:30"),
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("2024-02-30", "2024-02-30"),
        ("=", "="),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("9" * 30, "9" * 30),
        ("9" * 5000, "9" * 5000),
        ("0x_", "0x_"),
    ],
)
def test_a_value_is_a_number_a_switch_or_text(text: str, value: object) -> None:
    read_value = parse(f"a: {text}\n", "f").values["a"]
    assert read_value == value
    assert type(read_value) is type(value)


def test_a_surrogate_escape_is_a_problem_and_not_a_crash_later() -> None:
    (problem,) = parse('a: 1\nb: "\\ud800"\n', "f").problems
    assert str(problem).startswith("f:2: b: half of a character")


def test_a_key_that_is_a_list_is_a_problem() -> None:
    (problem,) = parse("? [a, b]\n: 1\nc: 2\n", "f").problems
    assert problem.line == 1
    assert "a key is text" in problem.found


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        read(tmp_path)
    (tmp_path / "latin").write_bytes(b"a: 1\nb: \xe4\n")
    with pytest.raises(ConfigError, match=r"latin:2: not UTF-8"):
        read(tmp_path / "latin")
    (tmp_path / "large").write_bytes(b"#" * (LARGEST_FILE + 1))
    with pytest.raises(ConfigError, match="larger than"):
        read(tmp_path / "large")


def test_a_file_of_the_largest_size_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    start = "\ufeffa: 1\n#".encode()
    (tmp_path / "f").write_bytes(start + b"x" * (LARGEST_FILE - len(start)))
    document = read(tmp_path / "f")
    assert (document.values, document.path) == ({"a": 1}, str(tmp_path / "f"))


def test_without_a_file_the_document_is_empty() -> None:
    assert read(None) == Document()


def test_the_file_asked_for_goes_before_the_environment_and_that_before_the_default(tmp_path: Path) -> None:
    default = tmp_path / "pvc.yaml"
    assert find_config(None, {}, default) is None
    assert find_config(None, {}, default / "below" / "a-file") is None
    default.touch()
    assert find_config(None, {}, default / "below-a-file") is None
    assert find_config(None, {}, default) == default
    assert find_config(None, {"PVC_CONFIG": ""}, default) == default
    assert find_config(None, {"PVC_CONFIG": "/env"}, default) == Path("/env")
    assert find_config("/asked", {"PVC_CONFIG": "/env"}, default) == Path("/asked")
