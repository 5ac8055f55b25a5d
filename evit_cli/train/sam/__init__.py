"""Training of EfficientViT-SAM in the two phases of its paper (arXiv 2402.05008, section 3.2).

`distill.py` teaches the image encoder a teacher's embeddings; `task.py` trains the whole model on
masks, from prompts that are drawn out of them.
"""
