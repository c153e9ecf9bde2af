"""Scenarios: one a file; netns/play/scenario.py says how one is written."""
