"""Questions that checkpoints are asked besides the corpus, and their answers."""
