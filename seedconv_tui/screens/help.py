"""The keys that work on a screen, taken from its bindings so that it cannot be out of date."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.screen import Screen

    from seedconv_tui.theme import Look
    from seedconv_tui.widgets.canvas import Line

_NAMES = {
    "question_mark": "?",
    "plus": "+",
    "equals_sign": "=",
    "minus": "-",
    "underscore": "_",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "escape": "Esc",
    "enter": "Enter",
    "slash": "/",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "left_curly_bracket": "{",
    "right_curly_bracket": "}",
    "space": "Space",
}


def key_name(key: str) -> str:
    """A key as it is written on the keyboard."""
    *modifiers, name = key.split("+")
    return "+".join([*modifiers, _NAMES.get(name, name)])


def help_lines(screen: Screen[object], look: Look) -> list[Line]:
    """One line for each thing that can be done on this screen: its keys and what they do."""
    keys: dict[str, list[str]] = {}
    words: dict[str, str] = {}
    for node, bindings in ((screen, screen._bindings), (screen.app, screen.app._bindings)):
        for key, binding in bindings:
            if binding.system or not binding.description:
                continue
            action = f"{node is screen.app} {binding.action}"
            keys.setdefault(action, []).append(key_name(key))
            words[action] = binding.tooltip or binding.description
    return [
        [
            (f"{', '.join(names):<20} ", look.palette.accent),
            (words[action], look.palette.text),
        ]
        for action, names in keys.items()
    ]
