"""The level of each token in each category."""
