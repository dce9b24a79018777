"""Training: the loop, checkpoints, and the recipes."""
