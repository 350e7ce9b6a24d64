"""Pure decisions of the storage role. Nothing here reads, writes or waits."""
