"""The KL chart: text goldens (UPDATE_GOLDENS=1 rewrites them) and what holds for any picture."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedconv_tui.chart import (
    AXIS,
    BLANK,
    CURSOR,
    LABEL,
    MARK,
    MARKERS,
    QUIET,
    Cells,
    Glyphs,
    Mark,
    Series,
    View,
    draw,
    fit,
)

GOLDENS = Path(__file__).parents[1] / "goldens"
STEPS = np.array(
    [0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 640, 768], dtype=np.float64
)
PHASES = (
    Mark(0, "uniform"),
    Mark(8, "sharp convergence"),
    Mark(48, "sharp divergence"),
    Mark(512, "slow reconvergence"),
)
SURE = (
    Mark(0, "uniform", 0, 0),
    Mark(8, "sharp convergence", 8, 8),
    Mark(48, "sharp divergence", 32, 96),
    Mark(512, "slow reconvergence", 384, 2000),
)


def curve(
    name: str = "tiny", color: int = 0, scale: float = 1.0, std: float | None = None
) -> Series:
    knots = np.log10(np.array([0, 8, 48, 512, 768]) + 1.0)
    y = scale * np.interp(np.log10(STEPS + 1), knots, [0.23, 0.23, 0.13, 0.36, 0.34])
    if std is None:
        return Series(name, STEPS, y, color=color)
    return Series(name, STEPS, y, y - std, y + std, color)


def gap() -> Series:
    series = curve()
    y = series.y.copy()
    y[[4, 5, 9, 11]] = np.nan  # 64 stays alone between two gaps
    return replace(series, y=y)


def crossing() -> list[Series]:
    rising = Series("rising", STEPS, np.linspace(0.05, 0.35, len(STEPS)), color=0)
    return [rising, Series("falling", STEPS, rising.y[::-1].copy(), color=1)]


def banded() -> list[Series]:
    return [curve("large", 0, 1.0, 0.04), curve("small", 1, 0.6, 0.05)]


def floor() -> Series:
    return Series("storage floor", STEPS, np.geomspace(2e-5, 3e-4, len(STEPS)), color=QUIET)


CASES: dict[str, tuple[list[Series], dict[str, Any]]] = {
    "line": ([curve()], {}),
    "band": ([curve(std=0.03)], {"y_label": "expected KL (nats)"}),
    "log_y": ([curve(scale=1e-3, std=2e-5)], {"log_y": True}),
    "log_y_decades": ([Series("s", STEPS, np.geomspace(1e-6, 0.1, len(STEPS)))], {"log_y": True}),
    "gap": ([gap()], {}),
    "marks": ([curve()], {"marks": PHASES, "y_label": "KL"}),
    "cursor": (banded(), {"cursor": 64.0, "marks": PHASES}),
    "zoom": (banded(), {"zoom": (6.0, 60.0), "cursor": 64.0, "marks": PHASES}),
    "crossing": (crossing(), {}),
    "bands": (banded(), {"marks": PHASES, "y_label": "expected KL (nats)"}),
    "point": ([Series("s", np.array([16.0]), np.array([0.2]))], {}),
    "linear_x": (banded(), {"log_x": False, "cursor": 256.0, "marks": PHASES}),
    "linear_x_zoom": (banded(), {"log_x": False, "zoom": (4.0, 640.0)}),
    "intervals": ([curve()], {"marks": SURE, "cursor": 128.0}),
    "floor": ([curve(scale=1e-3), floor()], {"log_y": True}),
    "empty": ([], {"y_label": "expected KL (nats)"}),
}


def picture(case: str, width: int, height: int, glyphs: Glyphs) -> Cells:
    series, options = CASES[case]
    options = dict(options)
    view = fit(series, log_y=options.pop("log_y", False), log_x=options.pop("log_x", True))
    if zoom := options.pop("zoom", None):
        view = view.zoom(*zoom)
    return draw(series, view, width, height, glyphs=glyphs, **options)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("glyphs", Glyphs)
def test_golden(case: str, glyphs: Glyphs) -> None:
    parts = []
    for width, height in ((40, 10), (60, 15)):
        lines = picture(case, width, height, glyphs).lines()
        assert [len(line) for line in lines] == [width] * height
        parts.append("\n".join(line.rstrip() for line in lines))
    drawn = "\n\n".join(parts) + "\n"
    path = GOLDENS / f"chart_{case}_{glyphs}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(drawn, encoding="utf-8")
    assert drawn == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("glyphs", Glyphs)
@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("log_x", [False, True])
@pytest.mark.parametrize("joined", [False, True])
def test_every_point_lights_its_dot(glyphs: Glyphs, log_y: bool, log_x: bool, joined: bool) -> None:
    x = np.unique(np.geomspace(1, 1e5, 40).round())
    y = np.random.default_rng(1).uniform(0.01, 1.0, len(x))
    if not joined:
        x, y = np.repeat(x, 2), np.column_stack([y, np.full(len(y), np.nan)]).ravel()
    series = Series("", x, y)
    view = fit([series], log_y=log_y, log_x=log_x)
    cells = draw([series], view, 77, 23, glyphs=glyphs)
    plot = cells.plot
    across, down = {Glyphs.BRAILLE: (2, 4), Glyphs.BLOCK: (1, 2), Glyphs.ASCII: (1, 1)}[glyphs]
    bits = ((0, 1, 2, 6), (3, 4, 5, 7))  # of a braille pattern, by column and row
    scale = math.log10 if log_y else float
    low, high = scale(view.y_min), scale(view.y_max)
    for step, value in zip(x, y, strict=True):
        if math.isnan(value):
            continue
        part = (step - view.x_min) / (view.x_max - view.x_min)
        if log_x:
            part = math.log10((step + 1) / (view.x_min + 1)) / math.log10(
                (view.x_max + 1) / (view.x_min + 1)
            )
        column = round(part * (plot.columns * across - 1))
        row = round((high - scale(value)) / (high - low) * (plot.rows * down - 1))
        at = plot.top + row // down, plot.left + column // across
        assert plot.column_of(step) == at[1]
        assert cells.color[at] == 0
        if glyphs is Glyphs.BRAILLE:
            lit = ord(str(cells.text[at])) - 0x2800
            assert lit >> bits[column % 2][row % 4] & 1
        elif glyphs is Glyphs.BLOCK:
            assert cells.text[at] in ("▀█", "▄█")[row % 2]
        else:
            assert cells.text[at] == MARKERS[0]


@pytest.mark.parametrize("glyphs", Glyphs)
def test_a_line_has_no_holes(glyphs: Glyphs) -> None:
    cells = draw([curve()], fit([curve()]), 90, 20, glyphs=glyphs, names=False)
    plot = cells.plot
    rows, columns = np.nonzero(cells.color >= 0)
    assert set(columns) == set(range(plot.left, plot.left + plot.columns))
    for column in range(plot.left, plot.left + plot.columns - 1):
        here, there = rows[columns == column], rows[columns == column + 1]
        assert np.abs(here[:, None] - there).min() <= 1


@pytest.mark.parametrize("glyphs", Glyphs)
def test_series_never_mix(glyphs: Glyphs) -> None:
    rng = np.random.default_rng(0)
    many = [Series("", STEPS, rng.uniform(0, 1, len(STEPS)), color=c) for c in range(4)]
    many = [replace(s, low=s.y - 0.1, high=s.y + 0.1) for s in many]
    view = View(0, 768, 0, 1)
    together = draw(many, view, 70, 20, glyphs=glyphs)
    alone = [draw([s], view, 70, 20, glyphs=glyphs) for s in many]
    lines = [(cells.color == c) & ~cells.dim for c, cells in enumerate(alone)]
    hidden = np.zeros_like(lines[0])
    for c in reversed(range(4)):  # the last one is on top
        on_top = lines[c] & ~hidden
        assert (together.color[on_top] == c).all()
        assert (together.text[on_top] == alone[c].text[on_top]).all()
        assert not together.dim[on_top].any()
        hidden |= lines[c]
    bands = together.dim
    assert bands.any()
    assert not (bands & hidden).any()
    for c in range(4):
        own = bands & (together.color == c)
        assert (together.text[own] == alone[c].text[own]).all()


@pytest.mark.parametrize("glyphs", Glyphs)
def test_cursor_marks_and_names_hide_no_line(glyphs: Glyphs) -> None:
    series = banded()
    view = fit(series)
    frame = {"glyphs": glyphs, "y_label": "KL"}
    with_marks = draw(series, view, 60, 16, marks=PHASES, cursor=64.0, names=True, **frame)  # type: ignore[arg-type]
    assert {CURSOR, MARK, AXIS, LABEL, BLANK} <= set(np.unique(with_marks.color).tolist())
    plot = with_marks.plot
    # The same plot area without any of it: no header but the one row that marks and label share.
    bare = draw(
        series,
        view,
        plot.left + plot.columns,
        plot.rows + 2,
        glyphs=glyphs,
        names=False,
    )
    assert (bare.plot.rows, bare.plot.columns) == (plot.rows, plot.columns)
    inside = np.s_[plot.top : plot.top + plot.rows, : plot.left + plot.columns]
    lines = (bare.color[: plot.rows] >= 0) & ~bare.dim[: plot.rows]
    assert lines.any()
    assert (with_marks.text[inside][lines] == bare.text[: plot.rows][lines]).all()
    assert (with_marks.color[inside][lines] == bare.color[: plot.rows][lines]).all()


def test_names_stand_where_lines_end() -> None:
    cells = draw(banded(), fit(banded()), 80, 16)
    large, small = (
        next(row for row, line in enumerate(cells.lines()) if name in line)
        for name in ("large", "small")
    )
    assert large < small
    at = cells.lines()[small].index("small")
    assert (cells.color[small, at : at + 5] == 1).all()
    same = [curve("first", 0), curve("second", 1)]
    shown = "".join(draw(same, fit(same), 80, 16).lines())
    assert "first" in shown
    assert "second" in shown


def test_marks_give_way_to_each_other() -> None:
    def header(width: int, marks: tuple[Mark, ...] = PHASES) -> str:
        return draw([curve()], fit([curve()]), width, 12, marks=marks).lines()[0]

    assert "sharp convergence" in header(120)
    assert "sharp" not in header(50)
    assert "convergence" in header(60)
    assert "con" in header(40)
    assert "convergence" not in header(40)
    twins = (Mark(48, "first"), Mark(48, "second"))
    assert header(80, twins).split() == ["second"]


@pytest.mark.parametrize("glyphs", Glyphs)
def test_any_size_works(glyphs: Glyphs) -> None:
    log = fit(banded(), log_y=True)
    for width in range(31):
        for height in range(13):
            for view in (fit(banded()), log, log.zoom(8, 64)):
                cells = draw(
                    banded(),
                    view,
                    width,
                    height,
                    marks=PHASES,
                    cursor=64.0,
                    glyphs=glyphs,
                    y_label="expected KL (nats)",
                )
                assert cells.text.shape == cells.color.shape == cells.dim.shape == (height, width)
                if width and height:
                    assert (cells.color >= 0).any(), f"no data at {width}x{height}"


def test_ascii_is_ascii_and_controls_are_not_emitted() -> None:
    evil = "\x1b[31m\u202eé漢\x07\ud800"
    series = [curve(evil, 0, std=0.02), curve(evil, 7, 0.5)]
    marks = [Mark(48, evil)]
    for glyphs in Glyphs:
        cells = draw(
            series,
            fit(series),
            120,
            20,
            marks=marks,
            glyphs=glyphs,
            y_label=evil,
            x_label=evil,
        )
        text = "".join(cells.lines())
        assert text.isprintable()
        assert text.isascii() == (glyphs is Glyphs.ASCII)
        assert "31m" in text


def test_wide_characters_take_two_cells() -> None:
    from rich.cells import cell_len

    series = [curve("漢字模型"), curve("e\u0301te\u0301", 1, 0.5)]
    lines = draw(series, fit(series), 80, 12, marks=[Mark(48, "漢字")]).lines()
    assert "漢字模型" in "".join(lines)
    assert "été" in "".join(lines)
    assert {cell_len(line) for line in lines} == {80}


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    "y",
    [
        [np.nan] * 3,
        [0.0] * 3,
        [0.5] * 3,
        [-1.0, 0.0, np.nan],
        [np.inf, 1.0, -np.inf],
        [1e-300, 1e300, 1.0],
        [5e-324, 5e-324, 0.0],
    ],
)
def test_odd_values(y: list[float], log_y: bool) -> None:
    series = Series("s", np.array([0.0, 1.0, 10.0]), np.array(y))
    view = fit([series], log_y=log_y)
    cells = draw([series], view, 50, 12)
    shown = [value for value in y if math.isfinite(value) and (value > 1e-299 or not log_y)]
    assert (cells.color >= 0).any() == bool(shown)
    assert all(view.y_min <= value <= view.y_max for value in shown)


def test_lines_into_and_out_of_a_view_are_clipped_not_dropped() -> None:
    series = Series("", np.array([0.0, 9999.0]), np.array([0.0, 1.0]))
    cells = draw([series], View(9, 999, 0.0, 1.0), 60, 15)
    plot = cells.plot
    lit = np.argwhere(cells.color == 0)
    assert lit[:, 1].min() == plot.left
    assert lit[:, 1].max() == plot.left + plot.columns - 1
    # From a quarter to three quarters of the way up, as 10 and 1000 are of the way to 10,000.
    assert abs((lit[:, 0].max() - plot.top + 0.5) / plot.rows - 0.75) < 0.1
    assert abs((lit[:, 0].min() - plot.top + 0.5) / plot.rows - 0.25) < 0.1


def test_fit_shows_all_and_starts_at_zero() -> None:
    view = fit(banded())
    assert (view.x_min, view.x_max, view.y_min) == (0, 768, 0)
    assert 0.40 <= view.y_max <= 0.45
    flat = np.ones(len(STEPS))
    log = fit([Series("s", STEPS, 1e-3 * flat, 1e-9 * flat)], log_y=True)
    assert log.y_min > 1e-5  # the band's foot does not take all the room
    below = fit([Series("s", STEPS, np.full(len(STEPS), -0.1))])
    assert below.y_min == -0.1


def test_zoom_keeps_its_place_and_its_limits() -> None:
    whole = fit([curve()])
    near = whole.zoom(4, 64)
    column = draw([curve()], whole, 80, 10).plot.column_of(64)
    assert draw([curve()], near, 80, 10).plot.column_of(64) == column
    assert near.zoom(1 / 4, 64) == whole
    assert near.pan(-100).x_min == 0
    assert near.pan(100).x_max == pytest.approx(768)
    span = math.log10((near.x_max + 1) / (near.x_min + 1))
    moved = near.pan(0.5)
    assert moved.x_min > near.x_min
    assert math.log10((moved.x_max + 1) / (moved.x_min + 1)) == pytest.approx(span)
    for step in (0.0, 100.0, 768.0):
        closest = whole.zoom(1e9, step)
        assert closest.x_min <= step <= closest.x_max * (1 + 1e-9)
        assert closest.x_max - closest.x_min >= 1


def test_a_linear_axis_zooms_pans_and_reveals() -> None:
    whole = fit([curve()], log_x=False)
    near = whole.zoom(4, 384)
    assert (near.x_min, near.x_max) == pytest.approx((288, 480))
    assert near.zoom(1 / 4, 384) == whole
    moved = near.pan(0.5)
    assert (moved.x_min, moved.x_max) == pytest.approx((384, 576))
    assert near.pan(100).x_max == 768
    assert near.reveal(400) == near
    assert near.reveal(200).x_min == pytest.approx(200)
    assert near.reveal(700).x_max == pytest.approx(700)
    closest = whole.zoom(1e9, 100)
    assert closest.x_max - closest.x_min == pytest.approx(4)


def test_reveal_moves_a_logarithmic_view_no_further_than_needed() -> None:
    near = fit([curve()]).zoom(4, 64)
    assert near.reveal(64) == near
    for step in (2.0, 700.0):
        shown = near.reveal(step)
        assert step == pytest.approx(min(max(step, shown.x_min), shown.x_max))
        assert step in (pytest.approx(shown.x_min), pytest.approx(shown.x_max))


def test_intervals_of_marks_end_where_they_should() -> None:
    cells, plain = (picture(case, 60, 15, Glyphs.BRAILLE) for case in ("intervals", "line"))
    line = cells.plot.top + cells.plot.rows
    doubled = {at for at, sign in enumerate(cells.lines()[line]) if sign in "═╪╤"}
    expected: set[int] = set()
    for low, high in ((32, 96), (384, 768)):  # what lies outside the view is cut
        first, last = cells.plot.column_of(low), cells.plot.column_of(high)
        assert first is not None
        assert last is not None
        expected |= set(range(first, last + 1))
    assert doubled == expected
    assert (cells.color[line, sorted(doubled)] == MARK).all()
    assert not set("═╪╤") & set("".join(plain.lines()))
    left = fit([curve()]).zoom(8, 2)
    out_of_sight = draw([curve()], left, 60, 15, marks=SURE).lines()[-2]
    assert not set("═╪╤") & set(out_of_sight)


@pytest.mark.parametrize("log_x", [False, True])
def test_columns_map_to_steps_and_back(log_x: bool) -> None:
    for glyphs in Glyphs:
        plot = draw([curve()], fit([curve()], log_x=log_x), 80, 10, glyphs=glyphs).plot
        for column in range(plot.left, plot.left + plot.columns):
            assert plot.column_of(plot.x_at(column)) == column
        assert plot.column_of(1e6) is None
        assert plot.x_at(0) == 0
        assert plot.x_at(1000) == pytest.approx(768)


def test_refused_input() -> None:
    ok = np.array([0.0, 1.0])
    for x, y in ((ok[::-1], ok), (ok - 1, ok), (np.array([0, np.nan]), ok), (ok, ok[:1])):
        with pytest.raises(ValueError, match="series 's'"):
            Series("s", x, y)
    nan, inf = math.nan, math.inf
    for bad in ((5, 5, 0, 1), (-1, 5, 0, 1), (0, 5, 1, 1), (0, 5, 0, nan), (0, 5, 0, inf)):
        with pytest.raises(ValueError, match="no "):
            View(*bad)
    with pytest.raises(ValueError, match="log axis"):
        View(0, 1, 0, 1, log_y=True)


def test_tick_labels_are_true_steps() -> None:
    series = [Series("s", np.array([0.0, 143_000.0]), np.array([0.1, 0.2]))]
    cells = draw(series, fit(series), 100, 20)
    assert cells.lines()[-1].split() == ["step", "0", "1", "10", "100", "1k", "10k", "143k"]
    for label, step in (("0", 0), ("1", 1), ("100", 100), ("10k", 10_000)):
        at = f" {cells.lines()[-1]} ".index(f" {label} ") + (len(label) - 1) // 2
        assert cells.plot.column_of(step) == at
        assert cells.text[-2, at] == "┼"


@pytest.mark.parametrize("log_x", [True, False])
@pytest.mark.parametrize("width", [30, 60, 100, 250])
def test_the_first_and_the_last_step_are_labelled(log_x: bool, width: int) -> None:
    for last in (7, 512, 999, 1001, 14_321, 143_000):
        series = [Series("s", np.array([0.0, 1.0, last]), np.array([0.1, 0.2, 0.1]))]
        cells = draw(series, fit(series, log_x=log_x), width, 20, names=False)
        labels = cells.lines()[-1].split()
        assert labels[:2] == ["step", "0"] or labels[0] == "0"
        assert labels[-1] == ("143k" if last == 143_000 else str(last))
        assert cells.text[-2, cells.plot.column_of(last)] == "┼"
    view = fit(series, log_x=log_x).zoom(4, 0.0)  # the last step is not in view
    assert "143k" not in draw(series, view, width, 20).lines()[-1]


def test_imports_numpy_only() -> None:
    """And of the store how numbers are written, and its errors, which import nothing."""
    code = "import sys, seedconv_tui.chart; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert "numpy" in loaded
    assert not {"rich", "textual", "zarr", "engine"} & {name.partition(".")[0] for name in loaded}
    assert {name for name in loaded if name.startswith("store.")} == {
        "store.errors",
        "store.words",
    }


def test_series_without_steps() -> None:
    none = np.empty(0)
    series = [Series("none", none, none, none, none), curve(std=0.02)]
    assert fit(series) == fit(series[1:])
    assert fit(series[:1]) == fit([])
    assert (draw(series, fit(series), 40, 10).color >= 0).any()
