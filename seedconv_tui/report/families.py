"""What a report can hold: families of figures, in the order of the page, and kinds of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedconv_tui.report.kept import Kept
    from seedconv_tui.report.parts import Figure, Left
    from seedconv_tui.report.study_data import Source

FORMATS = ("pdf", "png")
FAMILIES = ("curves", "levels", "tokens", "probes", "regression", "between")
"""What takes longest comes last. Each is a module of `figures`, which `figures_of` knows."""


def figures_of(
    family: str, source: Source, kept: Kept, progress: Callable[[str, float], None]
) -> Iterable[Figure | Left]:
    """Return the figures of one of `FAMILIES`; `progress` hears of what is computed, and its share.

    Raise StoreError, DamagedError as they are taken.
    """
    from seedconv_tui.report.figures import (  # late: matplotlib takes a second
        between_checkpoints,
        by_level,
        by_probe,
        by_token,
        coefficients,
        over_training,
    )

    made: dict[str, Callable[[], Iterable[Figure | Left]]] = {
        "curves": lambda: over_training.figures(source),
        "levels": lambda: by_level.figures(source),
        "tokens": lambda: by_token.figures(source),
        "probes": lambda: by_probe.figures(source),
        "regression": lambda: coefficients.figures(source, kept),
        "between": lambda: between_checkpoints.figures(source, kept, progress),
    }
    return made[family]()
