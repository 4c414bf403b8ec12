"""The fixed evaluation text, and the vocabulary it is written in, as the store keeps them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Corpus:
    """The predicted tokens of a study, in corpus order, and the text they come from.

    Token arrays have shape (token,). Character offsets count Unicode code points from the start of
    `text`, in which the documents stand one after the other; a token without characters of its own
    (the end-of-text token between documents) has `char_start == char_end`.
    """

    token_id: NDArray[np.int32]  # the target w_t
    context_id: NDArray[np.int32]  # the token before it, which may not be a target itself
    document: NDArray[np.int32]  # which document the target belongs to
    char_start: NDArray[np.int64]
    char_end: NDArray[np.int64]
    text: str
    document_start: NDArray[np.int64]  # (document,) offset of its first character
    document_name: tuple[
        str, ...
    ]  # (document,) file it came from, with a number where it held more

    def __len__(self) -> int:
        return len(self.token_id)

    def token_text(self, token: int) -> str:
        """Return the characters that the token covers (untrusted)."""
        return self.text[int(self.char_start[token]) : int(self.char_end[token])]


@dataclass(frozen=True)
class Vocabulary:
    """The text of each vocabulary entry, and how often it occurs in reference text."""

    text: tuple[str, ...]  # (vocab,), untrusted
    count: NDArray[np.int64]  # (vocab,) occurrences in the reference text
    source: str  # one line: which text was counted

    def __len__(self) -> int:
        return len(self.text)
