"""The keys that work on a screen, taken from its bindings so that it cannot be out of date."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from textual import actions
from textual.app import SystemCommand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textual.binding import Binding
    from textual.dom import DOMNode
    from textual.screen import Screen

    from seedconv_tui.monitor.common.canvas import Line
    from seedconv_tui.monitor.common.theme import Appearance

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
    """Return a key's name, as on the keyboard."""
    *modifiers, name = key.split("+")
    return "+".join([*modifiers, _NAMES.get(name, name)])


class Deed(NamedTuple):
    """Something that keys do."""

    keys: str
    name: str
    words: str
    action: str
    node: DOMNode  # the screen, or the app


def deeds(screen: Screen[object]) -> Iterator[Deed]:
    """Return everything that keys do on this screen, then what they do on every screen."""
    for node in (screen, screen.app):
        keys: dict[str, list[str]] = {}
        found: dict[str, Binding] = {}
        for key, binding in node._bindings:
            if not binding.system and binding.description:
                keys.setdefault(binding.action, []).append(key_name(key))
                found[binding.action] = binding
        for action, binding in found.items():
            words = binding.tooltip or binding.description
            yield Deed(", ".join(keys[action]), binding.description, words, action, node)


def help_lines(screen: Screen[object], look: Appearance) -> list[Line]:
    """Return a line for each thing that can be done on this screen: its keys and what they do."""
    palette = look.palette
    return [
        [(f"{deed.keys:<20} ", palette.accent), (deed.words, palette.text)]
        for deed in deeds(screen)
    ]


def commands(screen: Screen[object]) -> Iterator[SystemCommand]:
    """Return the same for the command palette, of what can be done just now."""
    for deed in deeds(screen):
        name, parameters = actions.parse(deed.action)[1:]
        if deed.node.check_action(name, parameters):
            title = deed.name if deed.words == deed.name else f"{deed.name}: {deed.words}"
            do = partial(screen.app.run_action, deed.action, deed.node)
            yield SystemCommand(title, f"keys: {deed.keys}", do)
