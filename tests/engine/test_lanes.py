"""Blocks that are computed side by side: their order, their threads, and how they end."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.models.output_head import Head
from engine.scoring.lanes import Lanes
from seedconv_tui.cli.main import run
from store import open_study
from tests.support.tiny_models import make_runs, write_study

CPU = torch.device("cpu")


@pytest.fixture
def six_threads() -> Iterator[None]:
    """Have torch use six, whatever machine this is."""
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("six_threads")
@pytest.mark.parametrize(("most", "lanes", "each"), [(32, 6, 1), (3, 3, 2), (4, 4, 1), (1, 1, 6)])
def test_lanes_share_the_threads(most: int, lanes: int, each: int) -> None:
    with Lanes(CPU, most) as work:
        assert work.n == lanes
        assert [*work.map(lambda _: torch.get_num_threads(), range(40))] == [each] * 40
        assert work.alone(lambda _: torch.get_num_threads(), 0) == each
        assert torch.get_num_threads() == 6
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    assert later == [6]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane")]


@pytest.mark.usefixtures("six_threads")
def test_results_come_in_order_and_without_gradients() -> None:
    def work(n: int) -> tuple[int, bool]:
        return n, torch.is_inference_mode_enabled()

    with Lanes(CPU, 3) as lanes:
        assert [*lanes.map(work, range(100))] == [(n, True) for n in range(100)]


@pytest.mark.usefixtures("six_threads")
def test_an_error_comes_when_the_others_have_ended() -> None:
    begun, ended = [], []

    def work(n: int) -> int:
        begun.append(n)
        if n == 3:
            raise ValueError("the third")
        ended.append(n)
        return n

    with Lanes(CPU, 2) as lanes:
        found: list[int] = []
        with pytest.raises(ValueError, match="the third"):
            found += lanes.map(work, range(100))
        assert {*begun} - {*ended} == {3}
        assert [*lanes.map(abs, [-1, -2])] == [1, 2]


@pytest.mark.usefixtures("six_threads")
def test_an_error_holds_on_to_nothing() -> None:
    """Neither the work, which has models, nor what was computed waits for the garbage collector."""

    class Work:
        def __call__(self, n: int) -> int:
            if n == 3:
                raise ValueError("the third")
            return n

    work = Work()
    there = weakref.ref(work)
    gc.disable()
    try:
        with Lanes(CPU, 2) as lanes:
            with contextlib.suppress(ValueError):
                for _ in lanes.map(work, range(100)):
                    pass
            del work
        assert there() is None
    finally:
        gc.enable()


@pytest.mark.usefixtures("six_threads")
def test_where_no_thread_can_be_started_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would wait for one another, also when Python ends."""
    start, started = threading.Thread.start, []

    def refuse(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"), Lanes(CPU, 4):
        pass
    assert [thread.is_alive() for thread in started] == [False] * 3
    assert torch.get_num_threads() == 6


@pytest.mark.usefixtures("six_threads")
def test_a_map_that_is_closed_early_waits_for_what_runs() -> None:
    begun, ended = [], []

    def work(n: int) -> int:
        begun.append(n)
        ended.append(n)
        return n

    with Lanes(CPU, 2) as lanes:
        results = lanes.map(work, range(10_000))
        assert next(results) == 0
        results.close()  # type: ignore[attr-defined]
        so_far = len(begun)
        assert sorted(begun) == sorted(ended)
        assert len(begun) == so_far


def test_a_study_of_many_blocks_has_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed one after another, and side by side by more threads than there are seeds."""
    make_runs(tmp_path, seeds=("1", "2", "3"), steps=(5,))
    monkeypatch.setattr("engine.scoring.passes._BLOCK_BYTES", {"cpu": 2**12})
    before, found = torch.get_num_threads(), []
    multiplied: list[int] = []
    logits = Head.logits

    def counted(head: Head, hidden: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        multiplied[-1] += len(hidden)
        return logits(head, hidden, out)

    monkeypatch.setattr(Head, "logits", counted)
    monkeypatch.setattr("engine.scoring.log_prob_rows._PRODUCT_BYTES", {"cpu": 2**17})
    for threads in (1, 3, 5):
        torch.set_num_threads(threads)
        multiplied.append(0)
        try:
            file = write_study(tmp_path, study__store=f"{threads}.zarr")
            assert run(["run", str(file)]) == 0
        finally:
            torch.set_num_threads(before)
        found.append(open_study(tmp_path / f"{threads}.zarr").dataset("m").load())
    assert len({*multiplied}) == 1  # no token twice, however many are computed together
    one = found[0]
    for several in found[1:]:
        np.testing.assert_array_equal(several.top_id, one.top_id)
        for name in ("surprisal", "entropy", "kl_unigram"):
            np.testing.assert_allclose(several[name], one[name], rtol=1e-5, atol=1e-6)
        for name in ("kl", "js"):  # of log-probs in float16, of which few are rounded otherwise
            np.testing.assert_allclose(several[name], one[name], rtol=1e-2, atol=1e-5)


@pytest.mark.usefixtures("six_threads")
@pytest.mark.parametrize(("room", "lanes"), [(2**29, 6), (1, 1)])
def test_lanes_that_there_is_no_memory_for_are_not_used(
    tmp_path: Path, room: int, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    monkeypatch.setattr("engine.scoring.passes._BLOCK_BYTES", {"cpu": 2**12})
    monkeypatch.setattr("engine.scoring.passes._LANES_BYTES", room)
    used = []

    def noted(device: torch.device, most: int) -> Lanes:
        used.append(Lanes(device, most))
        return used[-1]

    monkeypatch.setattr("engine.scoring.passes.Lanes", noted)
    assert run(["run", str(write_study(tmp_path))]) == 0
    assert {work.n for work in used} == {lanes}
