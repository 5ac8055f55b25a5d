"""How fast a model is: measured here, measured on a board, published, or estimated."""
