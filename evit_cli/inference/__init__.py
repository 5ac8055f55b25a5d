"""Numpy in, numpy out, over a session."""
