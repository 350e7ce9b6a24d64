"""Decisions about directories as pools: their options, and what a file is. Imports no door."""
