"""Writes what the documentation takes from the source: `python docs/generate.py`.

Without an option: the pages below docs/reference, and the list of decisions. `--check` changes nothing and ends with
code 1 if one of them is not what the source says. `--man DIRECTORY` writes the manual pages there instead.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from generator import source
from generator.man import man_pages
from generator.pages import pages
from pvc.core.config.editorschema import editor_schema

ROOT = Path(__file__).parents[1]
SCHEMA = "pvc/pvc.schema.json"
"""By which editors check pvc.yaml."""


def made() -> dict[str, str]:
    """Every file that is made from the source and committed, by its path in the repository."""
    schema = json.dumps(editor_schema(source.plugin_schemas(), source.BUILT_IN), indent=1, ensure_ascii=False)
    return {**{f"docs/{name}": text for name, text in pages().items()}, SCHEMA: f"{schema}\n"}


def stale(texts: Mapping[str, str]) -> list[str]:
    """The files that are missing, are not what the source says, or are not made any more."""
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "reference").glob("*.md")}
    return sorted(name for name in there | texts.keys() if _written(ROOT / name) != texts.get(name))


def write(directory: Path, texts: Mapping[str, str]) -> None:
    """Write every text to its file."""
    for name, text in texts.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say which pages are stale")
    parser.add_argument("--man", metavar="DIRECTORY", type=Path, help="write the manual pages there")
    arguments = parser.parse_args()
    if arguments.man is not None:
        write(arguments.man, man_pages())
        return 0
    texts = made()
    wrong = stale(texts)
    if arguments.check:
        for name in wrong:
            print(f"{name} is stale; run `python docs/generate.py`", file=sys.stderr)
        return 1 if wrong else 0
    for name in wrong:
        (ROOT / name).unlink(missing_ok=True)
    write(ROOT, texts)
    return 0


def _written(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
