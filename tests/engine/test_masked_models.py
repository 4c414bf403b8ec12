"""Masked language models against transformers in float64, one window and one token at a time."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from seedconv_tui.cli.main import run
from store import Study, open_study
from store.schema import DIVERGENCES
from tests.support.masked_models import MODELS, SPECIAL, make_masked_runs
from tests.support.pair_formulas import FORMULAS
from tests.support.tiny_models import make_runs, write_study

TOKENS = 90


def score(folder: Path, **settings: Any) -> Study:
    file = write_study(
        folder, **({"log_probs__representation": "none", "corpus__max_tokens": TOKENS} | settings)
    )
    assert run(["run", str(file)]) == 0
    return open_study(file.parent / settings.get("study__store", "study.zarr"))


def reference_log_probs(
    folder: Path, seed: str, *, windowing: str, pseudo: bool, window: int, **options: Any
) -> tuple[NDArray[np.float64], list[int]]:
    """(token, vocab) float64 log-probs and the targets; no engine code, no padding, no batches."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer")
    checkpoint = folder / f"runs/seed{seed}/step5"
    model: Any = transformers.AutoModelForMaskedLM.from_pretrained(
        checkpoint, dtype=torch.float64, **options
    )
    model.eval()

    @functools.lru_cache(maxsize=4)  # nothing is masked for a visible token: its window is the same
    def alone(ids: tuple[int, ...]) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = model(torch.tensor([ids])).logits[0]
        return logits

    text = (folder / "text.txt").read_text(encoding="utf-8")
    documents, left = [], TOKENS
    for part in text.split("\n"):
        ids = tokenizer.encode(part, add_special_tokens=False)[:left]
        left -= len(ids)
        if ids:
            documents.append([tokenizer.cls_token_id, *ids, tokenizer.sep_token_id])
    sequences = [list(itertools.chain(*documents))] if windowing == "stream" else documents
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    rows, targets = [], []
    for sequence in sequences:
        n, stride = len(sequence), window - min(16, window // 2)
        starts = [
            start for start in range(0, n, stride) if start == 0 or start + window - stride < n
        ]
        for place, target in enumerate(sequence):
            if target in special:
                continue

            def nearest_edge(start: int, place: int = place, n: int = n) -> float:
                """Tokens to the nearer edge of a window that is no edge of the sequence."""
                left = place - start if start else np.inf
                right = start + window - 1 - place if start + window < n else np.inf
                return min(left, right)

            start = max((s for s in starts if s <= place < s + window), key=nearest_edge)
            ids = sequence[start : start + window]
            if pseudo:
                ids[place - start] = tokenizer.mask_token_id
            logits = alone(tuple(ids))[place - start]
            rows.append(logits[: len(tokenizer)].log_softmax(-1).numpy())
            targets.append(target)
    return np.array(rows), targets


@pytest.mark.parametrize("prediction", ["visible", "pseudo"])
@pytest.mark.parametrize(
    ("name", "windowing"), [("bert", "document"), *((name, "stream") for name in MODELS)]
)
def test_scores_are_those_of_transformers_in_float64(
    tmp_path: Path, name: str, windowing: str, prediction: str
) -> None:
    make_masked_runs(tmp_path, name)
    study = score(
        tmp_path,
        scoring__prediction=prediction,
        scoring__windowing=windowing,
        scoring__divergences=list(DIVERGENCES),
    )
    window = MODELS[name][2]
    exact, targets = {}, [0]
    for seed in ("1", "2"):
        exact[seed], targets = reference_log_probs(
            tmp_path, seed, windowing=windowing, pseudo=prediction == "pseudo", window=window
        )
    assert study.corpus.token_id.tolist() == targets
    assert study.n_tokens == TOKENS
    assert study.ledger("m").scored["1", 5]["window"] == window
    data = study.dataset("m").sel(step=5).load()
    for i, j in (("1", "2"), ("2", "1")):
        surprisal = -exact[i][range(TOKENS), targets]
        np.testing.assert_allclose(data.surprisal.sel(seed=i), surprisal, rtol=1e-4, atol=1e-5)
        for divergence in DIVERGENCES:
            of_pair = FORMULAS[divergence](exact[i], exact[j])
            assert of_pair.mean() > 1e-4  # else nothing is compared
            error = np.abs(data[divergence].sel(seed=i, other_seed=j).to_numpy() - of_pair)
            assert (error <= 2e-6 + 1e-4 * of_pair).all(), divergence
    assert (data.noise_floor < 1e-9).all()


STRANGE = """
from transformers import BertForMaskedLM

class Strange(BertForMaskedLM):
    def forward(self, input_ids=None, attention_mask=None):
        output = super().forward(input_ids=input_ids, attention_mask=attention_mask)
        output.logits = output.logits + 0.3 * output.logits.roll(1, -1).square()
        return output
"""


def make_strange(checkpoint: Path, code: str) -> None:
    """Give a checkpoint a class of its own."""
    (checkpoint / "modeling_strange.py").write_text(code)
    config = json.loads((checkpoint / "config.json").read_text())
    config["auto_map"] = {"AutoModelForMaskedLM": "modeling_strange.Strange"}
    (checkpoint / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("prediction", ["visible", "pseudo"])
def test_logits_that_are_no_product_are_scored_as_the_model_makes_them(
    tmp_path: Path, prediction: str
) -> None:
    make_masked_runs(tmp_path, "bert")
    for seed in ("1", "2"):
        make_strange(tmp_path / f"runs/seed{seed}/step5", STRANGE)
    study = score(
        tmp_path,
        scoring__prediction=prediction,
        scoring__windowing="document",
        models__trust_remote_code=True,
    )
    exact, targets = reference_log_probs(
        tmp_path,
        "1",
        windowing="document",
        pseudo=prediction == "pseudo",
        window=32,
        trust_remote_code=True,
    )
    surprisal = study.dataset("m").surprisal.sel(step=5, seed="1")
    np.testing.assert_allclose(surprisal, -exact[range(TOKENS), targets], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prediction", ["visible", "pseudo"])
def test_windows_go_alone_where_their_number_changes_predictions(
    tmp_path: Path, prediction: str
) -> None:
    """What a model says depends on how many windows it gets at once, here far more than it may."""
    make_masked_runs(tmp_path, "bert")
    noisy = STRANGE.replace("0.3 *", "0.01 * len(input_ids) *")
    for seed in ("1", "2"):
        make_strange(tmp_path / f"runs/seed{seed}/step5", noisy)
    found = {}
    for batch_tokens in (8192, 32):  # room for many windows, and for one
        study = score(
            tmp_path,
            study__store=f"{batch_tokens}.zarr",
            scoring__prediction=prediction,
            scoring__batch_tokens=batch_tokens,
            models__trust_remote_code=True,
        )
        found[batch_tokens] = study.dataset("m").load()
    np.testing.assert_array_equal(found[8192].surprisal, found[32].surprisal)
    assert (found[8192].noise_floor < 1e-9).all()  # every window is known to go alone
    assert (found[32].noise_floor > 1e-6).all()


@pytest.mark.parametrize("name", ["fnet, without attention mask", "convbert, sees padding"])
def test_documents_of_many_lengths_are_not_mixed_with_padding(tmp_path: Path, name: str) -> None:
    make_masked_runs(tmp_path, name)
    study = score(tmp_path, scoring__prediction="visible", scoring__windowing="document")
    exact, targets = reference_log_probs(
        tmp_path, "1", windowing="document", pseudo=False, window=32
    )
    surprisal = study.dataset("m").surprisal.sel(step=5, seed="1")
    np.testing.assert_allclose(surprisal, -exact[range(TOKENS), targets], rtol=1e-4, atol=1e-5)


def test_a_masked_study_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dense, factored and not kept agree; batches do not matter; the corpus is text alone."""
    make_masked_runs(tmp_path, "bert")
    visible = {"scoring__prediction": "visible"}
    studies = {
        kind: score(
            tmp_path, log_probs__representation=kind, study__store=f"{kind}.zarr", **visible
        )
        for kind in ("dense", "factored", "none")
    }
    dense, factored, none = (study.dataset("m").load() for study in studies.values())
    for name in ("surprisal", "entropy", "top_id", "top_log_prob", "cross_entropy"):
        np.testing.assert_array_equal(factored[name], dense[name])
        np.testing.assert_array_equal(none[name], dense[name])
    np.testing.assert_allclose(none.kl, factored.kl, rtol=1e-4, atol=2e-6)
    error = np.abs(dense.expected_kl - none.expected_kl)
    assert (error <= dense.storage_floor.max()).all()
    kept = studies["factored"].log_probs("m", "1", 5)[:]
    targets = studies["factored"].corpus.token_id
    np.testing.assert_allclose(
        -kept[range(TOKENS), targets], factored.surprisal.sel(step=5, seed="1"), rtol=1e-5
    )
    corpus = studies["none"].corpus
    specials = set(range(len(SPECIAL)))
    assert not specials & set(corpus.token_id.tolist())
    assert corpus.context_id[0] == list(SPECIAL).index("cls")
    words = [corpus.token_text(n) for n in range(4)]
    assert "".join(words) == "Theseedsofa"[: len("".join(words))]
    small = {"scoring__batch_tokens": 1}
    other = score(tmp_path, study__store="small.zarr", **visible, **small).dataset("m").load()
    np.testing.assert_allclose(other.kl, none.kl, rtol=1e-4, atol=2e-6)
    capsys.readouterr()
    pseudo = write_study(
        tmp_path,
        study__store="none.zarr",
        scoring__prediction="pseudo",
        corpus__max_tokens=TOKENS,
    )
    assert run(["run", str(pseudo)]) == 2
    error_text = capsys.readouterr().err
    assert "scoring.prediction is 'visible' there and 'pseudo' in the study file" in error_text


def test_old_names_of_weights(tmp_path: Path) -> None:
    """Such checkpoints, and those with a head for sentences, are what MultiBERTs are."""
    make_masked_runs(tmp_path, "bert", seeds=("1", "2", "3"))
    before = score(tmp_path, scoring__prediction="visible").dataset("m").load()
    for seed in "123":
        file = tmp_path / f"runs/seed{seed}/step5/model.safetensors"
        weights = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): tensor
            for name, tensor in load_file(file).items()
        }
        weights["bert.pooler.dense.weight"] = torch.ones(32, 32)
        weights["bert.embeddings.position_ids"] = torch.arange(64)[None]
        weights["cls.seq_relationship.weight"] = torch.ones(2, 32)
        save_file(weights, file, metadata={"format": "pt"})
    after = (
        score(tmp_path, scoring__prediction="visible", study__store="after.zarr")
        .dataset("m")
        .load()
    )
    np.testing.assert_array_equal(after.surprisal, before.surprisal)
    np.testing.assert_array_equal(after.kl, before.kl)


@pytest.mark.parametrize(
    ("masked", "prediction", "message"),
    [
        (True, "causal", 'is a masked language model; set scoring.prediction to "visible" or'),
        (False, "visible", 'is a causal language model; set scoring.prediction to "causal"'),
    ],
)
def test_a_model_of_the_other_kind_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    masked: bool,
    prediction: str,
    message: str,
) -> None:
    if masked:
        make_masked_runs(tmp_path, "bert")
    else:
        make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    file = write_study(tmp_path, scoring__prediction=prediction, corpus__max_tokens=TOKENS)
    assert run(["run", str(file)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if message in line]
    assert len(errors) >= 2
    assert str(tmp_path / "runs/seed1/step5") in errors[0]


def test_pseudo_needs_a_mask_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    assert run(["run", str(write_study(tmp_path, scoring__prediction="pseudo"))]) == 2
    assert "'tokenizer' has no mask token" in capsys.readouterr().err
