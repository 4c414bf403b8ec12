"""What the band of a curve may be. Imports nothing."""

INTERVAL, SIMULTANEOUS = STEP_BANDS = ("interval", "simultaneous")
"""95 % intervals of each step by itself, or 95 % bands over all steps at once."""

BAND_WORDS = {INTERVAL: "95 % interval", SIMULTANEOUS: "simultaneous 95 % band"}
