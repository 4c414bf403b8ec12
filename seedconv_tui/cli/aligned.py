"""Tables as commands print them: aligned lines of cells."""

from __future__ import annotations

from collections.abc import Sequence

from seedconv_tui.text import shorten, visible

_LABEL_CELLS = 24  # of a level's label in a table


def level_label(label: str, ascii_only: bool, cells: int = _LABEL_CELLS) -> str:
    """Cut an untrusted label to what a table has room for."""
    return shorten(visible(label, ascii_only), cells, ascii=ascii_only)


def sure(low: float, high: float) -> str:
    """Return a mark where an interval leaves 0 out, else nothing."""
    return "*" if low > 0 or high < 0 else ""


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align cells as lines: the first column to the left, others to the right."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        spaces = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        first = f"  {row[0]}{spaces[0]}"
        rest = [f"{space}{cell}" for cell, space in zip(row[1:], spaces[1:], strict=True)]
        lines.append("  ".join([first, *rest]).rstrip())
    return lines


def p_value(p: float) -> str:
    """Return a p-value in three decimals; `-`: there is none."""
    if p != p:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"
