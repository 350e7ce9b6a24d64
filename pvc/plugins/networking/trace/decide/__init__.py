"""Judgement of what was seen on a way. Pure functions only."""
