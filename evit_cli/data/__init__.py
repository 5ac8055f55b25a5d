"""Data sets: one per file, each a sequence of images with their targets."""
