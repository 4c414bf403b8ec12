"""The list of screens: a screen is a folder of its name, with its class in `screen.py`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from seedconv_tui.monitor.common.study_screen import StudyScreen

SCREENS = ("Runs", "Curves", "Categories", "Tokens", "Seeds")
"""Their names, in the order of their number keys."""

SHARED = frozenset({"Curves"})
"""Screens of all studies at once; each study has the others for itself."""


def screen_class(name: str) -> type[StudyScreen]:
    """Return the class of a screen; imports its file only now: the first paint needs but one."""
    module = import_module(f"seedconv_tui.monitor.{name.lower()}.screen")
    return cast("type[StudyScreen]", getattr(module, f"{name}Screen"))


def import_all() -> None:
    """Import what screens would import when they are opened, or draw first."""
    for name in SCREENS:
        screen_class(name)
    import_module("numpy.ma")  # np.unique needs it


def mode_of(screen: str, study: int) -> str:
    """Return the name under which a study's screen is kept."""
    return screen if screen in SHARED or not study else f"{screen} of {study}"
