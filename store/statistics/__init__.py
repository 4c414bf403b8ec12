"""Pure functions of arrays: intervals, means, phases, outliers."""
