"""Pure decisions of the networking role. Nothing here reads, writes or waits."""
