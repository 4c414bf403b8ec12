"""Divergences by compiled code: the same numbers, and none of a compiler's failures."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.scoring.compiled import Comparison, compile_sums
from engine.scoring.divergence import divergences, runs
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import DIVERGENCES
from tests.support.pair_formulas import FORMULAS
from tests.support.tiny_models import make_runs, write_study

Named = dict[str, torch.Tensor]
Sums = Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]]

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What other runs have compiled is not found."""
    torch.compiler.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    yield
    torch.compiler.reset()


def block(seeds: int = 3, vocab: int = 1000, spread: float = 0.3, seed: int = 0) -> torch.Tensor:
    """Log-probs (seed, token, vocab) float32 of seeds that share most of what they say."""
    generator = torch.Generator().manual_seed(seed)
    shared = 3 * torch.randn(1, 4, vocab, generator=generator)
    own = torch.randn(seeds, 4, vocab, generator=generator)
    return (shared + spread * own).log_softmax(-1)


def exact(log_p: torch.Tensor, names: Sequence[str]) -> Named:
    """Each divergence (token, seed, other_seed) as it is defined, float64."""
    rows = log_p.double().log_softmax(-1).numpy()
    return {
        name: torch.stack(
            [torch.stack([torch.as_tensor(FORMULAS[name](p, q)) for q in rows], -1) for p in rows],
            1,
        )
        for name in names
    }


def close(found: Named, expected: Named) -> None:
    assert tuple(found) == tuple(expected)
    for name, values in found.items():
        assert values.dtype == torch.float32
        error = (values.double() - expected[name]).abs()
        assert (error <= 2e-6 + 1e-4 * expected[name]).all(), name
        assert (values.diagonal(dim1=1, dim2=2) == 0).all()


def compare(
    comparison: Comparison, log_p: torch.Tensor, names: Sequence[str], times: int = 5
) -> list[Named]:
    """What it says of the same block, again and again."""
    with torch.inference_mode():
        return [
            comparison.divergences(log_p.clone(), log_p.exp(), names, ahead=10)
            for _ in range(times)
        ]


def told() -> list[str]:
    """What is said goes here."""
    return []


def as_it_is(sums: Sums) -> Sums:
    """A compiler that changes nothing."""
    return sums


def always(heard: list[str], compiler: Callable[[Sums], Sums] = compile_sums) -> Comparison:
    """One that compiles at once, and uses what comes of it however long it takes."""
    return Comparison(heard.append, compiler, worth=0, fast=math.inf)


# -- the same numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("vocab", [12, 255, 4099, 50_257, 50_304])
@pytest.mark.parametrize("spread", [3.0, 1e-3])
def test_sums_meet_the_budget_of_divergences(vocab: int, spread: float) -> None:
    log_p = block(3, vocab, spread)
    *_, found = compare(always(heard := told(), as_it_is), log_p, DIVERGENCES)
    assert "by compiled code" in heard[0]
    close(found, exact(log_p, DIVERGENCES))


def test_seeds_that_agree_and_probabilities_that_vanish() -> None:
    log_p = torch.full((3, 4, 1000), -200.0)
    log_p[0, :, 0] = log_p[1, :, 1] = log_p[2, :, 1] = 0.0
    *_, found = compare(always([], as_it_is), log_p, DIVERGENCES)
    close(found, exact(log_p, DIVERGENCES))
    assert all((values[:, 1, 2] == 0).all() for name, values in found.items() if name != "js")
    assert found["js"][:, 1, 2].abs().max() <= 1e-6


@pytest.mark.parametrize("vocab", [12, 255, 256, 4096, 4099, 50_257, 50_304, 151_936])
def test_runs_are_short_and_leave_little(vocab: int) -> None:
    inside, run = runs(vocab)
    assert inside % run == 0 <= vocab - inside < run <= 4096


@needs_compiler
@pytest.mark.long
@pytest.mark.parametrize("vocab", [1000, 50_304])
def test_compiled_code_says_the_same(vocab: int) -> None:
    log_p = block(5, vocab)
    *_, found = compare(always(heard := told()), log_p, DIVERGENCES)
    assert "by compiled code" in heard[0], heard
    close(found, exact(log_p, DIVERGENCES))


@needs_compiler
@pytest.mark.long
def test_a_study_compared_by_compiled_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command to the store: what is said of it, and that no number is another one."""
    make_runs(tmp_path, seeds=("1", "2", "3"), steps=(5,))
    monkeypatch.setattr("engine.scoring.passes._BLOCK_BYTES", {"cpu": 2**15})
    numbers = []
    for name, worth in (("plain.zarr", math.inf), ("compiled.zarr", 0.0)):
        monkeypatch.setattr("engine.scoring.compiled.WORTH_SECONDS", worth)
        monkeypatch.setattr("engine.scoring.compiled.FAST", math.inf)
        file = write_study(tmp_path, study__store=name, log_probs__representation="none")
        assert run(["run", str(file)]) == 0
        said = capsys.readouterr().err
        assert said.count("by compiled code") == (worth == 0)
        numbers.append(open_study(tmp_path / name).dataset("m").load())
    for name in ("kl", "js"):
        np.testing.assert_allclose(numbers[1][name], numbers[0][name], rtol=1e-4, atol=2e-6)


# -- each way to be dropped --------------------------------------------------------------------


def expect_plain(comparison: Comparison, heard: list[str], why: str) -> None:
    """Its numbers are those of the plain way to the last bit, and it says why, once."""
    log_p = block()
    for found in compare(comparison, log_p, ("kl", "js")):
        for name, values in divergences(log_p.clone(), log_p.exp(), ("kl", "js")).items():
            assert torch.equal(found[name], values), name
    for found in compare(comparison, block(4), ("kl",)):  # nor is another shape tried
        assert found["kl"].isfinite().all()
    (said,) = heard
    assert said.startswith("seeds are compared without compiled code, which ")
    assert why in said
    assert "\n" not in said


def test_other_numbers_are_not_used() -> None:
    def wrong(sums: Sums) -> Sums:
        return lambda log_p, p: [values * 1.01 for values in sums(log_p, p)]

    expect_plain(always(heard := told(), wrong), heard, "gives other numbers")


def test_nan_is_another_number() -> None:
    def wrong(sums: Sums) -> Sums:
        return lambda log_p, p: [values * math.nan for values in sums(log_p, p)]

    expect_plain(always(heard := told(), wrong), heard, "gives other numbers")


def test_what_is_not_faster_is_not_used() -> None:
    slow = Comparison((heard := told()).append, as_it_is, worth=0, fast=0.0)
    expect_plain(slow, heard, "times as long")


@pytest.mark.parametrize(
    "error", [ImportError("no\nTriton"), OSError(30, "Read-only"), torch.OutOfMemoryError("full")]
)
def test_whatever_a_compiler_raises(error: Exception) -> None:
    def broken(sums: Sums) -> Sums:
        raise error

    expect_plain(always(heard := told(), broken), heard, "cannot be had")


def test_compiled_code_that_fails_later_is_not_asked_again() -> None:
    left = [8]

    def breaks(sums: Sums) -> Sums:
        def call(log_p: torch.Tensor, p: torch.Tensor) -> list[torch.Tensor]:
            left[0] -= 1
            if not left[0]:
                raise RuntimeError("gone")
            return sums(log_p, p)

        return call

    log_p = block()
    found = compare(always(heard := told(), breaks), log_p, ("kl", "js"), times=12)
    for values in found:
        close(values, exact(log_p, ("kl", "js")))
    assert left == [0]
    assert [("by compiled" in text, "failed: gone" in text) for text in heard] == [
        (True, False), (False, True),
    ]  # fmt: skip


def test_ctrl_c_while_compiling_ends_it() -> None:
    def interrupted(sums: Sums) -> Sums:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(always([], interrupted), block(), ("kl",))


def test_a_block_that_is_not_finite_shows_nothing() -> None:
    log_p = block()
    log_p[0, 0, 0] = math.nan
    comparison = always(heard := told(), as_it_is)
    compare(comparison, log_p, ("kl",))
    assert heard == []
    compare(comparison, block(), ("kl",))
    assert "by compiled code" in heard[0]


def test_little_work_is_not_worth_compiling() -> None:
    def never(sums: Sums) -> Sums:
        raise AssertionError

    comparison = Comparison((heard := told()).append, never, worth=3600.0)
    compare(comparison, block(), ("kl",), times=20)
    assert heard == []


@pytest.mark.parametrize(("lanes", "said"), [(2, "times as long"), (3, None)])
def test_many_lanes_are_faster_than_code_that_runs_in_one(lanes: int, said: str | None) -> None:
    comparison = Comparison((heard := told()).append, as_it_is, worth=0, fast=1.5)
    comparison.lanes = lanes
    if said is None:
        compare(comparison, block(), ("kl", "js"))
        assert heard == []
    else:
        expect_plain(comparison, heard, said)


# -- a real compiler that does not work --------------------------------------------------------


def with_compiler(name: str) -> contextlib.AbstractContextManager[None]:
    """Have PyTorch take this program for its C++ compiler."""
    from torch._inductor import config  # a second of work

    patched: contextlib.AbstractContextManager[None] = config.patch({"cpp.cxx": (None, name)})
    return patched


@pytest.mark.long
def test_no_compiler(tmp_path: Path) -> None:
    with with_compiler(str(tmp_path / "missing")):
        expect_plain(always(heard := told()), heard, "cannot be had")


@pytest.mark.long
def test_a_compiler_without_pythons_headers(tmp_path: Path) -> None:
    script = tmp_path / "g++"
    script.write_text('#!/bin/sh\necho "fatal error: Python.h: No such file" >&2\nexit 1\n')
    script.chmod(0o755)
    with with_compiler(str(script)):
        expect_plain(always(heard := told()), heard, "cannot be had")


@pytest.mark.long
def test_no_room_for_what_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "compiled"))
    expect_plain(always(heard := told()), heard, "cannot be had")
