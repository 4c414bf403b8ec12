"""Probes: numbers against float64 loops, what is asked when, and what survives."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from seedconv_tui.cli.main import run
from store import StoreError, open_study
from store.analysis import blimp, blimp_summary, icl, icl_summary
from tests.support.forked_engine import Engines
from tests.support.masked_models import make_masked_runs
from tests.support.probe_studies import LONG, PAIRS, PLACES, probed, results, write_probes
from tests.support.tiny_models import END, TEXT, make_runs, make_tokenizer, write_study

# -- numbers -------------------------------------------------------------------------------------


def reference(
    folder: Path, seed: str, *, prediction: str, bos: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a model says in float64, one sequence and one token at a time: pairs, documents."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer")
    causal = prediction == "causal"
    kind: Any = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForMaskedLM
    model = kind.from_pretrained(folder / f"runs/seed{seed}/step5", dtype=torch.float64).eval()

    def at(ids: list[int], place: int, target: int) -> float:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, place, : len(tokenizer)]
        return float(logits.log_softmax(-1)[target])

    def next_token(before: list[int], target: int) -> float:
        start = [tokenizer.convert_tokens_to_ids(END)] if bos else []
        return at([*start, *before], -1, target)

    def sentence(text: str) -> float:
        ids = tokenizer.encode(text, add_special_tokens=False)
        if causal:
            first = 0 if bos else 1
            return sum(next_token(ids[:n], ids[n]) for n in range(first, len(ids)))
        total = 0.0
        for n, target in enumerate(ids):
            shown = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
            if prediction == "pseudo":
                shown[n + 1] = tokenizer.mask_token_id
            total += at(shown, n + 1, target)
        return total

    pairs = np.array([[sentence(good), sentence(bad)] for _, good, bad in PAIRS])
    documents = np.full((len(LONG), 4), np.nan)
    for row, text in zip(documents, LONG if causal else [], strict=False):
        ids = tokenizer.encode(text, add_special_tokens=False)
        for variant, number in enumerate(PLACES["positions"]):  # the 4th token has 3 before it
            if len(ids) >= number:
                row[variant] = -next_token(ids[: number - 1], ids[number - 1])
        more = PLACES["contexts"][1]
        for variant, context in enumerate(PLACES["contexts"], 2):
            if len(ids) > more:
                row[variant] = -next_token(ids[more - context : more], ids[more])
    return pairs, documents


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("gpt2", {}),
        ("gpt2", {"scoring__batch_tokens": 24, "log_probs__representation": "none"}),
        ("llama", {"tokenizer__bos": "none"}),
        ("bert", {"scoring__prediction": "visible"}),
        ("bert", {"scoring__prediction": "pseudo"}),
        ("convbert, sees padding", {"scoring__prediction": "visible"}),
    ],
)
def test_what_models_say_is_what_a_float64_loop_finds(
    tmp_path: Path, architecture: str, settings: dict[str, Any]
) -> None:
    prediction = settings.get("scoring__prediction", "causal")
    causal = prediction == "causal"
    if causal:
        make_runs(tmp_path, architecture=architecture, seeds=("1", "2"), steps=(5,))
    else:
        make_masked_runs(tmp_path, architecture)
    study = probed(tmp_path, icl=causal, **settings)
    assert study.probes() == (("pairs", "long") if causal else ("pairs",))
    assert study.probe("pairs").labels == tuple(task for task, _, _ in PAIRS)
    assert study.probe("pairs").variants == ("good", "bad")
    bos = settings.get("tokenizer__bos") != "none"
    for seed in ("1", "2"):
        pairs, documents = reference(tmp_path, seed, prediction=prediction, bos=bos)
        found = study.probe_values("m", "pairs", seed, 5)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, pairs, rtol=1e-5, atol=1e-4)
        if causal:
            found = study.probe_values("m", "long", seed, 5)
            np.testing.assert_allclose(found, documents, rtol=1e-5, atol=1e-4)
            assert np.isfinite(found[:2]).all()
            assert np.isnan(found[2, 1:]).any()  # too short for some of it


def test_windows_in_which_nothing_is_asked_are_no_reason_to_score_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a long document the first tokens are context: their window predicts nothing."""
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    probed(tmp_path)
    assert "depend on what is in a batch" not in capsys.readouterr().err


def test_a_sentence_longer_than_the_window_is_read_as_a_document_of_the_corpus_is(
    tmp_path: Path,
) -> None:
    """Windows of 8 tokens, half of which are new."""
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5,))
    study = probed(tmp_path, scoring__window=8, scoring__overlap=4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "runs/seed1/step5", dtype=torch.float64
    ).eval()
    ids = [0, *tokenizer.encode(PAIRS[2][1])]
    assert len(ids) > 12
    total = 0.0
    for n in range(1, len(ids)):
        start = max(0, -(-(n - 8) // 4)) * 4
        with torch.no_grad():
            logits = model(torch.tensor([ids[start:n]])).logits[0, -1, : len(tokenizer)]
        total += float(logits.log_softmax(-1)[ids[n]])
    assert study.probe_values("m", "pairs", "1", 5)[2, 0] == pytest.approx(total, rel=1e-5)
    # A place in a document that the window does not reach is not asked for.
    assert np.isnan(study.probe_values("m", "long", "1", 5)[:, [1, 3]]).all()


def test_learning_in_context_at_the_usual_places(tmp_path: Path) -> None:
    """Tokens 50 and 500, and token 401 given 50 and 400, as a window of 512 can be asked.

    And what the scripts of the paper ask instead.
    """
    vocab = make_tokenizer(tmp_path / "tokenizer").get_vocab_size()
    (tmp_path / "text.txt").write_text(TEXT)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    words = " ".join(TEXT.split())
    texts = [words * 3, words[7:] * 3, (words * 3)[:800]]
    assert 401 <= len(tokenizer.encode(texts[2])) < 500
    for number, text in enumerate(texts):
        (tmp_path / f"long{number}.txt").write_text(text)
    models = {}
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = transformers.GPT2Config(
            vocab_size=vocab, n_embd=16, n_layer=1, n_head=2, n_positions=512,
            initializer_range=0.3, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        models[seed] = transformers.GPT2LMHeadModel(config).eval()
        models[seed].save_pretrained(tmp_path / f"runs/seed{seed}/step5")
        models[seed].double()
    study = write_study(tmp_path, scoring__window=512, scoring__overlap=256)
    with study.open("a") as file:
        for name, preset in (("icl", ""), ("theirs", 'icl = "paper"\n')):
            file.write(
                f'\n[[probes]]\nname = "{name}"\nkind = "icl"\nfiles = ["long*.txt"]\n{preset}'
            )
    assert run(["run", str(study)]) == 0
    opened = open_study(tmp_path / "study.zarr")
    values = np.full((2, 3, 4), np.nan)
    for seed, model in models.items():
        for item, text in enumerate(texts):
            ids = tokenizer.encode(text)
            asked = [(0, 50), (0, 500), (350, 401), (0, 401)]  # what is read from, which token
            for variant, (start, number) in enumerate(asked):
                if len(ids) < number:
                    continue
                with torch.no_grad():
                    logits = model(torch.tensor([[0, *ids[start : number - 1]]])).logits[0, -1]
                log_p = logits[: len(tokenizer)].log_softmax(-1)
                values[seed - 1, item, variant] = -float(log_p[ids[number - 1]])
        found = opened.probe_values("m", "icl", str(seed), 5)
        np.testing.assert_allclose(found, values[seed - 1], rtol=1e-5, atol=1e-4)
        # The paper's: everything is a slice of the text with the end-of-text token in front.
        theirs = opened.probe_values("m", "theirs", str(seed), 5)
        for item, text in enumerate(texts[:2]):
            ids = [0, *tokenizer.encode(text)]
            for variant, (cut, target) in enumerate(
                [(slice(0, 51), 51), (slice(0, 501), 501), (slice(450, 501), 501),
                 (slice(100, 501), 501)]
            ):  # fmt: skip
                with torch.no_grad():
                    log_p = model(torch.tensor([ids[cut]])).logits[0, -1].log_softmax(-1)
                assert theirs[item, variant] == pytest.approx(-float(log_p[ids[target]]), rel=1e-5)
        assert np.isnan(theirs[2, 1:]).all()  # too short
    assert opened.probe("theirs").variants == (
        "loss at 51",
        "loss at 501",
        "loss of 501 with only 51",
        "loss of 501 with only 401",
    )
    assert np.isnan(values).sum() == 2
    variants = ("loss at 50", "loss at 500", "loss with 50", "loss with 400")
    assert opened.probe("icl").variants == variants
    found = icl_summary(opened, "m", "icl", 5)
    for score, (first, second) in enumerate(((0, 1), (2, 3))):
        expected = np.nanmean(values[:, :, second] - values[:, :, first], axis=1)
        np.testing.assert_allclose(found.value[:, score], expected, rtol=1e-4, atol=1e-4)
    assert found.n.tolist() == [2, 3]


def test_pairs_are_read_as_blimp_has_them(tmp_path: Path) -> None:
    """All fields of its files: with a prefix or without, the number of the pair as text or not."""
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5,))
    folder = tmp_path / "blimp/data"
    folder.mkdir(parents=True)
    common = {"simple_LM_method": True, "two_prefix_method": False}
    island = {
        "field": "syntax", "linguistics_term": "island_effects", "UID": "adjunct_island", **common,
        "one_prefix_method": False, "lexically_identical": True,
    }  # fmt: skip
    determiner = {
        "one_prefix_prefix": "They trained these", "one_prefix_word_good": "models",
        "one_prefix_word_bad": "model", "field": "morphology",
        "linguistics_term": "determiner_noun_agreement",
        "UID": "determiner_noun_agreement_1", **common, "one_prefix_method": True,
        "lexically_identical": False,
    }  # fmt: skip
    good, bad = "What did they train before measuring it?", "What did they train it before?"
    (folder / "adjunct_island.jsonl").write_text(
        "".join(
            json.dumps({"sentence_good": good, "sentence_bad": bad, **island, **number}) + "\n"
            for number in ({"pairID": "0"}, {"pairID": "1"}, {"pair_id": 2})
        )
    )
    good, bad = "They trained these models.", "They trained these model."
    (folder / "determiner_noun_agreement_1.jsonl").write_text(
        json.dumps({"sentence_good": good, "sentence_bad": bad, **determiner, "pairID": "0"}) + "\n"
    )
    study = write_study(tmp_path)
    with study.open("a") as file:
        file.write('\n[[probes]]\nname = "b"\nkind = "blimp"\nfolder = "blimp/data"\n')
    assert run(["run", str(study)]) == 0
    opened = open_study(tmp_path / "study.zarr")
    assert opened.probe("b").labels == (*["adjunct_island"] * 3, "determiner_noun_agreement_1")
    found = blimp_summary(opened, "m", "b", 5)
    assert found.tasks == ("all", "adjunct_island", "determiner_noun_agreement_1")
    assert found.terms == ("", "island_effects", "determiner_noun_agreement")


def test_what_pairs_come_to_is_what_loops_find() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(-20, 3, (4, 12, 2))
    values[0, 0] = -600.0, -1.0  # so improbable that 1 - p is 1
    task = np.array([0, 1, 1, 0] * 3)
    found = blimp(values, task, ("a", "b"), ("x", "y"), tuple("1234"))
    assert found.tasks == ("all", "a", "b")
    assert found.terms == ("", "x", "y")
    assert found.n.tolist() == [12, 6, 6]
    p = [[1 / (1 + math.exp(bad - good)) for good, bad in seed] for seed in values]
    kl = np.zeros((4, 4, 3))
    for at, items in enumerate((range(12), np.flatnonzero(task == 0), np.flatnonzero(task == 1))):
        for i in range(4):
            right = [values[i, n, 0] > values[i, n, 1] for n in items]
            assert found.accuracy[i, at] == pytest.approx(sum(right) / len(right))
            assert found.probability[i, at] == pytest.approx(np.mean([p[i][n] for n in items]))
            for j in range(4):
                total = 0.0
                for n in items:
                    odds = [values[s, n, 0] - values[s, n, 1] for s in (i, j)]
                    for sign in (1, -1):  # good, bad
                        log = [-max(-sign * o, 0) - math.log1p(math.exp(-abs(o))) for o in odds]
                        total += math.exp(log[0]) * (log[0] - log[1])
                kl[i, j, at] = total / len(items)
    np.testing.assert_allclose(found.kl, kl, rtol=1e-9, atol=1e-12)
    # The paper's: mean distributions first, then their KL; over all, the mean of the tasks'.
    of_means = np.zeros((4, 4, 3))
    for at in (1, 2):
        mean = [np.mean([p[i][n] for n in np.flatnonzero(task == at - 1)]) for i in range(4)]
        for i in range(4):
            for j in range(4):
                of_means[i, j, at] = mean[i] * math.log(mean[i] / mean[j]) + (
                    1 - mean[i]
                ) * math.log((1 - mean[i]) / (1 - mean[j]))
    of_means[..., 0] = (of_means[..., 1] + of_means[..., 2]) / 2
    np.testing.assert_allclose(found.kl_between_means, of_means, rtol=1e-9, atol=1e-12)
    off = ~np.eye(4, dtype=bool)
    for estimate, pairs in ((found.mean_of_kl, kl), (found.kl_of_means, of_means)):
        np.testing.assert_allclose(estimate.value, pairs[off].mean(axis=0))
        left_out = []
        for seed in range(4):  # the jackknife, by leaving seeds out
            rest = [s for s in range(4) if s != seed]
            part = pairs[np.ix_(rest, rest)]
            left_out.append(part[~np.eye(3, dtype=bool)].mean(axis=0))
        variance = 3 / 4 * ((np.array(left_out) - np.mean(left_out, axis=0)) ** 2).sum(axis=0)
        half = 3.182446305 * np.sqrt(variance)  # Student's t, 3 degrees of freedom
        np.testing.assert_allclose(estimate.high - estimate.value, half, rtol=1e-6)
        low = np.maximum(estimate.value - half, 0)
        np.testing.assert_allclose(estimate.low, low, rtol=1e-6, atol=1e-12)
    assert (found.mean_of_kl.value > 2 * found.kl_of_means.value).all()  # they are two measures


def test_what_long_documents_come_to_is_what_loops_find() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(3, 1, (2, 5, 4)).astype(np.float32)
    values[:, 3, 1] = values[:, 0, 2:] = np.nan
    found = icl(values, ("loss at 50", "loss at 500", "loss with 50", "loss with 400"), ("1", "2"))
    assert found.scores == ("loss at 500 - loss at 50", "loss with 400 - loss with 50")
    assert found.n.tolist() == [4, 4]
    assert found.n_loss.tolist() == [5, 4, 4, 4]
    for seed in range(2):
        for score, documents in enumerate(([0, 1, 2, 4], [1, 2, 3, 4])):
            of = [
                float(values[seed, d, 2 * score + 1]) - float(values[seed, d, 2 * score])
                for d in documents
            ]
            mean = sum(of) / 4
            half = 3.182446305 * math.sqrt(sum((x - mean) ** 2 for x in of) / 3 / 4)
            assert found.value[seed, score] == pytest.approx(mean)
            assert found.low[seed, score] == pytest.approx(mean - half)
            assert found.high[seed, score] == pytest.approx(mean + half)


# -- what survives -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probed")
    make_runs(folder, architecture="gpt2", seeds=("1", "2"), steps=(5, 10))
    probed(folder)
    return folder


def spoil(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


def _altered(old: str, new: str) -> Callable[[Path], None]:
    def alter(file: Path) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return alter


@pytest.mark.parametrize(
    ("file", "damage", "part"),
    [
        ("models/m/probe/pairs/c.1.0.0.0", spoil, "probe"),
        ("models/m/probe/long/c.0.0.0.0", Path.unlink, "probe"),
        ("models/m/loose/probe/long/zarr.json", _altered("float32", "float64"), "metadata"),
        ("models/m/probe/pairs/zarr.json", _altered('"item"', '"thing"'), "metadata"),
        ("models/m/probe/zarr.json", _altered("{}", '{"a": 1}'), "metadata"),
        ("probes/zarr.json", Path.unlink, "probe"),
        ("probes/pairs/zarr.json", _altered('"agreement"', '"disagreement"'), "probe"),
        ("probes/long/c/0", spoil, "probe"),
    ],
)
def test_damage_is_found_and_mended(
    template: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    damage: Callable[[Path], None],
    part: str,
) -> None:
    folder = Path(shutil.copytree(template, tmp_path / "study"))
    store = folder / "study.zarr"
    whole = results(store)
    damage(store / file)
    capsys.readouterr()
    assert run(["verify", str(store), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert {found["part"] for found in report["damage"]} == {part}
    run(["verify", str(store), "--mend"])
    assert run(["run", str(folder / "study.toml")]) == 0
    assert run(["verify", str(store)]) == 0
    assert results(store) == whole


@pytest.mark.parametrize("moments", [3, pytest.param(10, marks=pytest.mark.long)])
def test_killed_engines_leave_nothing_half(
    template: Path, tmp_path: Path, engines: Engines, moments: int
) -> None:
    """While items change and are asked again, and while checkpoints are scored and asked."""
    folder = Path(shutil.copytree(template, tmp_path / "study"))
    store = folder / "study.zarr"
    study = write_study(folder)
    write_probes(folder, study, per_task=1)
    ended = engines.run(study)
    assert ended.code == 0, ended.stderr
    changed, apart = results(store), ended.changes // moments
    for moment in range(2, moments * apart, apart):  # well before the end: heartbeats count, too
        shutil.rmtree(store)
        shutil.copytree(template / "study.zarr", store)
        assert engines.run(study, kill_at_change=moment).killed
        seen = open_study(store)
        for name, keys in seen.ledger("m").probed.items():
            for seed, step in keys:
                assert seen.probe_values("m", name, seed, step).shape == seen.probe(name).shape
        assert engines.run(study).code == 0
        assert results(store) == changed
    assert run(["verify", str(store)]) == 0


# -- wrong input ---------------------------------------------------------------------------------

GOOD = '{"sentence_good": "a b", "sentence_bad": "b a", "UID": "t"}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "t.jsonl: line 2: is not JSON: '{'"),
        ("[1]", "t.jsonl: line 2: should be a JSON object, found '[1]'"),
        ('{"sentence_good": "a b", "UID": "t"}', "line 2: sentence_bad should be text, found 'N"),
        (GOOD.replace('"b a"', '" "'), "line 2: sentence_bad should be text, found ' '"),
        (GOOD.replace("b a", "\\ud800"), r"line 2: sentence_bad should be text, found '\ud800'"),
        (GOOD.replace('"t"', "3"), "line 2: UID should be text, found '3'"),
    ],
)
def test_a_bad_line_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    study = write_study(tmp_path)
    write_probes(tmp_path, study, icl=False)
    (tmp_path / "blimp/t.jsonl").write_text(f"{GOOD}\n{line}\n")
    assert run(["run", str(study)]) == 2
    err = capsys.readouterr().err
    assert "probes.pairs.folder: " in err
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "study.zarr").exists()


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ('kind = "blimp"', 'probe "p": folder: is required where kind = "blimp"'),
        ('kind = "blimp"\nfolder = "none"', "none: there is no such folder"),
        ('kind = "blimp"\nfolder = "runs"', "runs: holds no *.jsonl"),
        ('kind = "blimp"\nfolder = "b"\nfiles = ["a"]', 'files: has no effect with kind = "blimp"'),
        ('kind = "icl"\nfiles = ["none*"]', "'none*': there is no such file"),
        (
            'kind = "icl"\nfiles = ["text.txt"]\npositions = [900, 990]',
            "has 900 tokens, so there is",
        ),
        (
            'kind = "icl"\nfiles = ["text.txt"]\nicl = "paper"\ntoken = 9',
            'token: has no effect with icl = "paper"; leave one out',
        ),
        (
            'kind = "icl"\nfiles = ["text.txt"]\ntoken = 400',
            "token: should be above 400, the longer context",
        ),
        (
            'kind = "icl"\nfiles = ["text.txt"]\ncontexts = [5, 4]',
            "the smaller number and the larg",
        ),
        ('kind = "other"', "kind: should be 'blimp' or 'icl', found 'other'"),
        (
            'kind = "icl"\nfiles = ["text.txt"]\nplaces = 3',
            'probe "p": places: no such field; allowed',
        ),
        (
            'kind = "blimp"\nfolder = "b"\n[[probes]]\nname = "P"\nkind = "blimp"\nfolder = "c"',
            "probes: two are named p; names must differ",
        ),
    ],
)
def test_a_probe_that_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], probe: str, message: str
) -> None:
    make_runs(tmp_path, seeds=("1",), steps=(5,))
    study = write_study(tmp_path)
    study.write_text(study.read_text() + f'\n[[probes]]\nname = "p"\n{probe}\n')
    assert run(["run", str(study)]) == 2
    assert message in capsys.readouterr().err


def test_masked_models_have_no_loss_given_what_stands_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path, scoring__prediction="visible")
    write_probes(tmp_path, study)
    assert run(["run", str(study)]) == 2
    assert 'needs scoring.prediction = "causal"' in capsys.readouterr().err


def test_export_has_what_the_summaries_have(
    template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    store = template / "study.zarr"
    assert run(["export", str(store), "--what", "probes", "--format", "json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    study = open_study(store)
    pairs, long = blimp_summary(study, "m", "pairs", 10), icl_summary(study, "m", "long", 10)
    at = [row for row in rows if row["step"] == 10]
    assert len(rows) == 2 * len(at) == 2 * (3 * (2 * 2 + 2) + 2 * (4 + 2))
    of = {(row["seed"], row["label"], row["measure"]): row for row in at}
    assert of["2", "order", "accuracy"]["value"] == pairs.accuracy[1, 2]
    assert of["2", "order", "accuracy"]["n"] == 2
    assert of["1", "all", "probability"]["value"] == pairs.probability[0, 0]
    assert of[None, "agreement", "mean_of_kl"]["value"] == pairs.mean_of_kl.value[1]
    assert of[None, "all", "kl_of_means"]["value"] == pairs.kl_of_means.value[0]
    assert of[None, "agreement", "mean_of_kl"]["low"] is None  # two seeds have no spread
    assert of["2", "loss at 20 - loss at 4", "score"]["high"] == long.high[1, 0]
    assert of["1", "loss with 15", "loss"]["value"] == long.loss[0, 3]
    with pytest.raises(StoreError, match="is of kind 'blimp', not 'icl'"):
        icl_summary(study, "m", "pairs", 10)
