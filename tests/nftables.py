"""What nftables lists, for tests that ask which rules are in force."""

import json
import re
from typing import Any


def rules_met(listing: str) -> list[dict[str, Any]]:
    """Those that frames meet, from `nft --json`: new ones are in the kernel before the bridges are turned to them."""
    listed = json.loads(listing or '{"nftables": []}')["nftables"]
    of_chains: dict[str, list[dict[str, Any]]] = {}
    for rule in (entry["rule"] for entry in listed if "rule" in entry):
        of_chains.setdefault(rule["chain"], []).append(rule)
    met, coming = [], [entry["chain"]["name"] for entry in listed if "hook" in entry.get("chain", ())]
    while coming:
        found = of_chains.pop(coming.pop(), [])
        met += found
        coming += re.findall(r'"target": "([^"]+)"', json.dumps(found))
    return met


def packets_counted(listing: str, comment: str) -> int | None:
    """How many packets the rule with that comment has counted; None: it is not in force."""
    for rule in rules_met(listing):
        if rule.get("comment") == comment:
            (count,) = [part["counter"]["packets"] for part in rule["expr"] if "counter" in part]
            return int(count)
    return None
