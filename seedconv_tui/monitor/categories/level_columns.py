"""Levels, or the tokens of one, as rows of a table: the data behind Categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from seedconv_tui.monitor.categories.level_queries import Ranked
    from seedconv_tui.monitor.categories.levels_at_step import StepOfLevels
    from seedconv_tui.monitor.common.study_screen import Columns
    from store.schema import Corpus


def level_columns(head: Mapping[str, Any], at: StepOfLevels, order: Sequence[int]) -> Columns:
    """Return the listed levels as the columns of a table; what is in `head` is in every row."""
    listed = np.array(order, np.intp)
    return {name: [value] * len(order) for name, value in head.items()} | {
        "label": [at.labels[n] for n in order],
        "n": at.counts[listed],
        "expected_kl": at.kl[listed],
        "kl_low": at.low[listed],
        "kl_high": at.high[listed],
        "kl_change": at.change[listed],
        "cross_entropy": at.cross_entropy[listed],
    }


def token_columns(head: Mapping[str, Any], ranked: Ranked, corpus: Corpus) -> Columns:
    """Return tokens in order as the columns of a table; what is in `head` is in every row."""
    tokens = ranked.tokens.tolist()
    return {name: [value] * len(tokens) for name, value in head.items()} | {
        "token": ranked.tokens,
        "token_id": corpus.token_id[ranked.tokens],
        "text": list(map(corpus.token_text, tokens)),
        "document": [corpus.document_name[d] for d in corpus.document[ranked.tokens]],
        "kl": ranked.kl,
        "surprisal": ranked.surprisal,
    }
