"""What runs in other people's training scripts: `Capture`, `announce` and callbacks of trainers.

It imports neither `engine` nor `store`: Python looks into a script's folder first, and what lies
there may have these names too. `announce` needs only the standard library, `Capture` numpy and
torch, and each callback the library that calls it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from seedconv_tui.training.announcing import announce

if TYPE_CHECKING:
    from seedconv_tui.training.callback import SeedconvCallback
    from seedconv_tui.training.capture import Capture
    from seedconv_tui.training.lightning import LightningCapture

__all__ = ["Capture", "LightningCapture", "SeedconvCallback", "announce"]

_MODULES = {
    "Capture": "capture",
    "LightningCapture": "lightning",
    "SeedconvCallback": "callback",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a loop that only announces needs neither torch nor transformers."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
