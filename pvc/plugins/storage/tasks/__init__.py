"""The daemon's side of tasks: which a node takes, how it holds them, and carrying them out."""
