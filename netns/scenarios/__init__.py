"""Scenarios: one a file; netns/scenario.py says how one is written."""
