"""A study like one of MultiBERTs from end to end: WordPiece, [SEP][CLS], every category, probes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from seedconv_tui.cli.main import run
from store import open_study
from store.analysis import blimp_summary
from store.statistics import pair_mean
from tests.support.masked_models import BERT, PAD, make_word_pieces
from tests.support.tiny_models import TEXT, write_study

SEEDS = ("0", "1", "2")
STEPS = (0, 20_000, 40_000, 60_000, 80_000, 100_000, 120_000)
TOKENS = 120
PAIRS = [("The seeds are trained.", "The seeds is trained."), ("They learn.", "They learns.")]


def make_multiberts(folder: Path) -> None:
    """Runs whose seeds draw near and part again, in folders named as on the Hub."""
    vocab = make_word_pieces(folder / "tokenizer")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    (folder / "pairs").mkdir()
    lines = [
        json.dumps({"sentence_good": good, "sentence_bad": bad, "UID": "agreement"})
        for good, bad in PAIRS
    ]
    (folder / "pairs/agreement.jsonl").write_text("\n".join(lines))

    def bert(seed: int) -> Any:
        torch.manual_seed(seed)
        config = transformers.BertConfig(vocab_size=vocab, pad_token_id=PAD, **BERT)
        return transformers.BertForMaskedLM(config)

    common = bert(99).state_dict()
    for seed in SEEDS:
        own = bert(int(seed)).state_dict()
        for step, share in zip(STEPS, (0.0, 0.3, 0.9, 0.8, 0.6, 0.7, 0.8), strict=True):
            model = bert(99)
            mixed = {name: share * common[name] + (1 - share) * own[name] for name in own}
            model.load_state_dict(mixed)
            model.save_pretrained(folder / f"multiberts-seed_{seed}-step_{step // 1000}k")


# What is the same for both is tested with `pseudo`, and what differs in test_masked_models.
@pytest.mark.parametrize("prediction", [pytest.param("visible", marks=pytest.mark.long), "pseudo"])
def test_a_study_like_that_of_multiberts(
    tmp_path: Path, prediction: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_multiberts(tmp_path)
    file = write_study(
        tmp_path,
        corpus__max_tokens=TOKENS,
        models__source="multiberts-seed_{seed}-step_{step:k}k",
        scoring__prediction=prediction,
        scoring__window=48,
        scoring__overlap=24,
        log_probs__representation="none",
        categories__tagger="rules",
    )
    text = file.read_text().replace('include = ["frequency", "surprisal", "document"]\n', "")
    file.write_text(text + '\n[[probes]]\nname = "blimp"\nkind = "blimp"\nfolder = "pairs"\n')
    assert run(["run", str(file)]) == 0
    study = open_study(tmp_path / "study.zarr")
    known, corpus = study.ledger("m"), study.corpus
    assert sorted(known.reduced) == list(STEPS)
    assert known.phases
    assert study.model_snapshot("m").expected_kl[0] > study.model_snapshot("m").expected_kl[2]

    # Documents stand between [CLS] and [SEP], which are shown and not predicted.
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    assert not special & set(corpus.token_id.tolist())
    first = np.flatnonzero(np.diff(corpus.document, prepend=-1))
    assert len(first) > 1
    assert set(corpus.context_id[first].tolist()) == {tokenizer.cls_token_id}

    # Pieces of words are known by their text, whatever marks them.
    words = study.category("m", "word_position")
    pieces = tokenizer.convert_ids_to_tokens(corpus.token_id.tolist())
    place = [words.labels[level] for level in words.level]
    goes_on = np.array([piece.startswith("##") for piece in pieces])
    assert goes_on.any()
    assert {place[n] for n in np.flatnonzero(goes_on)} <= {"inside", "end"}
    assert {place[n] for n in np.flatnonzero(~goes_on)} <= {"begin", "whole", "none"}

    # Each category's summary is the mean over its tokens of the results by token.
    names = study.categories("m")
    for name in ("frequency", "pos", "word_class", "surprisal", "word_position", "position"):
        assert name in names
        assert name in ("position",) or f"{name}_context" in names
    step = STEPS[3]
    kl = np.zeros((3, 3, TOKENS))
    for i, seed in enumerate(SEEDS):
        for j, other in enumerate(SEEDS):
            if i != j:
                kl[i, j] = study.values("m", "kl", seed, step, other)
    token_kl = pair_mean(kl)
    for name in names:
        category, summary = study.category("m", name), study.summary("m", name)
        at = summary.steps.tolist().index(step)
        for level in range(len(category.labels)):
            inside = category.level == level
            if not inside.any():
                assert np.isnan(summary.expected_kl[at, level])
                continue
            assert summary.expected_kl[at, level] == pytest.approx(
                token_kl[inside].mean(), rel=1e-6
            )
            for row, seed in enumerate(summary.seeds):
                surprisal = study.values("m", "surprisal", seed, step)[inside]
                found = summary.cross_entropy[at, row, level]
                assert found == pytest.approx(surprisal.mean(dtype=np.float64), rel=1e-6)

    checkpoint = tmp_path / f"multiberts-seed_1-step_{step // 1000}k"
    model = transformers.BertForMaskedLM.from_pretrained(checkpoint, dtype=torch.float64).eval()

    # [SEP] [CLS] between documents: the first window, in float64, one token at a time.
    stream: list[int] = []
    for line in TEXT.split("\n"):
        ids = tokenizer.encode(line, add_special_tokens=False)
        stream += [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id] if ids else []
    window, kept = stream[:48], [n for n in range(36) if stream[n] not in special]
    assert [tokenizer.sep_token_id, tokenizer.cls_token_id] in map(list, pairwise(window[:36]))
    surprisal = study.values("m", "surprisal", "1", step)
    for token, place in enumerate(kept):
        shown = list(window)
        if prediction == "pseudo":
            shown[place] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(torch.tensor([shown])).logits[0, place, : len(tokenizer)]
        expected = -float(logits.log_softmax(-1)[window[place]])
        assert surprisal[token] == pytest.approx(expected, rel=1e-5, abs=1e-5)

    # A sentence's pseudo-log-likelihood, in float64, is the sum over its tokens.
    for item, pair in enumerate(PAIRS):
        for variant, sentence in enumerate(pair):
            ids, total = tokenizer.encode(sentence, add_special_tokens=False), 0.0
            for n, target in enumerate(ids):
                shown = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
                if prediction == "pseudo":
                    shown[n + 1] = tokenizer.mask_token_id
                with torch.no_grad():
                    logits = model(torch.tensor([shown])).logits[0, n + 1, : len(tokenizer)]
                total += float(logits.log_softmax(-1)[target])
            value = study.probe_values("m", "blimp", "1", step)[item, variant]
            assert value == pytest.approx(total, rel=1e-5, abs=1e-4)
    blimp = blimp_summary(study, "m", "blimp", step)
    for measure in (blimp.mean_of_kl, blimp.kl_of_means):
        assert all(np.isfinite(part).all() for part in measure)

    capsys.readouterr()
    assert run(["verify", str(tmp_path / "study.zarr")]) == 0
    for what in ("levels", "phases", "extremes"):
        assert run(["export", str(tmp_path / "study.zarr"), "--what", what]) == 0
        assert capsys.readouterr().out.count("\n") > 1
    if prediction == "visible":
        return  # the report is the same
    folder, fewer = tmp_path / "report", ["--format", "png", "--category", "word_class"]
    fewer += ["--without", "tokens", "--without", "between"]
    assert run(["report", str(tmp_path / "study.zarr"), "-o", str(folder), *fewer]) == 0
    for name in ("expected_kl.png", "blimp_blimp.png", "kl_by_word_class.csv", "report.html"):
        assert (folder / name).stat().st_size
    assert "pseudo" in (folder / "captions.md").read_text()
