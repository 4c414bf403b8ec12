"""Arrays of results: their dimensions, sizes and chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from store.schema.array_layout import ArrayLayout
from store.schema.ensemble import ENDS, STATISTICS

TOP = 10  # predictions kept per token
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)  # of tokens' KL
_CHUNK_TOKENS = 65_536  # per-token results: 256 kB of float32 a chunk
_CHUNK_STEPS, _CHUNK_SEEDS = 64, 16  # means: one chunk holds many checkpoints and is replaced whole
_CHUNK_LEVELS = 1024
PACK_SEEDS = 16  # along each axis of seeds, in one file of packed results
_GROWING = frozenset({"step", "seed", "other_seed", "compared", "level"})
_SEEDS = ("seed", "other_seed", "compared")


@dataclass(frozen=True)
class Variable:
    """One results array of a model."""

    dtype: str
    dims: tuple[str, ...]
    units: str
    description: str
    per_token: bool
    symmetric: bool = False  # of a pair: kept once, with the lower index of a seed first
    packed: bool = False  # many chunks lie in one file (a shard of Zarr)

    @property
    def attributes(self) -> dict[str, str]:
        """The array's attributes."""
        return {"units": self.units, "description": self.description}

    @property
    def growing(self) -> tuple[int, ...]:
        """Those of its axes that get longer as checkpoints and categories arrive."""
        return tuple(axis for axis, dim in enumerate(self.dims) if dim in _GROWING)

    @property
    def by_pair(self) -> bool:
        """Return whether it holds one value per ordered pair of seeds rather than per seed."""
        return "other_seed" in self.dims

    @property
    def by_set(self) -> bool:
        """Return whether its values depend on all seeds that were compared at the step.

        The axis `compared` has one place less than there were: what a step has of more seeds lies
        next to what it had of fewer, which goes once the other is committed.
        """
        return "compared" in self.dims

    @property
    def of_checkpoint(self) -> bool:
        """Return whether it holds results per token that one checkpoint has by itself."""
        return self.per_token and not (self.by_pair or self.by_set)

    @property
    def n_seed_axes(self) -> int:
        """Return how many of its axes are as long as there are seeds."""
        return sum(dim in _SEEDS for dim in self.dims)

    def seed_cell(self, *seeds: int) -> tuple[int, ...]:
        """Return where on the axes of seeds the values per token of these are kept."""
        return tuple(sorted(seeds)) if self.symmetric else seeds

    def shape(
        self, n_steps: int, n_seeds: int, n_tokens: int, n_levels: int = 0
    ) -> tuple[int, ...]:
        """Return the shape for these sizes of the axes."""
        sizes = {
            "step": n_steps,
            "seed": n_seeds,
            "other_seed": n_seeds,
            "compared": n_seeds,
            "statistic": len(STATISTICS),
            "end": len(ENDS),
            "token": n_tokens,
            "level": n_levels,
            "rank": TOP,
            "percentile": len(PERCENTILES),
        }
        return tuple(sizes[dim] for dim in self.dims)

    def layout(self, n_steps: int, n_seeds: int, n_tokens: int, n_levels: int = 0) -> ArrayLayout:
        """Return what it is made with for these sizes of the axes."""
        return ArrayLayout(
            shape=self.shape(n_steps, n_seeds, n_tokens, n_levels),
            chunks=self.chunks(n_tokens),
            dtype=self.dtype,
            dims=self.dims,
            attributes=self.attributes,
            shards=self.shards(n_tokens) if self.packed else None,
        )

    def cells(self, step: int, seeds: Sequence[int], levels: range) -> tuple[Any, ...]:
        """Return the index of a summary's cells at these positions on its axes."""
        axes: dict[str, Sequence[int]] = {
            "step": (step,),
            "seed": seeds,
            "other_seed": seeds,
            "statistic": range(len(STATISTICS)),
            "end": range(len(ENDS)),
            "percentile": range(len(PERCENTILES)),
            "level": levels,
        }
        if seeds and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):  # no copy is made then
            return tuple(slice(axes[dim][0], axes[dim][-1] + 1) for dim in self.dims)
        return np.ix_(*(np.array(axes[dim], np.intp) for dim in self.dims))

    def chunks(self, n_tokens: int) -> tuple[int, ...]:
        """Return the chunk shape: of per-token data one checkpoint or pair, of means many."""
        steps, seeds, levels = _CHUNK_STEPS, _CHUNK_SEEDS, _CHUNK_LEVELS
        if self.per_token:
            steps = seeds = 1
        elif "level" in self.dims and len(self.dims) > 2:  # wide: fewer steps to replace each time
            steps, levels = (1, levels) if self.by_pair else (steps // 4, levels // 4)
        sizes = {
            "step": steps,
            "seed": seeds,
            "other_seed": seeds,
            "compared": seeds,
            "statistic": len(STATISTICS),
            "end": len(ENDS),
            "token": min(max(n_tokens, 1), _CHUNK_TOKENS),
            "level": levels,
            "rank": TOP,
            "percentile": len(PERCENTILES),
        }
        return tuple(sizes[dim] for dim in self.dims)

    def shards(self, n_tokens: int) -> tuple[int, ...]:
        """Return the shape of what lies in one file, once packed: one step of many seeds."""
        chunks = zip(self.dims, self.chunks(n_tokens), strict=True)
        return tuple(PACK_SEEDS if dim in _SEEDS else size for dim, size in chunks)
