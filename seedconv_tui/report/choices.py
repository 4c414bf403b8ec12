"""Choices of a report: kinds of files, and bands of figures. Imports nothing heavy."""

from seedconv_tui.tables.band_names import STEP_BANDS

FORMATS = ("pdf", "png")
PAPER = "paper"
BANDS = (*STEP_BANDS, PAPER)
"""What is drawn around a line; `bands` has how each is computed."""
