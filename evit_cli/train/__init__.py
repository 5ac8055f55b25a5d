"""Training and distillation: one loop for all tasks."""
