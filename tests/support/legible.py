"""Whether a figure can be read as it is printed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Drawing
from matplotlib.text import Text

from seedconv_tui.report import style
from seedconv_tui.report.parts import LINES, Figure, Omitted


def shown_texts(drawing: Drawing) -> Iterator[Text]:
    """All text that is drawn; matplotlib keeps labels of ticks that are out of sight as well."""
    for axes in drawing.axes:
        if not axes.get_visible():
            continue
        yield from (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)
        yield axes.get_title(loc="left") and axes._left_title  # type: ignore[attr-defined]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = axis.get_major_ticks()
            yield from (tick.label1 for tick in ticks if low <= tick.get_loc() <= high)
        if axes.get_legend():
            yield from axes.get_legend().get_texts()
    for legend in drawing.legends:
        yield from legend.get_texts()


def check_legible(figures: Sequence[Figure | Omitted]) -> None:
    """Nothing is clipped, overlaps, is too small, or differs in colour alone."""
    for figure in figures:
        assert isinstance(figure, Figure)
        with style.styled():
            drawing = style.laid_out(figure.draw())
            assert drawing.get_size_inches()[0] in (style.ONE_COLUMN, style.TWO_COLUMNS)
            page, boxes = drawing.bbox.padded(1.5), []
            for text in shown_texts(drawing):
                if text and text.get_visible() and text.get_text().strip():
                    assert text.get_fontsize() >= 7, (figure.name, text)
                    box = text.get_window_extent()
                    assert page.x0 <= box.x0 < box.x1 <= page.x1, (figure.name, text)
                    assert page.y0 <= box.y0 < box.y1 <= page.y1, (figure.name, text)
                    boxes.append((text, box.padded(-1.5)))
            for (a, box), (b, other) in itertools.combinations(boxes, 2):
                assert not box.overlaps(other), (figure.name, a, b)
            for axes in drawing.axes:
                looks = [
                    (str(line._unscaled_dash_pattern), line.get_marker())  # type: ignore[attr-defined]
                    for line in axes.get_lines()
                    if not str(line.get_label()).startswith("_")
                ]
                assert len(looks) == len(set(looks)), f"{figure.name}: colour alone differs"
                colors = [
                    to_hex(line.get_color())
                    for line in axes.get_lines()
                    if not str(line.get_label()).startswith("_")
                ]
                assert len(colors) == len(set(colors)) <= LINES, f"{figure.name}: two of a colour"
