"""Rows of the table `probes`, read from a study a step at a time."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from seedconv_tui.tables.selection import Choice, ChoiceError, chosen_models, chosen_steps
from store import Study
from store.analysis import Blimp, Icl, blimp_summary, icl_summary, probed_steps
from store.schema import BLIMP

Row = dict[str, Any]

_COLUMNS = ("seed", "label", "term", "measure", "n", "value", "low", "high")


def probes(study: Study, choice: Choice) -> Iterator[dict[str, Any]]:
    """See `tables.TABLES`. Raise ChoiceError, StoreError, DamagedError."""

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
                if kind == BLIMP:
                    rows = list(_pairs(blimp_summary(study, model, name, step)))
                else:
                    rows = list(_documents(icl_summary(study, model, name, step)))
                of = {"model": model, "step": step, "probe": name, "kind": kind}
                yield {
                    **{column: [value] * len(rows) for column, value in of.items()},
                    **{column: [row.get(column) for row in rows] for column in _COLUMNS},
                }


def _needs_scipy() -> None:
    """Raise ChoiceError, in one line that says what to install, where intervals cannot be told."""
    try:
        import_module("scipy.special")
    except ImportError:
        raise ChoiceError(
            "the intervals of probes need scipy: pip install 'seedconv-tui[analysis]'"
        ) from None


def _pairs(found: Blimp) -> Iterator[Row]:
    for at, (task, term) in enumerate(zip(found.tasks, found.terms, strict=True)):
        of = {"label": task, "term": term or None, "n": int(found.n[at])}
        for row, seed in enumerate(found.seeds):
            for measure in ("accuracy", "probability"):
                value = float(getattr(found, measure)[row, at])
                yield {**of, "seed": seed, "measure": measure, "value": value}
        if len(found.seeds) > 1:
            value, low, high = found.expected_kl[at], found.kl_low[at], found.kl_high[at]
            yield {
                **of,
                "measure": "expected_kl",
                "value": float(value),
                "low": float(low),
                "high": float(high),
            }


def _documents(found: Icl) -> Iterator[Row]:
    for row, seed in enumerate(found.seeds):
        for at, label in enumerate(found.variants):
            value = float(found.loss[row, at])
            n = int(found.n_loss[at])
            yield {"seed": seed, "label": label, "measure": "loss", "n": n, "value": value}
        for at, label in enumerate(found.scores):
            value, low, high = (part[row, at] for part in (found.value, found.low, found.high))
            yield {
                "seed": seed,
                "label": label,
                "measure": "score",
                "n": int(found.n[at]),
                "value": float(value),
                "low": float(low),
                "high": float(high),
            }
