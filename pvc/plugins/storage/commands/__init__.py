"""The commands of the storage role. They talk to the tree only."""
