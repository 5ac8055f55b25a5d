"""The machine a model is timed on: what it is, what disturbs it, what it uses."""
