"""The families of figures of a report, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedconv_tui.report.parts import Figure, Omitted
    from seedconv_tui.report.result_cache import ResultCache
    from seedconv_tui.report.study_data import StudyData

FAMILIES = ("curves", "levels", "groups", "models", "tokens", "probes", "regression", "between")
"""Those of every report; what takes longest comes last. Each is a module of `figures`, which
`figures_of` knows.
"""

ON_REQUEST = ("hidden",)
"""Those that are only made when they are asked for."""


def figures_of(
    family: str, source: StudyData, kept: ResultCache, progress: Callable[[str, float], None]
) -> Iterable[Figure | Omitted]:
    """Return the figures of one of both; `progress` hears of what is computed, and its share.

    Raise StoreError, DamagedError as they are taken.
    """
    from seedconv_tui.report.figures import (  # late: matplotlib takes a second
        between_checkpoints,
        by_group,
        by_hidden_layer,
        by_hidden_state,
        by_level,
        by_probe,
        by_token,
        coefficients,
        model_differences,
        over_training,
    )

    made: dict[str, Callable[[], Iterable[Figure | Omitted]]] = {
        "curves": lambda: chain(
            over_training.figures(source),
            by_hidden_state.recorded(source),
            by_hidden_layer.figures(source),
        ),
        "levels": lambda: by_level.figures(source),
        "groups": lambda: by_group.figures(source),
        "models": lambda: model_differences.figures(source),
        "tokens": lambda: by_token.figures(source),
        "probes": lambda: by_probe.figures(source),
        "regression": lambda: coefficients.figures(source, kept),
        "hidden": lambda: by_hidden_state.figures(source, kept, progress),
        "between": lambda: between_checkpoints.figures(source, kept, progress),
    }
    return made[family]()
