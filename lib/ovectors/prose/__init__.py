"""Sentences that quote results: every number in a chapter is written here, from a table."""
