"""The names under which nodes publish their directories. This role has no paths of its own in the tree."""

COUNT = "storage.directories"
"""How many directories the node has looked at."""

DIRECTORY = "storage.directory."
"""Followed by the name of a directory: a `Room` record as JSON text. A fact for each: one fact has little room."""
