"""Breaks things under a running `evit segment` and notes how it ends.

`python -m benchmarks.fault_drills` runs every drill as a real process with the model that travels
with evit, prints the table, and exits with 1 if one ended otherwise than it should;
`--write` puts the table into docs/fault-drills.md, `--only NAME` runs one.
"""
