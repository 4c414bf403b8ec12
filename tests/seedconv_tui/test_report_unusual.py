"""`seedconv report` of studies that are unlike the usual: captions stay true, figures legible."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.report import style
from seedconv_tui.report.figures import by_level, by_token, over_training
from seedconv_tui.report.figures.between_checkpoints import between_steps
from seedconv_tui.report.parts import LINES, Figure, Omitted, PageTable
from seedconv_tui.report.result_cache import ResultCache
from seedconv_tui.report.study_data import StudyData
from seedconv_tui.report.summary_tables import tables
from store import open_study
from store.analysis import summarise
from store.schema import Category
from store.writing import Header, StudyWriter
from tests.support import made_store
from tests.support.legible import check_legible
from tests.support.made_store import Clock, make_corpus, make_vocabulary, open_writer

N = 240
index = np.arange(N, dtype=np.int32)
ALL = Category("all", ("all",), np.zeros(N, np.int32), "all tokens")
KIND = Category("kind", ("A", "B"), index % 2, "made in the test")
EMPTY = Category("empty", ("x", "y"), np.full(N, -1, np.int32), "no token is in it")
MANY = Category("many", tuple(f"a level whose name is long, {n}" for n in range(20)), index % 20,
                "made in the test")  # fmt: skip


@pytest.fixture
def writer(tmp_path: Path) -> StudyWriter:
    return open_writer(tmp_path / "study.zarr", n_tokens=N)


def add(
    writer: StudyWriter,
    model: str,
    step: int,
    seeds: Sequence[str],
    categories: Sequence[Category] = (ALL,),
    scored: Sequence[str] = (),
) -> None:
    """A step that is summarised of `seeds`, and at which `scored` are scored as well."""
    writer.plan(model, [(seed, step) for seed in (*seeds, *scored)], {})
    for category in categories:
        if category.name not in writer.study().own_categories(model):
            writer.summaries.set_category(category)
    for seed in (*seeds, *scored):
        made_store.score(writer, model, seed, step)
    made_store.reduce(writer, model, step, seeds)
    writer.summaries.summarise(
        model, step, seeds, *summarise(writer.study(), model, step, seeds, categories)
    )


def source_of(writer: StudyWriter) -> StudyData:
    return StudyData(open_study(writer.path), None, None)


def of(parts: Sequence[Figure | Omitted], name: str) -> Figure:
    (found,) = (part for part in parts if part.name == name)
    assert isinstance(found, Figure)
    return found


def quiet(what: str, share: float) -> None:
    """No progress."""


def test_seeds_and_steps_that_differ(writer: StudyWriter, tmp_path: Path) -> None:
    add(writer, "m-1m", 0, ("a", "b"))
    add(writer, "m-1m", 10, ("a", "b", "c"), scored="d")
    add(writer, "m-1m", 100, ("a", "b", "c", "d"))
    add(writer, "m-1m", 1000, ("b", "c", "d"), scored="a")
    add(writer, "m-2m", 7, ("p", "q"))
    source = source_of(writer)
    kl = over_training.expected_kl(source)
    assert "Seeds: m-1m 2 to 4, m-2m 2. Steps: 5, 0 to 1,000." in kl.caption
    contexts = by_token.contexts(source)
    assert isinstance(contexts, Omitted)
    between = between_steps(source, ResultCache(tmp_path / "kept"), quiet)
    assert isinstance(between, Figure)
    assert "m-1m: 3 steps, 4 seeds." in between.caption, "not 4 steps of the 2 that have them all"
    assert set(between.rows["from_step"]) == {10, 100, 1000}
    only = by_token.extremes(source)
    assert "over training (m-2m)" in only.caption
    assert "Step: 7." in only.caption
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Files that earlier tests left open are closed whenever garbage is collected: also now.
        warnings.simplefilter("ignore", ResourceWarning)
        check_legible([kl, only])


def test_contexts_say_which_steps_of_which_model(tmp_path: Path) -> None:
    writer = StudyWriter.open(
        tmp_path / "study.zarr", Header("made", {}, {}),
        replace(make_corpus(N), token_id=index % 8), make_vocabulary(), clock=Clock(),
    )  # fmt: skip
    add(writer, "m-1m", 0, "ab")
    add(writer, "m-1m", 10, "ab")
    add(writer, "m-2m", 10, "ab")
    found = by_token.contexts(source_of(writer))
    assert isinstance(found, Figure)
    assert "m-1m: All 2 steps. m-2m: Step: 10." in found.caption


def test_one_document_is_no_cluster(tmp_path: Path) -> None:
    one = replace(
        make_corpus(N), document=np.zeros(N, np.int32), document_start=np.array([0]),
        document_name=("only",),
    )  # fmt: skip
    path = tmp_path / "study.zarr"
    writer = StudyWriter.open(path, Header("one", {}, {}), one, make_vocabulary(), clock=Clock())
    add(writer, "m", 0, "abc", (ALL, KIND))
    source = source_of(writer)
    table = next(iter(tables(source)))
    assert isinstance(table, PageTable)
    parts = list(by_level.figures(source))
    for words in (
        over_training.expected_kl(source).caption,
        table.note,
        of(parts, "kl_by_kind").caption,
    ):
        assert "seed jackknife and runs of tokens of its one document" in words
        assert "cluster" not in words


def test_levels_without_tokens_and_with_long_names(writer: StudyWriter) -> None:
    add(writer, "m", 0, "abc", (ALL, EMPTY, MANY))
    add(writer, "m", 9, "abc", (ALL, EMPTY, MANY))
    source = source_of(writer)
    parts = list(by_level.figures(source))
    assert [part.name for part in parts if isinstance(part, Omitted)] == ["kl_by_empty"]
    assert not [table for table in tables(source) if "empty" in table.title]
    check_legible([part for part in parts if isinstance(part, Figure)])
    with style.styled():
        drawing = style.laid_out(of(parts, "kl_by_many").draw())
        height = drawing.axes[0].get_window_extent().height / drawing.dpi
    assert height > 1, "inches: a legend of many lines leaves the axes their room"


def test_levels_of_choice_are_all_drawn(writer: StudyWriter) -> None:
    for step in (0, 9):
        add(writer, "m", step, "abc", (ALL, KIND, MANY))
    study, labels = open_study(writer.path), MANY.labels[1:11]
    source = StudyData(study, None, None, labels)
    assert source.categories == ("many",), "those without such a level are left out"
    parts = [part for part in by_level.figures(source) if isinstance(part, Figure)]
    names = ["kl_by_many", "kl_2_by_many", "cross_entropy_by_many", "cross_entropy_2_by_many"]
    assert [part.name for part in parts] == names
    check_legible(parts)
    for first, second in (parts[:2], parts[2:]):
        assert "part 1 of 2" in first.title
        shown = [*dict.fromkeys(first.rows["label"]), *dict.fromkeys(second.rows["label"])]
        assert shown == list(labels)
        assert len(set(first.rows["label"])) == LINES
    table = next(t for t in tables(source) if t.title.endswith(": many"))
    assert isinstance(table, PageTable)
    assert len(table.rows) == len(labels)


def test_labels_that_are_marks_are_quoted(writer: StudyWriter) -> None:
    marks = Category("marks", (",", "``", "a, b", "plain"), index % 4, "made in the test")
    add(writer, "m", 0, "abc", (ALL, marks))
    add(writer, "m", 9, "abc", (ALL, marks))
    figure = of(list(by_level.figures(source_of(writer))), "kl_by_marks")
    assert '"," 60, "``" 60, "a, b" 60, plain 60 (made in the test)' in figure.caption
    with style.styled():
        (legend,) = style.laid_out(figure.draw()).legends
    assert {t.get_text() for t in legend.get_texts()} == {'","', '"``"', '"a, b"', "plain"}
    assert set(figure.rows["label"]) == set(marks.labels), "data are as they are"


def test_levels_of_a_models_own_results(writer: StudyWriter) -> None:
    for model, size in (("m-1m", 30), ("m-2m", 90)):
        own = Category("surprisal", ("low", "high"), (index >= size).astype(np.int32), model)
        writer.plan(model, [(seed, 0) for seed in "ab"], {})
        writer.summaries.set_category(own, model, 0)
        add(writer, model, 0, "ab", (ALL, own))
    caption = of(list(by_level.figures(source_of(writer))), "kl_by_surprisal").caption
    assert "Tokens by level for m-1m: low 30, high 210 (m-1m)." in caption
    assert "Tokens by level for m-2m: low 90, high 150 (m-2m)." in caption


def test_many_models_of_long_names(writer: StudyWriter) -> None:
    names = [f"somebody/a-model-of-a-name-that-is-far-too-long-for-a-figure-{n:02}"
             for n in range(10)]  # fmt: skip
    for name in names:
        add(writer, name, 0, "abc", (ALL, KIND))
    source = source_of(writer)
    figures = [part for part in over_training.figures(source) if isinstance(part, Figure)]
    check_legible(figures)
    for figure in figures:
        with style.styled():
            drawing = style.laid_out(figure.draw())
        (legend,) = drawing.legends
        assert len({text.get_text() for text in legend.get_texts()}) == LINES
        assert "Drawn: 7 of 10 models; in the data alone: " in figure.caption
        left = figure.caption.rpartition("alone: ")[2].removesuffix(".").split(", ")
        assert len(left) == 3
        assert set(left) < set(names[1:-1])
        assert set(figure.rows["model"]) == set(names)
        for axes in drawing.axes:
            assert axes.get_window_extent().height / drawing.dpi > 1
    (by_kind,) = (table for table in tables(source) if table.title.endswith(": kind"))
    assert isinstance(by_kind, PageTable)
    assert by_kind.header[3::2] == (f"KL {names[0]}", f"KL {names[-1]}", "cross-entropy")
    assert "Of 10 models, the smallest and the largest." in by_kind.note


def test_steps_that_come_while_it_is_made(writer: StudyWriter) -> None:
    """All figures are of the steps that there were when the report began."""
    add(writer, "m", 0, "abc", (ALL, KIND))
    source = source_of(writer)
    add(writer, "m", 4, "abc", (ALL, KIND))
    source.study.refresh()
    assert source.steps("m") == [0]
    found = source.levels("m", "kind")
    assert found is not None
    assert found.steps.tolist() == [0]
    assert of(list(by_level.figures(source)), "kl_by_kind").rows["step"] == [0, 0]


def test_labels_keep_both_ends() -> None:
    assert style.label("a-name-that-is-long-1", 12) == "a-nam…long-1"
    assert style.label("short", 12) == "short"
    assert style.label("漢" * 20, 11) == "漢漢漢…漢漢"
