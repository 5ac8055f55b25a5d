"""EfficientViT in pure torch: the one model package."""
