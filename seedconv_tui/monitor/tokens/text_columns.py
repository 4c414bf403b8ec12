"""Every token as a row of a table: the data behind Tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedconv_tui.monitor.common.study_screen import Columns
    from store.schema import Corpus


def text_columns(head: Mapping[str, Any], corpus: Corpus, values: Columns) -> Columns:
    """Return every token with its values; what is in `head` is in every row."""
    n = len(corpus)
    return {name: [value] * n for name, value in head.items()} | {
        "token": np.arange(n),
        "token_id": corpus.token_id,
        "text": list(map(corpus.token_text, range(n))),
        "document": [corpus.document_name[d] for d in corpus.document],
        **values,
    }
