"""What runs in other people's training scripts: `SeedconvCallback` for Trainer, and `announce`.

It imports neither `engine` nor `store`: Python looks beside a script first, and what lies there may
have these names too. `announce` needs only the standard library, `SeedconvCallback` transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seedconv_tui.training.announcing import announce

if TYPE_CHECKING:
    from seedconv_tui.training.callback import SeedconvCallback

__all__ = ["SeedconvCallback", "announce"]


def __getattr__(name: str) -> Any:
    """Import the callback on first use: a loop that only announces needs no transformers."""
    if name != "SeedconvCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from seedconv_tui.training.callback import SeedconvCallback

    return SeedconvCallback
