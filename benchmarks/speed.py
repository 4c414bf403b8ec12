"""`seedconv run` against a script like the paper's, end to end: `python -m benchmarks.speed`.

Both are started from the command line on the same checkpoints and text, with nothing done before,
and their results compared: with one another, and at every 16th token with KL in float64. There are
three ratios: of the whole wall, start-up included; of the wall without it; of the processor time of
all threads, start-up included, which other work on the machine changes least.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.run import Measured, add_options, add_save, checkpoints, measure, report, run_study
from benchmarks.study import MODEL, OVERLAP, REPRESENTATIONS, SEEDS, STEPS, VOCAB, WINDOW, Study
from store import open_study

SAMPLE = 16  # one token in this many is computed in float64
PAIRS = tuple(itertools.permutations(SEEDS, 2))
# Means may differ by so much: float16 has 11 bits, and the script does not renormalise.
TOLERANCE = {"kl": 1e-3, "surprisal": 1e-4, "entropy": 1e-4}


class DisagreementError(Exception):
    """The two computed different numbers, so that comparing their speed means nothing."""


def run_baseline(folder: Path, out: Path, options: argparse.Namespace) -> Measured:
    """The script, its results in `out`."""
    shutil.rmtree(out, ignore_errors=True)
    settings = {
        "seeds": SEEDS,
        "steps": STEPS,
        "tokens": [options.tokens],
        "window": [WINDOW],
        "overlap": [OVERLAP],
        "device": [options.device],
    }
    flags = [[f"--{name}", *map(str, values)] for name, values in settings.items()]
    command = [sys.executable, "-m", "benchmarks.baseline", str(folder), str(out)]
    return measure([*command, *itertools.chain(*flags)])


def baseline_seconds(runs: list[Measured]) -> dict[str, Any]:
    """Wall and parts of the script; medians over the runs."""
    found = []
    for run in runs:
        (parts,) = (event["seconds"] for event in run.events if event["event"] == "ended")
        whole = {"wall": run.seconds, "processor": run.processor_seconds}
        found.append({**whole, "start_up": run.start_up, **parts})
    return {name: round(median(one[name] for one in found), 2) for name in found[0]}


def read_baseline(out: Path) -> dict[str, Any]:
    """The script's means, and KL of every pair (step, pair, token)."""
    with (out / "checkpoints.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    kl = [[np.load(out / f"kl_seed{i}_seed{j}_step{t}.npy") for i, j in PAIRS] for t in STEPS]
    top = [[np.load(out / f"top_id_seed{i}_step{t}.npy") for i in SEEDS] for t in STEPS]
    means = {name: [float(row[name]) for row in rows] for name in ("surprisal", "entropy")}
    return {"kl": np.array(kl, np.float64), "top_id": np.array(top), **means}


def read_ours(store: Path) -> dict[str, Any]:
    """The same of a store."""
    study = open_study(store)

    def values(name: str, seed: int, step: int, other: str | None = None) -> NDArray[Any]:
        return np.asarray(study.values(MODEL, name, str(seed), step, other))

    kl = [[values("kl", i, step, str(j)) for i, j in PAIRS] for step in STEPS]
    top = [[values("top_id", seed, step) for seed in SEEDS] for step in STEPS]
    means = {
        name: [float(values(name, i, t).mean(dtype=np.float64)) for t in STEPS for i in SEEDS]
        for name in ("surprisal", "entropy")
    }
    return {"kl": np.array(kl, np.float64), "top_id": np.array(top), **means}


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Largest differences between the two. Raises DisagreementError when they are too large."""
    found = {
        "kl": np.abs(ours["kl"].mean((1, 2)) - theirs["kl"].mean((1, 2))).max(),
        **{
            name: np.abs(np.subtract(ours[name], theirs[name])).max()
            for name in TOLERANCE
            if name != "kl"
        },
    }
    for name, limit in TOLERANCE.items():
        if not found[name] <= limit:
            raise DisagreementError(
                f"means of {name} differ by {found[name]:.2e}, more than {limit}"
            )
    same = (ours["top_id"] == theirs["top_id"]).mean()
    if same < 0.99:
        raise DisagreementError(f"only {same:.1%} of the top 10 are the same")
    return {f"mean_{name}": float(f"{value:.2e}") for name, value in found.items()} | {
        "top_10_same": round(float(same), 6)
    }


def exact_kl(folder: Path, tokens: int) -> NDArray[np.float64]:
    """KL of every SAMPLE-th token (step, pair, token), in float64 from float32 logits."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from benchmarks.baseline import windows

    transformers.utils.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    text = (folder / "text.txt").read_text(encoding="utf-8")
    ids = torch.tensor([tokenizer.bos_token_id, *tokenizer(text)["input_ids"]])[: tokens + 1]
    result = []
    for step in STEPS:
        log_probs = []
        for seed in SEEDS:
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder / "runs" / f"seed{seed}" / f"step{step}", dtype=torch.float32
            )
            rows = []
            for start, stop, new in windows(len(ids) - 1, WINDOW, OVERLAP):
                sampled = [at - start for at in range(new, stop) if at % SAMPLE == 0]
                with torch.inference_mode():
                    rows.append(model(ids[None, start:stop]).logits[0, sampled].double())
            log_probs.append(torch.cat(rows).log_softmax(-1))
        at = {seed: place for place, seed in enumerate(SEEDS)}
        kl = [
            (log_probs[at[i]].exp() * (log_probs[at[i]] - log_probs[at[j]])).sum(-1)
            for i, j in PAIRS
        ]
        result.append(torch.stack(kl).numpy())
    return np.array(result)


def errors(kl: NDArray[np.float64], exact: NDArray[np.float64]) -> dict[str, float]:
    """Error of KL at the sampled tokens, nats."""
    wrong = kl[:, :, ::SAMPLE] - exact
    found = {
        "expected_kl": np.abs(wrong.mean((1, 2))).max(),
        "token_rms": np.sqrt((wrong**2).mean()),
    }
    return {name: float(f"{value:.2e}") for name, value in found.items()}


def run_all(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds, ratios and differences."""
    out = folder / "baseline"
    studies = {
        kept: Study(folder, options.tokens, kept, options.device) for kept in REPRESENTATIONS
    }
    studies["kl_alone"] = replace(studies["none"], divergences=("kl",))  # no more than the script
    scripts: list[Measured] = []
    runs: dict[str, list[Measured]] = {name: [] for name in studies}
    for _ in range(options.rounds):  # taking turns, so that all meet the same machine
        scripts.append(run_baseline(folder, out, options))
        for name, study in studies.items():
            runs[name].append(run_study(study))
    exact = exact_kl(folder, options.tokens)
    theirs, usual = read_baseline(out), baseline_seconds(scripts)
    result: dict[str, Any] = {
        "tokens": options.tokens,
        "vocabulary": VOCAB,
        "checkpoints": f"{len(SEEDS)} seeds x {len(STEPS)} steps",
        "expected_kl": [round(value, 4) for value in exact.mean((1, 2))],
        "script": {"seconds": usual, "error": errors(theirs["kl"], exact)},
    }
    for name, study in studies.items():
        ours = read_ours(study.store)
        wall = median(run.seconds for run in runs[name])
        work = median(run.work for run in runs[name])
        processor = median(run.processor_seconds for run in runs[name])
        without = (usual["wall"] - usual["start_up"]) / work
        result[name] = {
            "seconds": {
                "wall": round(wall, 2),
                "processor": round(processor, 2),
                "start_up": round(wall - work, 2),
            },
            "times_faster": round(usual["wall"] / wall, 2),
            "times_faster_without_start_up": round(without, 2),
            "times_less_processor": round(usual["processor"] / processor, 2),
            "error": errors(ours["kl"], exact),
            "differs_from_script": compare(ours, theirs),
        }
    return result


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_options(parser, tokens=4660)
    add_save(parser)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; medians are reported")
    options = parser.parse_args()
    with checkpoints(options) as folder:
        result = run_all(folder, options)
    report("speed", result, options)


if __name__ == "__main__":
    main()
