"""The Curves screen: expected KL over training."""
