"""Where checkpoints come from, and whether they are complete."""
