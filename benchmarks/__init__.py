"""Measurements whose figures stand in the docs; run with `python -m benchmarks.NAME`."""
