"""Every value in view as a row of a table: the data behind Curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedconv_tui.monitor.common.study_screen import Columns
    from seedconv_tui.monitor.curves.curve_metrics import Curve


def curve_columns(
    metric: str, band: str, curves: Mapping[str, Curve], first: float, last: float
) -> Columns:
    """Return a metric of these models with one of its bands, at steps from `first` to `last`."""
    names = [
        "model",
        "step",
        "metric",
        "value",
        "band",
        "low",
        "high",
        "n_seeds",
        "n_pairs",
        "floor",
    ]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for model, curve in curves.items():
        inside = (curve.steps >= first) & (curve.steps <= last)
        at = np.flatnonzero(inside & np.isfinite(curve.value))
        low, high = curve.bands[band]
        for name, text in (
            ("model", model),
            ("metric", metric),
            ("band", band),
        ):
            columns[name] += [text] * len(at)
        for name, values in (
            ("step", curve.steps),
            ("value", curve.value),
            ("low", low),
            ("high", high),
            ("n_seeds", curve.n_seeds),
            ("n_pairs", curve.n_pairs),
            ("floor", curve.floor),
        ):
            columns[name] += [None] * len(at) if values is None else values[at].tolist()
    return columns
