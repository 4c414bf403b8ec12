"""Means as records of the commit log have them: what stands in an array must be the same numbers.

A chunk of an array of means holds many checkpoints and is replaced whole, so that no record can
have its checksum. Records of earlier versions do not have the numbers: those are read unchanged.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from store.commits.ledger import CHECKPOINT_MEANS, ModelLedger
from store.commits.pair_sums import recorded_pairs
from store.schema import layout
from store.schema.array_types import Floats


def recorded_means(known: ModelLedger, name: str) -> Floats:
    """Return an array of means as records have it, in the order of its axes; NaN: not recorded."""
    n_steps, n_seeds = len(known.steps), len(known.seeds)
    values = np.full(layout.VARIABLES[name].shape(n_steps, n_seeds, 0), np.nan)
    if name in CHECKPOINT_MEANS:
        for (seed, step), record in known.scored.items():
            value = record.get(name)
            if isinstance(value, int | float):
                values[known.steps[step], known.seeds[seed]] = value
    elif layout.VARIABLES[name].by_pair:
        for step in known.reduced:
            sums = known.pair_sums.get(step, ())
            values[known.steps[step]] = recorded_pairs(sums, name, known.seeds)
    return values


def numbers_checksum(values: NDArray[np.float64]) -> str:
    """Return the CRC-32, in eight hex digits, of numbers as little-endian float64; one NaN."""
    plain = np.array(values, "<f8", order="C")
    plain[np.isnan(plain)] = np.nan
    return f"{zlib.crc32(plain.data):08x}"
