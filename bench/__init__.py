"""Benchmarks: what `make bench` measures, as ratios in one run. Never part of the tests: machines are noisy."""
