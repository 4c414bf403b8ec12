"""Choices of a report: kinds of files, and bands of figures. Imports nothing."""

FORMATS = ("pdf", "png")
INTERVAL, PAPER = BANDS = ("interval", "paper")
"""What is drawn around a line; `bands` has how each is computed."""
