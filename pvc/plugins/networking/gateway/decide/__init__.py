"""What is decided about gateways: pure functions of values, no door."""
