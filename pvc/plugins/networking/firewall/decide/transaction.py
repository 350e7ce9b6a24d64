"""The words by which nft replaces our table, and what its answers say. Every text is one transaction: all or nothing.

Never flushes or names anything outside of our table.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pvc.plugins.networking.firewall.packetfilter import Count, Ruleset

TABLE = "bridge pvc"
EMPTY = f"add table {TABLE}\ndelete table {TABLE}\n"
"""Removes the table, whether it is there or not."""


def definition(ruleset: Ruleset) -> str:
    """The table as a whole."""
    chains = (
        f"\tchain {chain.name} {{\n" + "".join(f"\t\t{line}\n" for line in chain.lines) + "\t}\n"
        for chain in ruleset.chains
    )
    return f"table {TABLE} {{\n{''.join(chains)}}}\n"


def replacement(ruleset: Ruleset, there: Sequence[tuple[str, str]]) -> str:
    """Fills the table anew, and removes what is `there` and wanted no longer.

    The table is emptied rather than deleted: packets between two tables of one name have been seen to slip through.
    """
    if not ruleset.chains:
        return EMPTY
    made = {("chain", chain.name) for chain in ruleset.chains}
    leftovers = "".join(f"delete {kind} {TABLE} {name}\n" for kind, name in there if (kind, name) not in made)
    return f"add table {TABLE}\nflush table {TABLE}\n{definition(ruleset)}{leftovers}"


def rebuilding(ruleset: Ruleset) -> str:
    """Deletes the table and makes it anew: for one that others have changed so that it cannot be filled."""
    return EMPTY if not ruleset.chains else f"{EMPTY}{definition(ruleset)}"


def contents(listing: str) -> list[tuple[str, str]]:
    """Kind and name of all in a table but its rules, from nft's JSON, in the order in which it can be deleted."""
    found = [
        (kind, entry["name"])
        for kind, entry in _objects(listing)
        if kind not in ("metainfo", "table", "rule", "element")
    ]
    return sorted(found, key=lambda one: one[0] != "chain")  # chains first: no set can go while a chain looks into it


def counts(listing: str) -> dict[str, Count]:
    """What each rule was used for, by its comment; a rule of several statements has one comment in all of them."""
    found: dict[str, Count] = {}
    for kind, entry in _objects(listing):
        name = entry.get("comment") if kind == "rule" else None
        if not isinstance(name, str):
            continue
        before = found.get(name, Count(0, 0))
        for counter in _counters(entry):
            before = Count(before.packets + counter["packets"], before.bytes + counter["bytes"])
        found[name] = before
    return found


def _counters(rule: Mapping[str, Any]) -> Iterator[Mapping[str, int]]:
    for statement in rule.get("expr", ()):
        if isinstance(statement, dict) and isinstance(statement.get("counter"), dict):
            yield statement["counter"]


def _objects(listing: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in json.loads(listing).get("nftables", ()):
        yield from each.items()
