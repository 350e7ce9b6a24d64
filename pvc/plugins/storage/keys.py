"""The name under which nodes publish their directories. This role has no paths of its own in the tree."""

DIRECTORIES = "storage.directories"
"""A `Published` record as JSON text."""
