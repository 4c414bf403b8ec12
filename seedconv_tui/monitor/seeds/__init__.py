"""The Seeds screen: the matrix of pairs, and outliers."""
