"""Runs: from a study's list of specs to records."""
