"""One checkpoint never ends the engine; what a folder holds is read as what it is, or refused."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from engine.coordination.build import build_coordinator
from engine.errors import CheckpointError
from engine.sources.base import Listing, Reference
from engine.sources.guarded import GuardedSource
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import Key
from tests.support.broken_checkpoints import KINDS, make_kind, set_config, set_weights
from tests.support.listening import Script
from tests.support.tiny_models import make_runs, write_study


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if " error " in line]


def make_kinds(folder: Path, kinds: list[str]) -> None:
    """Make two sound seeds, and of a third, which is taken away, one seed of each kind."""
    make_runs(folder, steps=(0,))
    sound = folder / "sound"
    (folder / "runs/seed3/step0").rename(sound)
    (folder / "runs/seed3").rmdir()
    for kind in kinds:
        make_kind(sound, folder / f"runs/seed-{kind}/step0", kind)


def assert_each(folder: Path, kinds: list[str], said: dict[str, str]) -> None:
    """Assert that each is scored, as the sound one it is, or refused by name in one line."""
    model = open_study(folder / "study.zarr").snapshot().models[0]
    scored = dict(zip(model.seeds, range(len(model.seeds)), strict=True))
    (kl,) = model.kl
    for kind in kinds:
        seed, says = f"-{kind}", KINDS[kind].says
        if says is not None:
            assert says in said[seed], kind
            assert "\n" not in said[seed]
            assert f"seed-{kind}/step0" in said[seed]
        else:
            assert seed not in said, kind
            of, plain, other = scored[seed], scored["-plain"], scored["1"]
            np.testing.assert_allclose(kl[of, other], kl[plain, other], 1e-6, err_msg=kind)
            np.testing.assert_allclose(kl[other, of], kl[other, plain], 1e-6, err_msg=kind)
    expected = {"1", "2"} | {f"-{kind}" for kind in kinds if KINDS[kind].says is None}
    assert open_study(folder / "study.zarr").ledger("m").reduced == {0: expected}


@pytest.mark.long
def test_every_kind_is_read_as_what_it_is_or_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = list(KINDS)
    make_kinds(tmp_path, kinds)
    assert run(["run", str(write_study(tmp_path, log_probs__representation="dense"))]) == 1
    err = capsys.readouterr().err
    assert "internal error" not in err
    known = open_study(tmp_path / "study.zarr").ledger("m")
    said = {seed: failure.error for (seed, _), failure in known.failures.items()}
    said |= {seed: why for (seed, _), why in known.missing.items()}
    assert_each(tmp_path, kinds, said)


@pytest.mark.long
def test_watch_goes_on_as_sound_and_broken_folders_arrive_in_turn(tmp_path: Path) -> None:
    kinds = [kind for kind, it in KINDS.items() if it.says is None or "deep" not in kind][:24]
    kinds.append("wrapped")
    make_kinds(tmp_path, kinds)
    for kind in kinds:
        (tmp_path / f"runs/seed-{kind}").rename(tmp_path / kind)
        (tmp_path / kind / "step0/trainer_state.json").write_text("{}")
    for seed in "12":
        (tmp_path / f"runs/seed{seed}/step0/trainer_state.json").write_text("{}")
    coming = list(kinds)

    class Arriving(Script):
        """Has the next one arrive when what became of the one before is known."""

        def on_event(self, event: object) -> None:
            super().on_event(event)  # type: ignore[arg-type]
            if getattr(event, "event", "") in ("scored", "failed") and coming:
                kind = coming.pop(0)
                (tmp_path / kind).rename(tmp_path / f"runs/seed-{kind}")

    script = Arriving()
    seeds = ["1", "2", *(f"-{kind}" for kind in kinds)]
    changes = {"models__seeds": seeds, "models__steps": [0], "watch__poll_seconds": 0.01}
    study = load_study_file(write_study(tmp_path, **changes, log_probs__representation="dense"))
    totals = build_coordinator(study, script).watch(until_complete=True)
    broken = [kind for kind in kinds if KINDS[kind].says is not None]
    assert (totals.scored, totals.failed) == (len(seeds) - len(broken), len(broken))
    said = {e.fields["seed"]: e.text for e in script.events if e.event == "failed"}
    assert_each(tmp_path, kinds, said)


ENDS = """
import sys
from transformers import LlamaForCausalLM

class Panic(BaseException):
    pass

class Ends(LlamaForCausalLM):
    calls = 0

    def forward(self, *arguments, **options):
        type(self).calls += 1
        if type(self).calls > {calls}:
            {does}
        return super().forward(*arguments, **options)
"""


@pytest.mark.parametrize("representation", ["none", "factored"])
@pytest.mark.parametrize(
    ("does", "calls"),
    [("sys.exit(3)", 0), ("raise Panic('beyond Exception')", 9), ("return None", 9), ("1 / 0", 9)],
)
def test_whatever_a_model_raises_at_any_time_fails_it_alone(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    does: str,
    calls: int,
    representation: str,
) -> None:
    make_runs(tmp_path, architecture="llama", steps=(0,))
    checkpoint = tmp_path / "runs/seed2/step0"
    (checkpoint / "modeling_ends.py").write_text(ENDS.format(does=does, calls=calls))
    set_config(auto_map={"AutoModelForCausalLM": "modeling_ends.Ends"})(checkpoint)
    changes = {"models__trust_remote_code": True, "log_probs__representation": representation}
    assert run(["run", str(write_study(tmp_path, **changes, scoring__batch_tokens=32))]) == 1
    (line,) = errors(capsys.readouterr().err)
    assert f"{checkpoint}: its model fails: " in line
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {0: {"1", "3"}}


def test_what_a_library_panics_at_while_weights_are_read_fails_them_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rust's panics are no Exception; nor is what a thread raises seen by who started it."""

    class PanicException(BaseException):
        pass

    make_runs(tmp_path, steps=(0,))
    bad = (tmp_path / "runs/seed2/step0/model.safetensors").read_bytes()

    def load(data: bytes) -> object:
        if data == bad:
            raise PanicException("slice index starts at 9\nmore")
        return safetensors_load(data)

    from engine.models import weights

    safetensors_load = weights.load
    monkeypatch.setattr(weights, "load", load)
    assert run(["run", str(write_study(tmp_path))]) == 1
    (line,) = errors(capsys.readouterr().err)
    assert "seed2/step0: cannot be read: slice index starts at 9; tried once, parked" in line
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {0: {"1", "3"}}


class _Odd:
    """A source, and its one checkpoint, that fail at everything but saying which it is."""

    key: Key = ("1", 0)

    def __init__(self) -> None:
        self.found: list[Listing] = []

    def find(self) -> Listing:
        if not self.found:
            raise RecursionError("too deep")
        return self.found.pop()

    def checkpoint(self, key: Key) -> _Odd:
        return self

    def __getattr__(self, name: str) -> object:
        def fail(*_: object, **__: object) -> None:
            raise OverflowError("too large")

        return fail


def test_a_source_that_fails_repeats_itself_and_its_checkpoints_are_refused() -> None:
    odd = _Odd()
    source = GuardedSource(odd)  # type: ignore[arg-type]
    assert source.find().errors == ("cannot be looked at: too deep",)
    there = Listing(frozenset({("1", 0)}), frozenset({("1", 0)}), {})
    odd.found.append(there)
    assert source.find() == there
    again = source.find()
    assert (again.there, len(again.errors)) == (there.there, 1)
    checkpoint = source.checkpoint(("1", 0))
    assert checkpoint.where() == "seed 1, step 0"
    assert checkpoint.refused(waiting=True) == (
        "seed 1, step 0: cannot be looked at: OverflowError: too large"
    )
    assert (checkpoint.finished(), checkpoint.gone(), checkpoint.config()) == (False, False, None)
    assert checkpoint.reference() == Reference(("1", 0))
    with pytest.raises(CheckpointError, match="cannot be fetched: OverflowError: too large"):
        checkpoint.fetch()


def test_names_that_no_study_can_have_are_left_out_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, steps=(0,))
    runs = os.fsencode(tmp_path / "runs")
    for name in (b"seed\xff", b"seed4\nx"):
        shutil.copytree(runs + b"/seed3", runs + b"/" + name)
    assert run(["run", str(write_study(tmp_path))]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if " warning " in line]
    assert [line.partition("model m: ")[2].partition(": ")[0] for line in said] == [
        r"seed '4\nx', step 0",
        r"seed '\udcff', step 0",
    ]
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {0: {"1", "2", "3"}}


@pytest.mark.parametrize("factor", [1e5, 1e33, 3e37])
@pytest.mark.parametrize("representation", ["none", "factored", "dense"])
def test_a_diverged_seed_gives_finite_records_or_fails_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], representation: str, factor: float
) -> None:
    make_runs(tmp_path, steps=(0,))
    change = set_weights(lambda weights: {
        name: tensor * factor if "embed_out" in name else tensor
        for name, tensor in weights.items()
    })  # fmt: skip
    change(tmp_path / "runs/seed2/step0")
    code = run(["run", str(write_study(tmp_path, log_probs__representation=representation))])
    err = capsys.readouterr().err
    reduced = open_study(tmp_path / "study.zarr").ledger("m").reduced[0]
    if code:
        (line,) = errors(err)
        assert "seed2/step0: log-probs are " in line
        assert reduced == {"1", "3"}
    else:
        assert reduced == {"1", "2", "3"}
    if representation == "dense":
        assert code == 1
        assert ("factored" in err) or "NaN or infinite" in err
    assert run(["status", str(tmp_path / "study.zarr"), "--json"]) in (0, 1)
    refuse = {"parse_constant": lambda text: pytest.fail(text)}
    json.loads(capsys.readouterr().out, **refuse)
    model = open_study(tmp_path / "study.zarr").snapshot().models[0]
    assert math.isfinite(model.expected_kl[0])


def test_weights_of_a_wrapper_are_those_of_what_it_wraps_also_when_shared_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of Llama with tied embeddings all names begin with `model.`, which is no wrapper's."""
    make_runs(tmp_path, architecture="llama", steps=(0,))
    for seed in "123":
        folder = tmp_path / f"runs/seed{seed}/step0"
        set_config(tie_word_embeddings=True)(folder)
        set_weights(lambda w: {n: t for n, t in w.items() if n != "lm_head.weight"})(folder)
        assert all(name.startswith("model.") for name in load_file(folder / "model.safetensors"))
    study = write_study(tmp_path)
    assert run(["run", str(study)]) == 0
    expected = open_study(tmp_path / "study.zarr").dataset("m").load()
    shutil.rmtree(tmp_path / "study.zarr")
    for seed, prefix in (("1", "model."), ("2", "module.model."), ("3", "_orig_mod.")):
        folder = tmp_path / f"runs/seed{seed}/step0"
        set_weights(lambda w, prefix=prefix: {prefix + n: t for n, t in w.items()})(folder)
    assert run(["run", str(study)]) == 0
    assert open_study(tmp_path / "study.zarr").dataset("m").load().equals(expected)


def test_weights_with_and_without_a_wrapper_that_differ_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, steps=(0,))
    name = "embed_out.weight"
    change = set_weights(lambda weights: {**weights, f"_orig_mod.{name}": weights[name] + 1})
    change(tmp_path / "runs/seed2/step0")
    assert run(["run", str(write_study(tmp_path))]) == 1
    (line,) = errors(capsys.readouterr().err)
    assert f"holds {name} twice, with other values as _orig_mod.{name}" in line or (
        f"holds {name} twice, with other values as {name}" in line
    )
