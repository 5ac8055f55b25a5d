"""Runs a model or an artifact and nothing else."""
