"""The screens; one a file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from seedconv_tui.monitor.common.study_screen import StudyScreen

SCREENS = ("Runs", "Curves", "Categories", "Tokens", "Seeds")
"""Their names, in the order of their number keys."""


def screen_class(name: str) -> type[StudyScreen]:
    """The class of a screen, whose file is imported only now: the first paint needs but one."""
    module = import_module(f"seedconv_tui.monitor.{name.lower()}.screen")
    return cast("type[StudyScreen]", getattr(module, f"{name}Screen"))
