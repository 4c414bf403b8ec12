"""Rows of the table `probes`, read from a study a step at a time."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from seedconv_tui.tables.selection import Choice, chosen_models, chosen_steps
from store import Study, from_extra
from store.analysis import probe_summary, probed_steps

_COLUMNS = ("seed", "label", "term", "measure", "n", "value", "low", "high")


def probes(study: Study, choice: Choice) -> Iterator[dict[str, Any]]:
    """See `long_tables.TABLES`. Raise UnsupportedError, ChoiceError, StoreError, DamagedError."""

    def there(model: str) -> list[int]:
        known = study.ledger(model)
        return sorted({step for name in study.probes() for step in probed_steps(known, name)})

    _needs_scipy()
    steps = chosen_steps(study, choice, there, "probed")
    for model in chosen_models(study, choice):
        for name in study.probes():
            wanted = set(steps[model]) & set(probed_steps(study.ledger(model), name))
            kind = study.probe(name).kind
            for step in sorted(wanted):
                rows = list(probe_summary(study, model, name, step).rows())
                of = {"model": model, "step": step, "probe": name, "kind": kind}
                yield {
                    **{column: [value] * len(rows) for column, value in of.items()},
                    **{column: [row.get(column) for row in rows] for column in _COLUMNS},
                }


def _needs_scipy() -> None:
    """Raise UnsupportedError, which says what to install, where there can be no intervals."""
    with from_extra("an interval", "analysis"):
        import_module("scipy.special")
