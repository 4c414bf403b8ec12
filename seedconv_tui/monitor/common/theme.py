"""Colours and signs: what each state and series looks like, in colour and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rich.style import Style
from textual.theme import Theme

from seedconv_tui.chart import Glyphs
from seedconv_tui.text import shorten, shorten_apart, visible
from store.schema import State


@dataclass(frozen=True)
class Palette:
    """One theme's colours as styles; the background is the widget's except in a heat map.

    Every colour was chosen so that its nearest neighbours among the 256 and the 16 standard
    colours stay apart from each other and from the background.
    """

    text: Style
    dim: Style
    faint: Style  # rules and axes
    strong: Style
    accent: Style
    good: Style
    warn: Style
    bad: Style
    states: dict[State, Style]
    series: tuple[Style, ...]
    heat: tuple[Style, ...]  # from little to much, with backgrounds of their own; the first: none
    cool: tuple[Style, ...]  # the same for what falls
    sixteen: tuple[tuple[Style, ...], tuple[Style, ...]]  # both, for terminals of 16 colours

    @property
    def for_sixteen(self) -> Palette:
        """The palette with heat that 16 colours can distinguish; it is too loud for more."""
        heat, cool = self.sixteen
        return replace(self, heat=heat, cool=cool)

    def level(self, level: str) -> Style:
        """Return the style of a journal level."""
        return {"warning": self.warn, "error": self.bad}.get(level, self.dim)


@dataclass(frozen=True)
class Sign:
    """The look of a state: one cell wide, different for every state."""

    glyph: str
    ascii: str


SIGNS: dict[State, Sign] = {
    State.ABSENT: Sign(" ", " "),
    State.QUEUED: Sign("·", "."),
    State.READING: Sign("▹", "r"),
    State.SCORING: Sign("▸", ">"),
    State.SCORED: Sign("▪", "+"),
    State.REDUCING: Sign("◆", "%"),
    State.DONE: Sign("■", "#"),
    State.FAILED: Sign("×", "X"),  # noqa: RUF001  it is in every font
    State.MISSING: Sign("?", "?"),
    State.PRUNED: Sign("□", "o"),
    State.DUPLICATE: Sign("=", "="),
}

RELEVANCE: tuple[State, ...] = (
    State.ABSENT,
    State.PRUNED,
    State.DONE,
    State.SCORED,
    State.QUEUED,
    State.DUPLICATE,
    State.MISSING,
    State.REDUCING,
    State.READING,
    State.SCORING,
    State.FAILED,
)
"""From what matters least to what matters most: the state that stands for several checkpoints."""


@dataclass(frozen=True)
class Appearance:
    """The present look: glyphs, colours, theme."""

    palette: Palette
    ascii: bool
    glyphs: Glyphs = Glyphs.BRAILLE  # of charts; ASCII only where nothing else may be sent

    def sign(self, state: State) -> str:
        """Return the glyph of a state."""
        sign = SIGNS[state]
        return sign.ascii if self.ascii else sign.glyph

    def pick(self, glyph: str, plain: str) -> str:
        """Return `glyph`, or `plain` where only ASCII may be sent."""
        return plain if self.ascii else glyph

    def visible(self, text: str) -> str:
        """Return text from outside, safe to draw."""
        return visible(text, self.ascii)

    def shorten(self, text: str, width: int) -> str:
        """Return text cut to a width; what is cut off is seen to be."""
        return shorten(text, width, ascii=self.ascii)

    def shorten_apart(self, texts: Sequence[str], width: int) -> list[str]:
        """Return texts cut to a width so that two that differ still do."""
        return shorten_apart(texts, width, ascii=self.ascii)

    @property
    def dot(self) -> str:
        """Return what stands between two facts on one line."""
        return self.pick(" · ", " | ")

    @property
    def more(self) -> str:
        """Return what stands for text that was cut off, or facts that were left out."""
        return self.pick("…", "~")

    @property
    def rule(self) -> str:
        """Return what a horizontal rule is made of."""
        return self.pick("─", "-")

    def bar(self, fraction: float, width: int) -> tuple[str, str]:
        """Return the filled and the empty part of a progress bar."""
        filled = int(min(max(fraction, 0.0), 1.0) * width)
        return self.pick("━", "#") * filled, self.pick("┄", "-") * (width - filled)


class HasLook(Protocol):
    """An app that says how things are drawn."""

    @property
    def look(self) -> Appearance:
        """Return how things are drawn just now."""
        ...

    @property
    def behind(self) -> bool:
        """Return whether the terminal has yet to take what it was sent before."""
        ...


def _palette(
    text: str,
    dim: str,
    faint: str,
    accent: str,
    good: str,
    done: str,
    warn: str,
    bad: str,
    series: str,
    heat: str,
    cool: str,
    loud_heat: str,
    loud_cool: str,
    on_last: str,
) -> Palette:
    return Palette(
        text=Style(color=text),
        dim=Style(color=dim),
        faint=Style(color=faint),
        strong=Style(color=text, bold=True),
        accent=Style(color=accent, bold=True),
        good=Style(color=good),
        warn=Style(color=warn),
        bad=Style(color=bad, bold=True),
        states={
            State.ABSENT: Style(),
            State.QUEUED: Style(color=dim),
            State.READING: Style(color=accent),
            State.SCORING: Style(color=accent, bold=True),
            State.SCORED: Style(color=text),
            State.REDUCING: Style(color=accent),
            State.DONE: Style(color=done),
            State.FAILED: Style(color=bad, bold=True),
            State.MISSING: Style(color=warn),
            State.PRUNED: Style(color=done),
            State.DUPLICATE: Style(color=warn, bold=True),
        },
        series=tuple(Style(color=color) for color in series.split()),
        heat=_ramp(text, heat, on_last),
        cool=_ramp(text, cool, on_last),
        sixteen=(_ramp(text, loud_heat, on_last), _ramp(text, loud_cool, on_last)),
    )


def _ramp(text: str, backgrounds: str, on_last: str) -> tuple[Style, ...]:
    """Return text on each background; the highest is bold, so that it is seen without colours."""
    *lower, last = backgrounds.split()
    steps = [Style(color=text, bgcolor=color) for color in lower]
    return (Style(color=text), *steps, Style(color=on_last, bgcolor=last, bold=True))


DARK = Theme(
    name="seedconv-dark",
    primary="#55d7ff",
    foreground="#e2e5ea",
    background="#0f1115",
    surface="#15181e",
    panel="#1c2128",
    error="#ff6b6b",
    warning="#f0c050",
    success="#5fd068",
    dark=True,
)
LIGHT = Theme(
    name="seedconv-light",
    primary="#0b5fd0",
    foreground="#1c1f24",
    background="#fbfbf8",
    surface="#f3f3ee",
    panel="#e8e8e0",
    error="#b00000",
    warning="#8a5a00",
    success="#0e750e",
    dark=False,
)

PALETTES: dict[str, Palette] = {
    DARK.name: _palette(
        text="#e2e5ea",
        dim="#9aa2b0",
        faint="#7a8290",
        accent="#55d7ff",
        good="#5fd068",
        done="#35a845",
        warn="#f0c050",
        bad="#ff6b6b",
        series="#55d7ff #ffd166 #ff79c6 #7ee787 #ff7b72 #6c7cff #ffffff #c58a2b",
        heat="#1d2a4a #1b5560 #7a5200 #a32424 #ffd166",
        cool="#1d2a4a #1b5560 #55d7ff",
        loud_heat="#1020a0 #007080 #8a5a00 #b02020 #ffd166",
        loud_cool="#1020a0 #007080 #55d7ff",
        on_last="#0f1115",
    ),
    LIGHT.name: _palette(
        text="#1c1f24",
        dim="#5f646d",
        faint="#777777",
        accent="#0b5fd0",
        good="#0e750e",
        done="#3c9a3c",
        warn="#8a5a00",
        bad="#b00000",
        series="#0b5fd0 #b00000 #0e750e #a000a0 #007a8a #8a5a00 #1c1f24 #0000a0",
        heat="#e0e6ee #b9e0e6 #ffe48f #ffb07a #c02020",
        cool="#e0e6ee #b9e0e6 #1030c0",
        loud_heat="#b8c0c8 #7fe0e8 #ffe75f #ff9d5c #c02020",
        loud_cool="#b8c0c8 #7fe0e8 #1030c0",
        on_last="#ffffff",
    ),
}
