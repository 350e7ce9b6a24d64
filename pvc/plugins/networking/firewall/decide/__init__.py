"""Pure decisions of the firewall. Nothing here reads, writes or waits."""
