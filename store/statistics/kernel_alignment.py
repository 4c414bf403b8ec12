"""Linear CKA of several representations of the same tokens, from sums that grow block by block.

Memory holds a (width, width) matrix of all of them side by side, whatever the number of tokens.
docs/method.md, *Similarity of hidden states*, has the formulas.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from store.schema.array_types import Floats

_FEWEST = 4  # tokens that the debiased estimate needs


class Alignment(NamedTuple):
    """CKA of each two of some representations, (one, other); NaN: one of them does not vary."""

    cka: Floats  # 0 to 1
    debiased: Floats  # may be below 0; NaN with fewer than four tokens


class CrossMoments:
    """Sums over tokens of products of representations that lie side by side.

    Arrays are numpy's or torch's, whichever are added: only what both understand is used.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        """Take the units of each representation."""
        ends = list(itertools.accumulate(widths))
        self._units = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
        self._n = 0
        self._shift: Any = None  # near the mean, so that little cancels; changes no result
        self._sum: Any = 0.0  # (unit,) of the states
        self._cross: Any = 0.0  # (unit, unit) of their products
        self._weighted: list[Any] = [0.0] * len(widths)  # (unit,) each, times that one's square
        self._squares: Any = np.zeros((len(widths), len(widths)), object)  # products of squares

    def add(self, states: Any) -> None:
        """Add tokens: (token, unit) float64, all representations next to each other."""
        if self._shift is None:
            self._shift = states.mean(0)
        states = states - self._shift
        squares = [(states[:, units] ** 2).sum(1) for units in self._units]
        cross = states.T @ states  # first: where memory runs out, nothing has been added
        self._n += len(states)
        self._sum = self._sum + states.sum(0)
        self._cross += cross
        for i, square in enumerate(squares):
            self._weighted[i] = self._weighted[i] + states.T @ square
            for j, other in enumerate(squares[: i + 1]):
                self._squares[i, j] = self._squares[j, i] = self._squares[i, j] + square @ other

    def alignment(self) -> Alignment:
        """Return what all tokens so far come to."""
        biased, unbiased = (np.full((len(self._units),) * 2, np.nan) for _ in range(2))
        if self._n:
            for i, j in self._pairs():
                biased[i, j] = biased[j, i] = self._centred(i, j)
        if self._n >= _FEWEST:
            traces = [self._off_diagonal(i) for i in range(len(self._units))]
            for i, j in self._pairs():
                unbiased[i, j] = unbiased[j, i] = self._unbiased(i, j, traces[i] * traces[j])
        return Alignment(_normalised(biased), _normalised(unbiased))

    def _pairs(self) -> Iterator[tuple[int, int]]:
        return itertools.combinations_with_replacement(range(len(self._units)), 2)

    def _centred(self, i: int, j: int) -> float:
        """Return the squared norm of the cross-covariance, times the squared number of tokens."""
        one, other = self._units[i], self._units[j]
        means = self._sum[one][:, None] * self._sum[other][None, :] / self._n
        return float(((self._cross[one, other] - means) ** 2).sum())

    def _off_diagonal(self, i: int) -> float:
        """Return the sum of a Gram matrix (token, token) without its diagonal."""
        units = self._units[i]
        return float(self._sum[units] @ self._sum[units] - self._trace(i))

    def _trace(self, i: int) -> float:
        return float(self._cross[self._units[i], self._units[i]].diagonal().sum())

    def _unbiased(self, i: int, j: int, sums: float) -> float:
        """Return the unbiased HSIC (Song et al. 2012) of Gram matrices whose diagonal is left out.

        `sums` is the product of the sums of both. In terms of units: no Gram matrix is made.
        """
        one, other, n = self._units[i], self._units[j], self._n
        cross = self._cross[one, other]
        both = float(self._squares[i, j])
        trace = float((cross**2).sum()) - both
        rows = float(
            self._sum[one] @ cross @ self._sum[other]
            - self._sum[one] @ self._weighted[j][one]
            - self._sum[other] @ self._weighted[i][other]
        ) + both  # fmt: skip
        return (trace + sums / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3))


def _normalised(values: Floats) -> Floats:
    """Return (one, other) over the root of both with themselves; NaN where that is not positive."""
    own = np.diagonal(values)
    root = np.sqrt(np.where(own > 0, own, np.nan))
    return np.asarray(values / (root[:, None] * root[None, :]))
