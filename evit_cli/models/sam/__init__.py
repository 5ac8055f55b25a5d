"""EfficientViT-SAM (arXiv 2402.05008): image encoder, prompt encoder and mask decoder."""
