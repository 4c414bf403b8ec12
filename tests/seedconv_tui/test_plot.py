"""`seedconv plot`, the table by step, and how text and numbers are written."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from seedconv_tui import text
from seedconv_tui.chart import Glyphs
from seedconv_tui.chart.level_plot import LevelCurve, plot_levels
from seedconv_tui.chart.plot import plot_text, table_rows, table_text
from seedconv_tui.cli.study_status import status_json, status_text
from store.schema import ModelSnapshot, Phase, State, StudySnapshot

GOLDENS = Path(__file__).parents[1] / "goldens"
STEPS = np.array([0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 640, 768])
PHASES = (
    Phase("uniform", 0),
    Phase("sharp convergence", 8),
    Phase("sharp divergence", 48),
    Phase("slow reconvergence", 512),
)


def model(name: str = "tiny", scale: float = 1.0, seeds: int = 3) -> ModelSnapshot:
    """KL differs by pair such that the mean is the curve and the standard deviation 0.1 of it."""
    knots = np.log10(np.array([0, 8, 48, 512, 768]) + 1.0)
    curve = scale * np.interp(np.log10(STEPS + 1), knots, [0.23, 0.23, 0.13, 0.36, 0.34])
    above = np.sign(np.arange(seeds)[:, None] - np.arange(seeds))  # +1 or -1, 0 for i == i
    kl = curve[:, None, None] * np.where(above == 0, np.nan, 1 + 0.1 * above)
    shape = (len(STEPS), seeds)
    return ModelSnapshot(
        name=name,
        seeds=tuple(str(seed) for seed in range(seeds)),
        steps=STEPS,
        state=np.full(shape, State.DONE, dtype=np.uint8),
        kl=kl,
        cross_entropy=np.full(shape, 5.0),
        entropy=np.full(shape, 4.0),
        storage_floor=np.full(len(STEPS), 2e-6),
        noise_floor=np.zeros(len(STEPS)),
        phases=PHASES,
    )


def study(*models: ModelSnapshot, name: str = "demo") -> StudySnapshot:
    return StudySnapshot(Path("x.zarr"), name, 60_000, 4096, 1, models)


def unreduced(of: ModelSnapshot) -> ModelSnapshot:
    return replace(of, kl=np.full_like(of.kl, np.nan), phases=())


def only(of: ModelSnapshot, *, n: int) -> ModelSnapshot:
    """A model of `n` steps, of which only what `table_rows` reads is filled."""
    steps = np.arange(n)
    kl = np.full((n, 2, 2), np.nan)
    kl[:, 0, 1] = kl[:, 1, 0] = 1 + 0.5 * np.sin(steps)
    wide = np.full((n, 2), 5.0)
    state = wide.astype(np.uint8)
    return ModelSnapshot(of.name, ("0", "1"), steps, state, kl, wide, wide, wide[:, 0], {}, PHASES)


@pytest.mark.parametrize("glyphs", Glyphs)
def test_golden(glyphs: Glyphs) -> None:
    snapshot = study(model(), model("small-14m", 0.6, 5))
    drawn = plot_text(snapshot, width=80, height=16, glyphs=glyphs) + "\n\n"
    drawn += table_text(model(), limit=10, ascii=glyphs is Glyphs.ASCII) + "\n"
    path = GOLDENS / f"plot_{glyphs}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(drawn, encoding="utf-8")
    assert drawn == path.read_text(encoding="utf-8")
    assert "\x1b" not in drawn
    assert drawn.isascii() == (glyphs is Glyphs.ASCII)


def test_more_models_than_colours_have_more_charts() -> None:
    models = [model(f"m{n:02}", 1 + n / 10) for n in range(10)]
    shown = plot_text(study(*models), width=80, height=12, color=True)
    first, second = shown.split("expected KL (nats)")[1:]
    for chart, names in ((first, models[:7]), (second, models[7:])):
        legend = [line for line in chart.splitlines() if "━━" in line]
        assert [re.sub(r"\x1b\[\d+m", "", line).split()[1] for line in legend] == [
            each.name for each in names
        ]
        colors = [re.findall(r"\x1b\[(\d+)m", line)[0] for line in legend]
        assert len(set(colors)) == len(colors) <= 7


def curve(label: str, n: int, *, kl: float = 0.2) -> LevelCurve:
    values = kl * (1 + 0.1 * np.sin(np.arange(len(STEPS))))
    return LevelCurve(label, n, STEPS, values, 0.9 * values, 1.2 * values)


@pytest.mark.parametrize("glyphs", Glyphs)
def test_levels_are_told_apart(glyphs: Glyphs) -> None:
    curves = [curve(label, 100 + n, kl=0.1 * (n + 1)) for n, label in enumerate(",;.ABCDEF")]
    shown = plot_levels(
        "a\x1b[2J", curves, left_out=3, width=80, height=12, glyphs=glyphs, color=True
    )
    plain = re.sub(r"\x1b\[\d+m", "", shown)
    assert "\x1b" not in plain, "names are shown, never obeyed"
    assert plain.count("expected KL (nats)") == 2
    rows = [line for line in shown.splitlines() if "to 0." in line]
    assert len(rows) == len(curves)
    labels = ['","', '";"', '"."', *"ABCDEF"]
    assert [re.sub(r"\x1b\[\d+m", "", row).split()[1] for row in rows] == labels
    assert len({re.findall(r"\x1b\[(\d+)m", row)[0] for row in rows[:7]}) == 7
    last = curves[-1].kl
    assert f"0.{round(last[-1] * 1e4):04} @ 768" in plain.splitlines()[-2]
    assert plain.endswith("left out: 3 levels with fewer tokens; --level draws one")
    one = plot_levels("t", curves[:1], width=80, height=12, glyphs=glyphs)
    assert "band: 95 % interval" in one
    assert "band" not in plain


def test_colour_adds_only_escapes() -> None:
    snapshot = study(model(), model("small-14m", 0.6, 5))
    plain = plot_text(snapshot, width=80, height=16)
    coloured = plot_text(snapshot, width=80, height=16, color=True)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert bare != coloured
    assert [line.rstrip() for line in bare.split("\n")] == plain.split("\n")
    assert coloured.count("\x1b[0m") * 2 == coloured.count("\x1b[")


def test_says_what_is_there() -> None:
    drawn = plot_text(study(model()), width=80, height=16, log_y=True)
    assert "60,000 tokens" in drawn
    assert "standard deviation over ordered pairs" in drawn
    row = next(line for line in drawn.split("\n") if "━━ tiny" in line)
    assert " ".join(row.split()[2:]) == "3 19 0.2300 @ 0 0.1300 @ 48 0.3400 @ 768"
    assert "sharp divergence from 48" in drawn
    assert "rounding floor" not in drawn
    stored = model(scale=1e-5)
    scored = replace(
        stored, storage_floor=np.zeros(len(STEPS)), noise_floor=np.full(len(STEPS), 2e-6)
    )
    for low in (stored, scored):
        drawn = plot_text(study(low), width=80, height=16)
        assert "6 of 19 steps are below the rounding floor (up to 2.0e-06 nats)" in drawn


def test_seeds_that_are_missing_are_said() -> None:
    part = model(seeds=4)
    part.kl[-1, 3], part.kl[-1, :, 3] = np.nan, np.nan
    assert "3-4" in plot_text(study(part), width=80, height=16)


def test_phases_are_marked_only_where_all_agree() -> None:
    other = replace(model("other"), phases=(Phase("uniform", 0), Phase("late", 100)))
    drawn = plot_text(study(model(), other), width=80, height=16)
    chart = drawn[: drawn.index("band:")]
    assert "divergence" not in chart
    assert "late from 100" in drawn
    alone = plot_text(study(model(), other), width=80, height=16, models=["other"])
    assert "late" in alone[: alone.index("band:")]
    assert "tiny" not in alone


def test_phases_are_said_with_the_intervals_of_their_starts() -> None:
    sure = (Phase("uniform", 0, 0, 0, 1.0), Phase("sharp divergence", 48, 32, 64, 0.9))
    unsure = (sure[0], replace(sure[1], low=24))
    one = plot_text(study(replace(model(), phases=sure)), width=80, height=16)
    assert "phases: uniform from 0, sharp divergence from 48 (32-64)" in one
    both = study(replace(model(), phases=sure), replace(model("other"), phases=unsure))
    drawn = plot_text(both, width=80, height=16)
    assert "divergence" in drawn[: drawn.index("band:")]  # starts agree
    assert "from 48 (32-64)" in drawn
    assert "from 48 (24-64)" in drawn
    assert "sharp divergence from 48 (32-64)" in status_text(both)
    assert status_json(both)["models"][1]["phases"][1] == {
        "name": "sharp divergence",
        "start": 48,
        "low": 24,
        "high": 64,
        "support": 0.9,
    }


def test_without_results() -> None:
    none = plot_text(study(), width=80, height=16)
    assert none == "demo: no divergences yet, 0 of 0 checkpoints scored; a step needs two seeds"
    queued = unreduced(model())
    queued.state[5:] = State.QUEUED
    queued.state[-1] = State.ABSENT
    line = plot_text(study(queued), width=80, height=16)
    assert "15 of 54 checkpoints scored" in line
    both = plot_text(study(model(), unreduced(model("late"))), width=80, height=16)
    assert re.search(r"late +no step compared yet", both)


def test_unknown_model() -> None:
    with pytest.raises(ValueError, match="no model 'huge' in this study, only tiny"):
        plot_text(study(model()), width=80, height=16, models=["huge"])


def test_untrusted_names_are_shown_not_obeyed() -> None:
    evil = "a\x1b]0;t\x07\u202eb"
    snapshot = study(replace(model(evil), phases=(Phase(evil, 8),)), name=evil)
    for glyphs in Glyphs:
        drawn = plot_text(snapshot, width=80, height=16, glyphs=glyphs)
        drawn += table_text(snapshot.models[0], ascii=glyphs is Glyphs.ASCII)
        assert drawn.replace("\n", "").isprintable()
        assert drawn.isascii() == (glyphs is Glyphs.ASCII)


def test_table_is_whole_where_it_is_short() -> None:
    rows, note = table_rows(model())
    assert [row.step for row in rows] == STEPS.tolist()
    assert note == ""
    row = rows[9]
    assert (row.n_seeds, row.n_pairs, row.phase) == (3, 6, "sharp divergence")
    assert row.expected_kl == pytest.approx(0.13)
    assert row.pair_std == pytest.approx(0.013)
    assert row.cross_entropy == 5


@pytest.mark.parametrize("n", [21, 40, 154, 1000])
@pytest.mark.parametrize("limit", [4, 20])
def test_table_is_thinned_and_says_so(n: int, limit: int) -> None:
    many = only(model(), n=n)
    rows, note = table_rows(many, limit=limit)
    kl = many.expected_kl
    steps = [row.step for row in rows]
    assert {0, int(kl.argmin()), int(kl.argmax()), n - 1} <= set(steps)
    assert steps == sorted(set(steps))
    assert len(steps) <= limit
    every = int(re.search(r"every (\d+)", note).group(1))  # type: ignore[union-attr]
    assert set(range(0, n, every)) <= set(steps)
    assert f"of {n} steps" in note
    assert note in table_text(many, limit=limit)


def test_table_of_unreduced_steps() -> None:
    part = model()
    part.kl[3] = np.nan
    part.kl[4] = np.nan
    part.cross_entropy[4] = np.nan
    rows, _ = table_rows(part)
    assert [row.step for row in rows] == [step for step in STEPS.tolist() if step != 8]
    assert rows[3].n_seeds == 0
    assert re.search(r"^ +4 +0 +0 +- +- +5.0000 ", table_text(part), re.MULTILINE)
    blank = replace(unreduced(part), cross_entropy=np.full_like(part.cross_entropy, np.nan))
    assert table_text(blank) == "tiny: nothing scored yet"
    assert table_rows(blank) == ([], "")
    scored, note = table_rows(replace(only(part, n=50), kl=np.full((50, 2, 2), np.nan)), limit=10)
    assert (scored[0].step, scored[-1].step) == (0, 49)
    assert note


@pytest.mark.parametrize(
    ("raw", "shown", "as_ascii"),
    [
        ("plain é 漢 🙂", "plain é 漢 🙂", "plain \\xe9 \\u6f22 \\U0001f642"),
        ("\x1b[31m\r\n\x00", "␛[31m␍␊␀", "\\x1b[31m\\r\\n\\x00"),
        ("\x7f\x85\x9b", "␡\\x85\\x9b", "\\x7f\\x85\\x9b"),
        ("\u202e\u2066\u200b\ufeff\u00ad", "\\u202e\\u2066\\u200b\\ufeff\\xad", None),
        ("\ud800\U000e0041\u2028", "\\ud800\\U000e0041\\u2028", None),
        ("a\u00a0b", "a\u00a0b", "a\\xa0b"),
    ],
)
def test_visible(raw: str, shown: str, as_ascii: str | None) -> None:
    assert text.visible(raw) == shown
    assert text.visible(raw, ascii=True) == (shown if as_ascii is None else as_ascii)


def test_visible_leaves_nothing_that_acts() -> None:
    spaces = {0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000}
    for code in range(0x110000):
        shown = text.visible(chr(code))
        assert shown.isprintable() or code in spaces
    assert text.visible("".join(map(chr, range(0x3000))), ascii=True).isascii()


def test_shorten_counts_cells() -> None:
    assert text.shorten("pythia-14m", 10) == "pythia-14m"
    assert text.shorten("pythia-14m", 7) == "pythia…"
    assert text.shorten("pythia-14m", 7, ascii=True) == "pythia~"
    for width in range(12):
        assert cell_len(text.shorten("漢字模型漢字", width)) <= width
    assert text.shorten("x", 0) == ""


def test_units_and_cut() -> None:
    assert text.units_of("a漢e\u0301\u20dd") == ["a", "漢", "", "é"]
    assert text.cut(list("abcdef"), 4, "~") == ["a", "b", "c", "~"]
    assert text.cut(text.units_of("a漢字"), 3, "~") == ["a", "~"]
    assert text.cut(text.units_of("a漢字"), 4, "~") == ["a", "漢", "", "~"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.34123, "0.3412"),
        (1.2345, "1.2345"),
        (12.3456, "12.346"),
        (123.456, "123.46"),
        (12345.6, "1.2e+04"),
        (1.23e-5, "1.2e-05"),
        (-1.23e-5, "-1.2e-05"),
        (0.0, "0.0000"),
        (float("nan"), "-"),
        (float("-inf"), "-inf"),
    ],
)
def test_nats(value: float, shown: str) -> None:
    assert text.nats(value) == shown
    assert len(shown) <= 8


def test_quantities() -> None:
    assert [
        text.step_label(n) for n in (0, 512, 1000, 1500, 143_000, 2_000_000, 10**9, 10**12)
    ] == [
        "0",
        "512",
        "1k",
        "1500",
        "143k",
        "2M",
        "1G",
        "1T",
    ]
    assert [text.counted(n, "seed") for n in (0, 1, 1200)] == ["0 seeds", "1 seed", "1,200 seeds"]
    spans = (0, 42.4, 59.6, 200, 4320, 7200, 90_000, 172_800, float("nan"), float("inf"), -1)
    assert [text.duration(s) for s in spans] == [
        "0 s",
        "42 s",
        "1 min",
        "3 min",
        "1 h 12 min",
        "2 h",
        "1 d 1 h",
        "2 d",
        "-",
        "-",
        "-",
    ]
    assert [text.size(n) for n in (0, 812, 1000, 1.2e9, 9.96e9, 35e9, 999_600, 3e18)] == [
        "0 B",
        "812 B",
        "1.0 kB",
        "1.2 GB",
        "10 GB",
        "35 GB",
        "1.0 MB",
        "3000 PB",
    ]
    assert text.count(1234567) == "1,234,567"
    assert text.count(1234.6) == "1,235"


def test_zeros_have_no_place_on_a_logarithmic_axis() -> None:
    same = replace(model(), kl=np.zeros_like(model().kl))
    text = plot_text(study(same), width=60, height=10, log_y=True)
    assert text == "demo: nothing to draw on a logarithmic axis: no expected KL is above 0"
    assert "expected KL (nats)" in plot_text(study(same), width=60, height=10)
