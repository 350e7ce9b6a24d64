"""The names under which nodes publish their bridges. This role has no paths of its own in the tree."""

UP = "networking.bridges"
"""Bridges of the node that are up, with spaces between them."""

LACKING = "networking.lacking"
"""Bridges that the node should have and that are missing or down, with spaces between them."""
