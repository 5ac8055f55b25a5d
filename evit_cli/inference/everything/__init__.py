"""The steps of everything mode; `inference/mask_generator.py` puts them together."""
