"""What exists is documented, and where it should be: the pages made from the source, and the hooks' own page."""

import re

from generate import made, stale
from generator import source
from generator.commands import commands, daemon
from generator.pages import REMARKS, VALUES, programs
from pvc.core import hookspecs
from tests.docs.documents import DOCS


def page(name: str) -> str:
    return (DOCS / "reference" / name).read_text()


def test_the_pages_are_what_the_source_says() -> None:
    assert stale(made()) == [], "run `python docs/generate.py`"


def test_every_command_has_a_heading_and_every_option_a_line_below_it() -> None:
    parts = re.split(r"^#+ (pvcd?(?: [a-z-]+)*)$", page("commands.md"), flags=re.MULTILINE)
    below = dict(zip(parts[1::2], parts[2::2], strict=True))
    expected = {command.path: command for command in (*commands(), daemon())}
    assert list(below) == list(expected)
    for path, command in expected.items():
        rows = re.findall(r"^\| (?:`|<code>)(.*?)(?:`|</code>) \|", below[path].replace("`, `", ", "), re.MULTILINE)
        assert len(rows) == len(command.parameters), path
        assert all(name in below[path] for each in command.parameters for name in each.names), path


def test_everything_that_can_be_typed_is_explained() -> None:
    poor = [command.path for command in commands() if not command.help]
    poor += [
        f"{command.path} {each.names[0]}" for command in commands() for each in command.parameters if not each.help
    ]
    assert poor == []


def test_every_key_of_the_configuration_has_one_line() -> None:
    rows = re.findall(r"^\| `([\w.<>\[\]]+)` \|", page("configuration.md"), re.MULTILINE)
    assert rows == [entry.path for entry in source.settings()]


def test_every_exit_code_has_one_line() -> None:
    parts = re.split(r"^## (pvcd?)$", page("exit-codes.md"), flags=re.MULTILINE)
    for program, text in zip(parts[1::2], parts[2::2], strict=True):
        codes = [code for code, _ in source.exit_codes(programs()[program]).values()]
        assert [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == codes
    assert parts[1::2] == list(programs())


def test_every_number_that_a_program_ends_with_is_explained() -> None:
    for module in programs().values():
        numbers = {name for name, value in vars(module).items() if name.isupper() and isinstance(value, int)}
        assert numbers == source.exit_codes(module).keys()


def test_every_path_of_the_tree_has_one_line_that_says_what_it_holds() -> None:
    rows = re.findall(r"^\| `(/[^`]+)` \|.*\| (.*) \|$", page("tree.md"), re.MULTILINE)
    assert [path for path, _ in rows] == [path for path, _, _ in source.paths()]
    assert [path for path, value in rows if not value.strip() and not _has_children_only(path)] == []


def _has_children_only(path: str) -> bool:
    return path == "/locks/flush"


def test_no_value_is_described_of_a_path_that_does_not_exist() -> None:
    assert (VALUES.keys() | REMARKS.keys()) - {path for path, _, _ in source.paths()} == set()


def test_every_hook_has_a_heading_in_the_reference() -> None:
    names = [name for name in vars(hookspecs.Hooks) if name.startswith("pvc_")]
    assert re.findall(r"^## (pvc_\w+)$", page("hooks.md"), re.MULTILINE) == names


def test_every_hook_is_explained_to_authors_with_its_exact_parameters() -> None:
    headings = re.findall(r"^### `(pvc_.*)`$", (DOCS / "plugins.md").read_text(), re.MULTILINE)
    assert headings == [f"{hook.name}{hook.signature}" for hook in source.hooks()]


def test_every_type_in_a_hook_is_described() -> None:
    described = set(re.findall(r"^### (\w+)$", page("hooks.md") + page("tree.md"), re.MULTILINE))
    named = {name for hook in source.hooks() for name in re.findall(r"\b[A-Z]\w+", hook.signature)}
    assert named - described - {"Any", "Mapping", "Sequence", "None"} == set()
