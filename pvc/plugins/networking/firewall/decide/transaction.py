"""The words by which nft replaces our table, and what its answers say. Each text is a transaction: all or nothing.

Never flushes or names anything outside of our table.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pvc.plugins.networking.firewall.packetfilter import Chain, Count, Ruleset

TABLE = "bridge pvc"
EMPTY = f"add table {TABLE}\ndelete table {TABLE}\n"
"""Removes the table, whether it is there or not."""
_TARGET = re.compile(r"\b(?:goto|jump) \S+$")


def preparation(ruleset: Ruleset, generation: int) -> str:
    """Makes the new chains beside those in force: no packet comes by there yet."""
    return _table([chain for chain in _named(ruleset, generation) if not _is_base(chain)])


def switch(ruleset: Ruleset, generation: int, there: Sequence[tuple[str, str]]) -> str:
    """Sends all packets to the chains of a generation that is prepared, and removes the rest of what is `there`.

    Prepared before, and the table never deleted, because packets slip through otherwise: a set of ranges has been
    seen to be empty for an instant after the transaction that makes it.
    """
    chains = _named(ruleset, generation)
    bases = [chain for chain in chains if _is_base(chain)]
    names = {chain.name for chain in chains}
    others = [(kind, name) for kind, name in there if not (kind == "chain" and name in names)]
    lines = [f"flush chain {TABLE} {base.name}" for base in bases]
    refilled = "".join(f"add rule {TABLE} {base.name} {line}\n" for base in bases for line in base.lines[1:])
    lines += [f"flush chain {TABLE} {name}" for kind, name in others if kind == "chain"]
    removed = "".join(f"delete {kind} {TABLE} {name}\n" for kind, name in others)
    declared = _table([Chain(base.name, base.lines[:1]) for base in bases])
    return f"{declared}{chr(10).join(lines)}\n{refilled}{removed}"


def next_generation(there: Sequence[tuple[str, str]]) -> int:
    """A number that no chain in the table goes by."""
    taken = {name.rpartition(".")[2] for kind, name in there if kind == "chain"}
    return next(number for number in range(1, len(taken) + 2) if str(number) not in taken)


def _named(ruleset: Ruleset, generation: int) -> list[Chain]:
    """The chains by the names that they have in the kernel: all but those at hooks end with their generation."""
    lines = {
        chain.name: tuple(_TARGET.sub(rf"\g<0>.{generation}", each) for each in chain.lines) for chain in ruleset.chains
    }
    return [
        Chain(chain.name if _is_base(chain) else f"{chain.name}.{generation}", lines[chain.name])
        for chain in ruleset.chains
    ]


def _is_base(chain: Chain) -> bool:
    return chain.lines[0].startswith("type ")


def _table(chains: Sequence[Chain]) -> str:
    texts = (
        f"\tchain {chain.name} {{\n" + "".join(f"\t\t{line}\n" for line in chain.lines) + "\t}\n" for chain in chains
    )
    return f"table {TABLE} {{\n{''.join(texts)}}}\n"


def rebuilding(ruleset: Ruleset) -> str:
    """Deletes the table and makes it anew: for one that others have changed so that it cannot be filled."""
    return EMPTY if not ruleset.chains else f"{EMPTY}{_table(_named(ruleset, 1))}"


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
