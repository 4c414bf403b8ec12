"""A curve in one row of bars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from store.schema import Floats

_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*%#"


def spark(steps: NDArray[np.int64], values: Floats, width: int, ascii: bool) -> str:  # noqa: A002
    """Return a curve over log(step + 1) as one row of bars, from its lowest value to its highest.

    Between two steps the line between them counts; blank where nothing is known.
    """
    known = np.isfinite(values)
    if width < 1 or not known.any():
        return " " * max(width, 0)
    columns, y = _columns(steps, width), values[known]
    drawn = np.interp(np.arange(width), columns[known], y, left=np.nan, right=np.nan)
    drawn[np.rint(columns[known]).astype(int)] = y  # so that no step is lost between two columns
    low, high = float(y.min()), float(y.max())
    part = (drawn - low) / (high - low) if high > low else drawn - low + 0.5
    bars = _ASCII_BARS if ascii else _BARS
    last = len(bars) - 1
    return "".join(" " if np.isnan(p) else bars[min(int(p * len(bars)), last)] for p in part)


def spark_column(steps: NDArray[np.int64], step: int, width: int) -> int:
    """Return the column of `spark` that one of the steps lies in."""
    return round(float(_columns(steps, width)[np.searchsorted(steps, step)]))


def _columns(steps: NDArray[np.int64], width: int) -> Floats:
    x = np.log1p(steps)
    span = max(float(x[-1] - x[0]), 1e-9)
    columns: Floats = (x - x[0]) / span * (width - 1)
    return columns
