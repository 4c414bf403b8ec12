"""Records of what was scored and compared: what the cells are, so that others are noticed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from store.commits.ledger import CHECKPOINT_MEANS, Record
from store.commits.seed_sets import FIELD, REFERENCE
from store.schema.array_types import Floats
from store.schema.layout import VARIABLES
from store.schema.packed import pack_numbers
from store.writing.pending import CheckpointResult, PairsResult


def scored_record(model: str, step: int, result: CheckpointResult, before: Record) -> Record:
    """Return the record of a checkpoint; `before` is its earlier one, or empty.

    Results that are there stay, and what is recorded of them with them.
    """
    details = {name: value for name, value in result.details.items() if name != "n_tokens"}
    means = {name: mean for name, mean in result.means.items() if math.isfinite(mean)}
    cells = {"cells": result.cells} if result.cells else {}
    of_log_probs = {"log_prob_cells": dict(result.log_prob_cells)} if result.log_prob_cells else {}
    return {
        "kind": "scored",
        "model": model,
        "seed": result.seed,
        "step": step,
        "log_probs": result.log_probs,
        "bytes": result.n_bytes,
        **details,
        **means,
        **cells,
        **of_log_probs,
        **{name: before[name] for name in (*CHECKPOINT_MEANS, "cells") if name in before},
    }


def reduced_records(
    model: str,
    step: int,
    pairs: PairsResult,
    rows: Mapping[str, Floats],
    seeds: Mapping[str, int],
) -> list[Record]:
    """Return the record of a reduction, with the means of the pairs that it adds.

    `rows` are all means of the step by array, (seed, other_seed), in the order of `seeds`. Where
    none is added, but results of all seeds together are, summaries of the step are made again.
    """
    new = {(i, j) for i, j, _ in pairs.means}
    both = list(itertools.permutations(pairs.seeds, 2))
    there = {seed for pair in both if pair not in new for seed in pair}
    added = [(seeds[i], seeds[j]) for i, j in both if (i, j) in new]
    stale: Record = {"kind": "forgotten", "model": model, "step": step, "what": "summaries"}
    made: Record = {
        "kind": "reduced",
        "model": model,
        "step": step,
        "seeds": list(pairs.seeds),
        "before": [seed for seed in pairs.seeds if seed in there],
        "cells": {name: cells for name, cells in pairs.cells.items() if cells},
        **({FIELD: dict(pairs.of_set)} if pairs.of_set else {}),
        **({REFERENCE: pairs.reference} if pairs.reference is not None else {}),
        "once": sorted(name for name in pairs.cells if VARIABLES[name].symmetric),
        "means": {name: pack_numbers(row[pair] for pair in added) for name, row in rows.items()},
    }
    return [made] if pairs.means else [stale, made]
