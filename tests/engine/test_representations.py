"""Log-probs kept dense, factored or not at all: the same divergences, exact where they can be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from seedconv_tui.cli.main import run
from store import Study, open_study
from tests.support.reference import reference_log_probs
from tests.support.tiny_models import TEXT, make_runs, make_tokenizer, write_study

PADDING = 4


def score(folder: Path, representation: str, **settings: Any) -> Study:
    """Score into a store of its own."""
    store = f"{representation}.zarr"
    file = write_study(
        folder, study__store=store, log_probs__representation=representation, **settings
    )
    assert run(["run", str(file)]) == 0
    return open_study(folder / store)


def save_runs(folder: Path, make: Any) -> None:
    """Two seeds of a model, at one step, whose configuration `make` makes from a vocabulary."""
    vocab = make_tokenizer(folder / "tokenizer").get_vocab_size() + PADDING
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(make(vocab))
        head = model.get_output_embeddings()
        if head.bias is not None:
            torch.nn.init.normal_(head.bias)
        model.save_pretrained(folder / f"runs/seed{seed}/step5")


def llama_like(kind: str, **settings: Any) -> Any:
    return lambda vocab: getattr(transformers, kind)(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        **settings,
    )


ARCHITECTURES = {
    "tied": llama_like("LlamaConfig", tie_word_embeddings=True),
    "untied": llama_like("LlamaConfig", tie_word_embeddings=False),
    "bias": llama_like("PhiConfig"),
    "multiplied": llama_like("CohereConfig", logit_scale=0.0625),
    "divided": llama_like("GraniteConfig", logits_scaling=3.0),
}


def reference(folder: Path) -> dict[str, NDArray[np.float64]]:
    return {
        seed: reference_log_probs(folder, folder / f"runs/seed{seed}/step5", stream=True)[0]
        for seed in ("1", "2")
    }


def exact_kl(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((np.exp(p) * (p - q)).sum(1))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_factored_is_exact_to_float32(tmp_path: Path, architecture: str) -> None:
    save_runs(tmp_path, ARCHITECTURES[architecture])
    study, exact = score(tmp_path, "factored"), reference(tmp_path)
    data = study.dataset("m").sel(step=5)
    for seed in ("1", "2"):
        kept = study.log_probs("m", seed, 5)
        assert kept.shape == exact[seed].shape == (150, 300)
        np.testing.assert_allclose(kept[:], exact[seed], rtol=2e-6, atol=1e-5)
        np.testing.assert_allclose(np.exp(kept[37:91]).sum(1), 1, rtol=1e-6)
    kl = exact_kl(exact["1"], exact["2"])
    assert (np.abs(data.kl.sel(seed="1", other_seed="2") - kl) <= 2e-6 + 1e-4 * kl).all()
    assert float(data.storage_floor.max()) == 0


def test_what_is_not_a_product_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_runs(tmp_path, llama_like("Gemma2Config", head_dim=16, final_logit_softcapping=5.0))
    file = write_study(tmp_path, log_probs__representation="factored")
    assert run(["run", str(file)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "output embedding" in line]
    assert len(errors) >= 2  # one for each seed
    assert 'set log_probs.representation = "dense"' in errors[0]
    assert not open_study(tmp_path / "study.zarr").ledger("m").scored


def test_reducing_while_scoring_is_exact(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,), padding=PADDING)
    study, exact = score(tmp_path, "none"), reference(tmp_path)
    kl = exact_kl(exact["1"], exact["2"])
    found = study.dataset("m").kl.sel(step=5, seed="1", other_seed="2")
    assert (np.abs(found - kl) <= 2e-6 + 1e-4 * kl).all()
    assert not list((tmp_path / "none.zarr").glob("models/m/log_probs/*/[0-9]*"))


def test_all_give_the_same_results(tmp_path: Path) -> None:
    make_runs(tmp_path)
    dense, factored, none = (
        score(tmp_path, kind).dataset("m").load() for kind in ("dense", "factored", "none")
    )
    for name in ("surprisal", "entropy", "top_id", "top_log_prob", "cross_entropy"):
        np.testing.assert_array_equal(factored[name], dense[name])
        np.testing.assert_array_equal(none[name], dense[name])
    np.testing.assert_allclose(none.kl, factored.kl, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(none.expected_kl, factored.expected_kl, rtol=1e-6)
    error = np.abs(dense.expected_kl - none.expected_kl)
    assert (error <= dense.storage_floor.max()).all()


def test_a_late_seed_joins_seeds_kept_another_way(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    store = {"study__store": "mixed.zarr"}
    assert run(["run", str(write_study(tmp_path, **store))]) == 0
    make_runs(tmp_path, seeds=("3",), steps=(5,))
    late = write_study(tmp_path, **store, log_probs__representation="factored")
    assert run(["run", str(late)]) == 0
    make_runs(tmp_path, seeds=("4",), steps=(5,))
    last = write_study(tmp_path, **store, log_probs__representation="none")
    assert run(["run", str(last)]) == 0
    study = open_study(tmp_path / "mixed.zarr")
    data = study.dataset("m").load()
    whole = score(tmp_path, "none").dataset("m").load()
    floor = float(whole.storage_floor.max()) + float(data.storage_floor.max())
    assert np.isfinite(data.expected_kl).all()
    np.testing.assert_allclose(data.mean_kl, whole.mean_kl, rtol=1e-4, atol=2e-6 + floor)


def test_a_seed_that_fails_is_left_out_and_the_others_are_reduced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, steps=(5,))
    file = write_study(tmp_path, log_probs__representation="none")
    broken = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "runs/seed2/step5")
    broken.get_output_embeddings().weight.data *= 1e38  # finite weights, infinite logits
    broken.save_pretrained(tmp_path / "runs/seed2/step5")
    assert run(["run", str(file)]) == 1
    assert "NaN or infinite at token" in capsys.readouterr().err
    known = open_study(tmp_path / "study.zarr").ledger("m")
    assert known.reduced == {5: {"1", "3"}}
    assert set(known.failed) == {("2", 5)}


def test_weights_under_other_names_give_the_same(tmp_path: Path) -> None:
    """Also in half precision, in which a model keeps its position frequencies whole."""
    vocab = make_tokenizer(tmp_path / "tokenizer").get_vocab_size()
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    torch.manual_seed(1)
    config = ARCHITECTURES["tied"](vocab)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "runs/seed1/step5")
    model.model.save_pretrained(tmp_path / "runs/seed2/step5")  # as some were published
    file = tmp_path / "runs/seed2/step5/config.json"
    file.write_text((tmp_path / "runs/seed1/step5/config.json").read_text())
    for dtype in ("float32", "bfloat16"):
        settings = {"study__store": dtype, "scoring__dtype": dtype}
        assert run(["run", str(write_study(tmp_path, **settings))]) == 0
        data = open_study(tmp_path / dtype).dataset("m").load()
        np.testing.assert_array_equal(data.surprisal.sel(seed="1"), data.surprisal.sel(seed="2"))


def test_other_weights_do_not_join_results_of_the_old_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    file = write_study(tmp_path, log_probs__representation="none")
    assert run(["run", str(file)]) == 0
    make_runs(tmp_path, seeds=("3",), steps=(5,))
    shutil.copytree(tmp_path / "runs/seed3", tmp_path / "runs/seed1", dirs_exist_ok=True)
    capsys.readouterr()
    assert run(["run", str(file)]) == 1
    message = capsys.readouterr().err
    assert "runs/seed1/step5: its weights are not those that its results are of" in message
    known = open_study(tmp_path / "study.zarr").ledger("m")
    assert known.reduced == {5: {"1", "2"}}
    assert ("3", 5) in known.scored


def test_a_late_seed_is_scored_though_stored_ones_are_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    assert run(["run", str(write_study(tmp_path))]) == 0
    chunk = tmp_path / "study.zarr/models/m/log_probs/1/5/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-8])
    make_runs(tmp_path, seeds=("3",), steps=(5,))
    capsys.readouterr()
    assert run(["run", str(write_study(tmp_path, log_probs__representation="none"))]) == 1
    assert capsys.readouterr().err.count("cannot reduce m, step 5") == 1
    known = open_study(tmp_path / "study.zarr").ledger("m")
    assert known.reduced == {5: {"1", "2"}}
    assert set(known.scored) == {("1", 5), ("2", 5), ("3", 5)}


def test_projected_sizes_are_told_and_a_budget_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0, 5))
    study = write_study(tmp_path, log_probs__budget_gb=1e-4)
    assert run(["run", str(study)]) == 2
    message = capsys.readouterr().err
    assert "more than log_probs.budget_gb = 0.0001" in message
    assert "factored" in message
    assert not open_study(tmp_path / "study.zarr").ledger("m").scored
    budgeted = write_study(
        tmp_path,
        log_probs__budget_gb=1e-4,
        log_probs__retention="until_reduced",
        corpus__max_tokens=100,
    )
    assert run(["run", str(budgeted)]) == 2  # another corpus than the store's
    assert "corpus" in capsys.readouterr().err
    assert run(["run", str(write_study(tmp_path, log_probs__budget_gb=1))]) == 0
    line = next(x for x in capsys.readouterr().err.splitlines() if "log-probs will take" in x)
    assert "(dense; factored" in line
    assert run(["run", str(write_study(tmp_path, log_probs__budget_gb=0))]) == 2
    assert "log_probs.budget_gb" in capsys.readouterr().err


def test_what_is_not_known_of_a_model_is_not_projected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    for config in tmp_path.glob("runs/*/*/config.json"):
        config.write_text("{}")
    assert run(["run", str(write_study(tmp_path))]) == 1
    line = next(x for x in capsys.readouterr().err.splitlines() if "log-probs will take" in x)
    assert "(dense; none 0 bytes)" in line


def kept(study: Study) -> dict[tuple[str, int], object]:
    return {key: record["log_probs"] for key, record in study.ledger("m").scored.items()}


def score_unset(folder: Path) -> None:
    """Score as a study file does that does not choose a representation."""
    file = write_study(folder)
    file.write_text(file.read_text().replace('representation = "dense"\n', ""))
    assert run(["run", str(file)]) == 0


def test_log_probs_are_factored_by_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0, 5))
    score_unset(tmp_path)
    said = capsys.readouterr().err
    assert "(factored; dense" in said
    assert "scoring 2 seeds one by one, storing log-probs (factored where the model allows)" in said
    study = open_study(tmp_path / "study.zarr")
    assert set(kept(study).values()) == {"factored"}
    assert float(study.dataset("m").storage_floor.max()) == 0


def test_they_are_dense_where_the_model_does_not_allow_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_runs(tmp_path, llama_like("Gemma2Config", head_dim=16, final_logit_softcapping=5.0))
    score_unset(tmp_path)
    said = capsys.readouterr().err
    assert "(dense; factored" in said  # its config.json has the cap
    study = open_study(tmp_path / "study.zarr")
    assert set(kept(study).values()) == {"dense"}
    lines = [it.text for it in study.snapshot().journal if "kept dense" in it.text]
    assert len(lines) == 1
    assert "logits of Gemma2ForCausalLM are not hidden states times" in lines[0]
    make_runs_as = tmp_path / "runs/seed1"
    shutil.copytree(make_runs_as, tmp_path / "runs/seed3")
    score_unset(tmp_path)  # a late seed joins
    assert len(kept(open_study(tmp_path / "study.zarr"))) == 3


def test_a_store_that_is_dense_stays_so(tmp_path: Path) -> None:
    """As those are that were made when dense was the default."""
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    assert run(["run", str(write_study(tmp_path))]) == 0
    make_runs(tmp_path, seeds=("3",), steps=(5,))
    score_unset(tmp_path)
    study = open_study(tmp_path / "study.zarr")
    assert kept(study) == {(seed, 5): "dense" for seed in ("1", "2", "3")}
    assert study.ledger("m").reduced == {5: {"1", "2", "3"}}
