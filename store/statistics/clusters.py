"""Tokens by what is drawn whole: documents, or runs of a lone one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from store.schema.array_types import Floats, Ints

if TYPE_CHECKING:
    from store.schema.category import Category
    from store.schema.corpus import Corpus

_RUN = 256  # tokens that stand for a document where there is only one
_WIDE = 2**22  # cells of a table (cluster, level) that are made at once


class ClusterCells(NamedTuple):
    """Clusters that have tokens in a level, each with what they come to there, (cell,) each."""

    level: Ints  # of each cell; a level's cells ascend by cluster
    total: Floats  # sums of values
    n: Ints  # tokens, 1 at least


def token_clusters(corpus: Corpus) -> Ints:
    """Return what is drawn whole: each token's document, or runs of a lone one, (token,).

    Clusters are numbered from 0, without gaps.
    """
    if corpus.document.min() != corpus.document.max():
        return np.unique(corpus.document, return_inverse=True)[1].astype(np.int64)
    return np.arange(len(corpus)) // _RUN


def cluster_sums(values: Floats, clusters: Ints, category: Category) -> tuple[Floats, Ints]:
    """Return sums of (token,) values and numbers of tokens, (cluster, level) each."""
    n_clusters, width = int(clusters.max()) + 1, len(category.labels) + 1
    code = clusters * width + (category.level + 1)
    shape = n_clusters, width
    total: Floats = np.bincount(code, values, minlength=n_clusters * width).astype(np.float64)
    n = np.bincount(code, minlength=n_clusters * width)
    return total.reshape(shape)[:, 1:], n.reshape(shape)[:, 1:]


def cluster_cells(values: Floats, clusters: Ints, category: Category) -> ClusterCells:
    """Return the cells of `cluster_sums` that have tokens.

    There are never more of them than tokens, whereas a table of as many documents as levels
    would hold the square.
    """
    n_levels = len(category.labels)
    if (int(clusters.max()) + 1) * n_levels <= _WIDE:
        total, n = cluster_sums(values, clusters, category)
        cluster, level = np.nonzero(n)
        return ClusterCells(level, total[cluster, level], n[cluster, level])
    known = category.level >= 0
    code = clusters[known] * n_levels + category.level[known]
    cell, place = np.unique(code, return_inverse=True)
    sums: Floats = np.bincount(place, values[known], minlength=len(cell)).astype(np.float64)
    return ClusterCells(cell % n_levels, sums, np.bincount(place, minlength=len(cell)))
