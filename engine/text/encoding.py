"""Text in tokens: the one call of the tokenizer."""

from __future__ import annotations

from typing import Any

from engine.errors import ConfigError, first_line
from engine.machine.faults import is_fault


def encode(backend: Any, text: str | list[str]) -> Any:
    """Return what a fast tokenizer makes of a text or of several, without special tokens.

    Raise ConfigError when it cannot, as one of words that has no token for others.
    """
    try:
        return backend(text, add_special_tokens=False, return_attention_mask=False, verbose=False)
    except BaseException as error:  # the library raises plain Exception, and panics
        if not is_fault(error):
            raise
        reason = first_line(error).removeprefix("Exception: ")
        raise ConfigError(f"the tokenizer cannot read the text: {reason}") from None
