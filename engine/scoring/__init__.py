"""Log-probs of each seed and divergences of all, in one pass over the corpus."""
