"""One module for each family of figures."""
