"""Weights: where they are, how they are fetched, read, renamed and written."""
