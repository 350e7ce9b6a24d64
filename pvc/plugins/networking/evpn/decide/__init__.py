"""What the daemons of EVPN are told, and what to do next; no door is imported here."""
