"""The Categories screen: curves and a table by level."""
